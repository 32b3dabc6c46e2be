// What the whole node agent costs and how fast it is, in each dataplane, against the local control
// plane (a process of its own, over TLS) and a real kernel: User-Mode Linux with one CPU where the
// mode needs modules, else this machine's kernel in a network namespace.
//
//   build/bin/agent_bench [--services 1000 --services 10000] [--dataplane ipvs] [--json FILE]
//
// Every Service has one port and 10 endpoints in one EndpointSlice. For each dataplane and number,
// on a node with nothing in its kernel:
//
// * first sync: from the start of the agent's process to the moment when all Services are written
//   and the agent has read them back; the endpoints in the kernel are counted afterwards by other
//   means and must all be there. CPU and memory are those after it, settled for 3 s.
// * change → kernel: one endpoint becomes not ready, or ready again, each time of another Service.
//   The clock starts when the API server hands the watch event to the agent's TLS connection (its
//   --watch-log) and stops when a reader on the node has seen the change in the kernel and its word
//   has come here. The reader asks for the one virtual server's destinations (ipvs), the number of
//   rules in the table nat (legacy iptables) or the generation of the rules (nft), or connects to
//   the Service and sees which endpoint it came to (userspace), over and over;
//   where the kernel has one CPU it runs only when nothing else wants to, so that what the agent
//   does after its write is in the figure too. So the figure is an upper bound. API server, reader
//   and this program take the machine's same clock (CLOCK_MONOTONIC); the node's clock is not used.
// * CPU a change: of the agent and its child processes, over those single changes; and over changes
//   that come at 10 a second for 20 s, until the last is in the kernel.
// * idle: CPU in 35 s without a change, which has one periodic resync (30 s) in it.
// * memory: resident, after the first sync; in brackets the peak of agent and child processes
//   together until then, looked at each 5 ms.
#include <algorithm>
#include <fstream>
#include <iostream>
#include <optional>
#include <thread>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "bench/agent/api_load.h"
#include "bench/agent/measured_node.h"
#include "kube/pointsman/node_proxy.h"

namespace pointsman::bench {
namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;
namespace fs = std::filesystem;

struct Dataplane {
  const char* name;
  kube::Mode mode;
  e2e::NodeKind node;
  const char* reader;    // MakeKernelReader
  const char* iptables;  // variant; "": the agent chooses
  // A shell command that prints the number of endpoints in the kernel, by other means than the
  // agent's.
  const char* count;
  int single_changes;
};

// A new dataplane is one more line.
constexpr Dataplane kDataplanes[] = {
    {"ipvs", kube::Mode::kIpvs, e2e::NodeKind::kUml, "ipvs", "",
     "grep -c '^  -> [0-9A-F]' /proc/net/ip_vs", 100},
    {"iptables-legacy", kube::Mode::kIptables, e2e::NodeKind::kNetns, "xtables", "legacy",
     "iptables-legacy-save -t nat | grep -c -e '-j DNAT'", 20},
    {"iptables-nft", kube::Mode::kIptables, e2e::NodeKind::kNetns, "nftables", "nft",
     "iptables-nft-save -t nat | grep -c -e '-j DNAT'", 20},
    {"nftables", kube::Mode::kNftables, e2e::NodeKind::kNetns, "nftables", "",
     "nft list map ip pointsman endpoints | grep -o ' : [0-9.]* [.] [0-9]*' | wc -l", 100},
    // The endpoints are in the forwarder; what can be counted is the rules that lead to it, one a
    // Service.
    {"userspace", kube::Mode::kUserspace, e2e::NodeKind::kNetns, "connections", "legacy",
     "echo $((10 * $(iptables-legacy-save -t nat | grep -c -e '-j DNAT')))", 100},
};

constexpr uint32_t kEndpoints = 10;
constexpr auto kSettle = std::chrono::seconds(3);
constexpr auto kIdle = std::chrono::seconds(35);
constexpr int kRate = 10;  // changes a second
constexpr const char* kAgentUser = "system:serviceaccount:pointsman-system:pointsman-node-agent";

struct Options {
  std::vector<uint32_t> services{1000, 5000, 10000};
  std::vector<std::string> dataplanes;
  std::string json;
  fs::path dir;
  int rate_seconds = 20;
  int timeout_seconds = 600;
  bool idle = true;
};

struct Result {
  const Dataplane* dataplane = nullptr;
  uint32_t services = 0;
  double first_sync = 0;      // seconds
  double first_sync_cpu = 0;  // seconds
  double memory_mb = 0;
  double peak_mb = 0;
  std::vector<double> latencies;  // milliseconds, sorted
  double change_cpu = 0;          // seconds each
  int rate_changes = 0;
  double rate_cpu = 0;             // seconds each
  std::optional<double> idle_cpu;  // seconds; none: not measured
  double end_memory_mb = 0;

  double Percentile(double share) const {
    if (latencies.empty()) return 0;
    const auto last = static_cast<double>(latencies.size() - 1);
    return latencies[static_cast<size_t>(last * share)];
  }
};

void CreateNodeProxy(kube::Client& api, const std::string& node, const Dataplane& dataplane) {
  kube::NodeProxySpec spec;
  spec.configuration = "bench";
  spec.revision = 1;
  spec.settings.mode = dataplane.mode;
  spec.settings.cluster_cidrs = {net::IpPrefix::Parse("10.244.0.0/16").value()};
  kube::Json object = {{"metadata", {{"name", node}}}, {"spec", ToJson(spec)}};
  api.Delete(kube::resources::kNodeProxies, "", node);
  api.Create(kube::resources::kNodeProxies, "", object);
}

void CheckKernel(const e2e::Node& node, const Dataplane& dataplane, uint32_t services) {
  e2e::ExecOptions options;
  options.timeout = std::chrono::seconds(120);
  const std::string text = node.Check({"sh", "-c", dataplane.count}, options);
  if (std::stoul(text) != static_cast<unsigned long>(services) * kEndpoints) {
    throw std::runtime_error(fmt::format("{}: {} endpoints are in the kernel and not {}",
                                         dataplane.name, std::stoul(text), services * kEndpoints));
  }
}

Result Measure(e2e::World& world, ApiLoad& load, const Dataplane& dataplane,
               const Options& options) {
  const std::string name = dataplane.name;
  e2e::Cluster& cluster = world.cluster();
  cluster.KillNode(name);
  cluster.BootNode(name);
  CreateNodeProxy(world.api(), name, dataplane);

  if (dataplane.reader == std::string_view("connections"))
    cluster.node(name).Check({"ip", "route", "add", "local", "11.0.0.0/8", "dev", "lo"});

  Result result;
  result.dataplane = &dataplane;
  result.services = load.services();
  MeasuredNode node(world, name, dataplane.reader, dataplane.node == e2e::NodeKind::kUml,
                    dataplane.iptables,
                    options.dir / fmt::format("{}-{}-agent.log", name, load.services()));
  result.first_sync =
      Seconds(node.AwaitSynced(std::chrono::seconds(options.timeout_seconds))).count();
  std::this_thread::sleep_for(kSettle);
  Usage usage = node.ReadUsage();
  result.first_sync_cpu = usage.cpu_seconds;
  result.memory_mb = usage.resident_mb;
  result.peak_mb = usage.peak_mb;
  CheckKernel(cluster.node(name), dataplane, load.services());

  // Every change of another Service, far from the last one.
  uint32_t turn = 0;
  const auto next = [&] { return turn++ * 7919U % load.services(); };
  double cpu = node.ReadUsage().cpu_seconds;
  for (int i = 0; i < dataplane.single_changes; i += 2) {
    const uint32_t service = next();
    for (int flip = 0; flip < 2; ++flip) {
      ReadinessChange change = load.Plan(service);
      node.Arm(change);
      load.Apply(service, change);
      const Clock::time_point done = node.AwaitDone();
      result.latencies.push_back(std::chrono::duration<double, std::milli>(
                                     done - load.SentAt(change.resource_version, kAgentUser))
                                     .count());
      // Single ones: the agent is done with the last before the next comes.
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
  }
  result.change_cpu = (node.ReadUsage().cpu_seconds - cpu) / dataplane.single_changes;
  std::sort(result.latencies.begin(), result.latencies.end());

  // In pairs, so that every endpoint is ready again in the end.
  result.rate_changes = options.rate_seconds * kRate / 2 * 2;
  cpu = node.ReadUsage().cpu_seconds;
  Clock::time_point when = Clock::now();
  uint32_t service = 0;
  for (int i = 0; i < result.rate_changes; ++i) {
    std::this_thread::sleep_until(when);
    when += std::chrono::milliseconds(1000 / kRate);
    if (i % 2 == 0) service = next();
    ReadinessChange change = load.Plan(service);
    const bool last = i + 1 == result.rate_changes;
    // Not before the kernel has what came before; with iptables that can be seconds.
    if (last) std::this_thread::sleep_for(kSettle);
    if (last) node.Arm(change);
    load.Apply(service, change);
    if (last) node.AwaitDone();
  }
  result.rate_cpu = (node.ReadUsage().cpu_seconds - cpu) / result.rate_changes;

  if (options.idle) {
    cpu = node.ReadUsage().cpu_seconds;
    std::this_thread::sleep_for(kIdle);
    result.idle_cpu = node.ReadUsage().cpu_seconds - cpu;
  }
  result.end_memory_mb = node.ReadUsage().resident_mb;
  CheckKernel(cluster.node(name), dataplane, load.services());
  return result;
}

std::string Row(const Result& r) {
  return fmt::format(
      "{:<16} {:>6}  {:>8.2f} s {:>7.2f} s  {:>5.0f} MB ({:>3.0f})  {:>8.1f} {:>8.1f} {:>8.1f} ms  "
      "{:>8.2f} ms {:>8.2f} ms  {:>8}  {:>4.0f} MB",
      r.dataplane->name, r.services, r.first_sync, r.first_sync_cpu, r.memory_mb, r.peak_mb,
      r.Percentile(0.5), r.Percentile(0.9), r.Percentile(1), r.change_cpu * 1000, r.rate_cpu * 1000,
      r.idle_cpu ? fmt::format("{:.2f} s", *r.idle_cpu) : "-", r.end_memory_mb);
}

constexpr const char* kHead =
    "                           first sync          memory        one change → kernel           "
    "CPU a change          idle      memory\n"
    "dataplane      Services   time       CPU    after (peak)    median      90%      max        "
    "single    10 a second  35 s CPU  at the end\n";

kube::Json ToJson(const Result& r) {
  return {{"dataplane", r.dataplane->name},
          {"services", r.services},
          {"endpointsPerService", kEndpoints},
          {"firstSyncSeconds", r.first_sync},
          {"firstSyncCpuSeconds", r.first_sync_cpu},
          {"memoryMegabytes", r.memory_mb},
          {"peakMemoryWithChildrenMegabytes", r.peak_mb},
          {"changeToKernelMilliseconds", r.latencies},
          {"cpuSecondsPerSingleChange", r.change_cpu},
          {"changesAtRate", r.rate_changes},
          {"cpuSecondsPerChangeAtRate", r.rate_cpu},
          {"idleCpuSeconds", r.idle_cpu ? kube::Json(*r.idle_cpu) : kube::Json()},
          {"memoryAtEndMegabytes", r.end_memory_mb}};
}

double LoadAverage() {
  std::ifstream file("/proc/loadavg");
  double load = 0;
  file >> load;
  return load;
}

void Run(const Options& options) {
  std::vector<const Dataplane*> dataplanes;
  for (const Dataplane& dataplane : kDataplanes) {
    const auto& asked = options.dataplanes;
    if (asked.empty() || std::find(asked.begin(), asked.end(), dataplane.name) != asked.end())
      dataplanes.push_back(&dataplane);
  }
  e2e::WorldOptions world_options;
  world_options.dir = options.dir;
  world_options.source_dir = POINTSMAN_SOURCE_DIR;
  world_options.control_plane_args = {"--watch-log", options.dir / "watch.log"};
  for (const Dataplane* dataplane : dataplanes) {
    e2e::NodeOptions node;
    node.name = dataplane->name;
    node.kind = dataplane->node;
    node.host_cpu = 0;
    node.memory_mb = 1024;
    world_options.nodes.push_back(node);
  }
  if (const std::string missing = e2e::MissingForACluster(world_options.nodes); !missing.empty())
    throw std::runtime_error(missing);
  e2e::World world(world_options);
  world.Start();
  ApiLoad load(world.api(), options.dir / "watch.log", kEndpoints);

  std::vector<uint32_t> sizes = options.services;
  std::sort(sizes.begin(), sizes.end());
  std::vector<Result> results;
  kube::Json json = kube::Json::array();
  for (const uint32_t size : sizes) {
    const Clock::time_point begin = Clock::now();
    load.Grow(size);
    std::cerr << fmt::format("{} Services with {} endpoints are in the API server ({:.1f} s)\n",
                             size, size * kEndpoints, Seconds(Clock::now() - begin).count());
    for (const Dataplane* dataplane : dataplanes) {
      const double load_before = LoadAverage();
      results.push_back(Measure(world, load, *dataplane, options));
      kube::Json object = ToJson(results.back());
      object["loadAverageBefore"] = load_before;
      json.push_back(std::move(object));
      std::cerr << Row(results.back()) << fmt::format("  load {:.1f}\n", load_before);
    }
  }
  std::stable_sort(results.begin(), results.end(), [](const Result& a, const Result& b) {
    return a.dataplane < b.dataplane;  // in the list's order
  });
  std::cout << kHead;
  for (const Result& result : results)
    std::cout << Row(result) << "\n";
  if (options.json.empty()) return;
  std::ofstream file(options.json);
  file << json.dump(1) << "\n";
  file.close();
  if (!file) throw std::runtime_error("cannot write " + options.json);
}

}  // namespace
}  // namespace pointsman::bench

int main(int argc, char** argv) {
  using namespace pointsman::bench;  // NOLINT(google-build-using-namespace)
  CLI::App app{"Measures the whole node agent in each dataplane. Needs root."};
  Options options;
  std::string dir;
  app.add_option("--services", options.services, "numbers of Services")->capture_default_str();
  std::set<std::string> names;
  for (const Dataplane& dataplane : kDataplanes)
    names.insert(dataplane.name);
  app.add_option("--dataplane", options.dataplanes, "only these")->check(CLI::IsMember(names));
  app.add_option("--json", options.json,
                 "also write the results, with every latency, to this file");
  app.add_option("--dir", dir, "logs; default: a new folder below the system's temporary one");
  app.add_option("--rate-seconds", options.rate_seconds, "how long 10 changes a second are made")
      ->check(CLI::Range(1, 3600));
  app.add_option("--timeout", options.timeout_seconds, "seconds that a first sync may take");
  app.add_flag("!--no-idle", options.idle, "leave out the 35 s without a change");
  CLI11_PARSE(app, argc, argv);
  try {
    options.dir = dir.empty() ? fs::temp_directory_path() / fmt::format("agent_bench.{}", getpid())
                              : fs::absolute(dir).lexically_normal();
    if (fs::exists(options.dir) && !fs::is_empty(options.dir))
      throw std::runtime_error(options.dir.string() + " is not empty");
    Run(options);
  } catch (const std::exception& error) {
    std::cerr << "agent_bench: " << error.what() << "\n";
    return 1;
  }
  return 0;
}

// What the operator costs in a large cluster: memory when it takes the lead, how often it writes,
// how long it takes to decide, CPU of a whole rollout.
//
//   build/bin/operator_bench [--nodes 5000] [--max-unavailable 10%] [--keep]
//
// The local control plane is a process of its own, and so is the operator; the nodes are simulated
// by this program (simulated_nodes.h). Three acts: a first rollout, in which all NodeProxies are
// made; the operator is killed, and another takes the lead of all that there is; a second rollout,
// to another mode, by this one.
//
// * memory: VmHWM of the operator's process since its start, in each act.
// * ProxyConfiguration writes: each new resourceVersion that a watch shows but for this program's
// own;
//   the most that came within any second.
// * plan step: pointsman_operator_plan_duration_seconds; the longest is known by its bucket.
// * CPU: user and system time of the operator's process in the act.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <mutex>
#include <sstream>

#include <CLI/CLI.hpp>
#include <unistd.h>

#include "bench/operator/simulated_nodes.h"
#include "e2e/testbed/process.h"
#include "kube/config/config.h"
#include "kube/http/transport.h"

namespace pointsman::bench {
namespace {

using kube::Json;
using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;
namespace fs = std::filesystem;
using namespace std::chrono_literals;

constexpr const char* kMetricsAddress = "127.0.0.1:18350";

struct Options {
  int nodes = 5000;
  int writers = 4;
  std::string max_unavailable = "10%";
  std::string program;  // the operator's; "": the one beside this program
  bool keep = false;
};

std::string Program(const char* name) {
  return fs::read_symlink("/proc/self/exe").parent_path() / name;
}

std::string ReadFile(const fs::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

void Await(const std::string& what, std::chrono::seconds timeout,
           const std::function<bool()>& holds) {
  const auto deadline = Clock::now() + timeout;
  while (!holds()) {
    if (Clock::now() > deadline) throw std::runtime_error("after a long time still not: " + what);
    std::this_thread::sleep_for(50ms);
  }
}

// Of a running process.
long PeakKilobytes(pid_t pid) {
  std::istringstream lines(ReadFile("/proc/" + std::to_string(pid) + "/status"));
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("VmHWM:")) return std::stol(line.substr(6));
  }
  throw std::runtime_error("the operator has ended; see its log");
}
double CpuSeconds(pid_t pid) {
  const std::string stat = ReadFile("/proc/" + std::to_string(pid) + "/stat");
  std::istringstream fields(stat.substr(stat.rfind(')') + 2));
  std::string skipped;
  for (int i = 0; i < 11; ++i)
    fields >> skipped;
  long user = 0;
  long system = 0;
  fields >> user >> system;
  return static_cast<double>(user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

// The operator's metrics, by name with labels.
std::map<std::string, double> Metrics() {
  const e2e::RunResult result = e2e::Run(
      {.argv = {"curl", "-s", "-m", "5", std::string("http://") + kMetricsAddress + "/metrics"}});
  std::map<std::string, double> values;
  std::istringstream lines(result.out);
  for (std::string line; std::getline(lines, line);) {
    const size_t space = line.rfind(' ');
    if (line.empty() || line[0] == '#' || space == std::string::npos) continue;
    values[line.substr(0, space)] = std::atof(line.c_str() + space + 1);
  }
  return values;
}

// When ProxyConfigurations were written.
class ConfigurationWrites {
 public:
  explicit ConfigurationWrites(kube::Client& client)
      : informer_(kube::MakeJsonInformer(client, kube::resources::kProxyConfigurations)) {
    informer_->AddHandler([this](const auto& before, const auto& after) {
      if (!before || !after) return;
      // Of the specification, that is this program's.
      if ((*before)["metadata"]["generation"] != (*after)["metadata"]["generation"]) return;
      const std::lock_guard lock(mutex_);
      times_.push_back(Clock::now());
    });
    informer_->Start();
  }
  // Since the last call: how many, and the most within a second.
  std::pair<size_t, size_t> Take() {
    const std::lock_guard lock(mutex_);
    size_t most = 0;
    for (size_t first = 0, last = 0; last < times_.size(); ++last) {
      while (times_[last] - times_[first] >= 950ms)
        ++first;
      most = std::max(most, last - first + 1);
    }
    const size_t count = times_.size();
    times_.clear();
    return {count, most};
  }

 private:
  std::mutex mutex_;
  std::vector<Clock::time_point> times_;
  std::unique_ptr<kube::JsonInformer> informer_;
};

class Bench {
 public:
  explicit Bench(Options options) : options_(std::move(options)) {
    std::string pattern = (fs::temp_directory_path() / "pointsman-operator-bench-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr)
      throw std::system_error(errno, std::generic_category(), "mkdtemp");
    directory_ = pattern;
  }
  ~Bench() {
    nodes_.reset();
    writes_.reset();
    operator_.Kill();
    server_.Kill();
    if (!options_.keep) fs::remove_all(directory_);
  }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  void Run() {
    StartServer();
    writes_ = std::make_unique<ConfigurationWrites>(*client_);
    nodes_ = std::make_unique<SimulatedNodes>(*client_, options_.writers);
    StartOperator();
    std::printf("%-16s %8s %10s %8s %22s %26s %10s\n", "act", "seconds", "peak MB", "CPU s",
                "configuration writes", "plan steps: mean, longest", "reports");
    Act("first rollout", [&] { RollOut("ipvs"); });
    const std::string one = Proxies();
    operator_.Kill();
    StartOperator();
    Act("taking the lead", [&] {
      Await("the operator leads and has planned", 120s, [] {
        const auto metrics = Metrics();
        const auto passes = metrics.find("pointsman_operator_plan_duration_seconds_count");
        return passes != metrics.end() && passes->second >= 1;
      });
    });
    Act("second rollout", [&] { RollOut("iptables"); });
    std::printf("%d nodes; a NodeProxy has %zu bytes of JSON, of them managed fields %zu\n",
                options_.nodes, one.size(),
                Json::parse(one)["metadata"]["managedFields"].dump().size());
  }

 private:
  std::string File(const char* name) const { return directory_ / name; }

  void StartServer() {
    {
      std::ofstream preload(File("preload"));
      preload << Json{{"apiVersion", "v1"},
                      {"kind", "Namespace"},
                      {"metadata", {{"name", "pointsman-system"}}}}
                     .dump()
              << "\n";
      for (int i = 0; i < options_.nodes; ++i)
        preload << NodeObject(i).dump() << "\n";
    }
    server_ = e2e::Spawn(
        {.argv = {Program("pointsman-control-plane"), "--listen", "127.0.0.1:0", "--pki-dir",
                  File("pki"), "--ready-file", File("ready"), "--preload", File("preload"),
                  "--no-controllers", "--history", "100000", "--log-level", "warning"},
         .log = File("server.log"),
         .pid_ns = sandbox_.pid_ns()});
    Await("the control plane is ready", 600s, [&] { return fs::exists(File("ready")); });
    kubeconfig_ = File("pki/admin.kubeconfig");
    client_ =
        std::make_unique<kube::Client>(kube::MakeTransport(kube::LoadKubeconfig(kubeconfig_)));
    const char* kubectl = std::getenv("POINTSMAN_KUBECTL");  // NOLINT(concurrency-mt-unsafe)
    const auto run = [&](std::vector<std::string> arguments) {
      std::vector<std::string> argv = {kubectl == nullptr ? "kubectl" : kubectl, "--kubeconfig",
                                       kubeconfig_};
      argv.insert(argv.end(), arguments.begin(), arguments.end());
      const e2e::RunResult result =
          e2e::Run({.argv = argv, .env = {{"HOME", directory_.string()}}});
      if (result.exit != 0) throw std::runtime_error(result.out);
    };
    run({"apply", "-k", std::string(POINTSMAN_SOURCE_DIR) + "/crds"});
    run({"wait", "--for=condition=Established", "--timeout=30s",
         "crd/proxyconfigurations.pointsman.io", "crd/nodeproxies.pointsman.io"});
  }

  void StartOperator() {
    operator_ = e2e::Spawn(
        {.argv = {options_.program.empty() ? Program("pointsman-operator") : options_.program,
                  "--kubeconfig", kubeconfig_, "--namespace", "pointsman-system",
                  "--metrics-bind-address", kMetricsAddress, "--health-probe-bind-address", "0"},
         .log = File("operator.log"),
         .pid_ns = sandbox_.pid_ns()});
  }

  void RollOut(const std::string& mode) {
    client_->Patch(kube::resources::kProxyConfigurations, "", "cluster", kube::PatchType::kApply,
                   {{"metadata", {{"name", "cluster"}}},
                    {"spec",
                     {{"mode", mode},
                      {"rollout",
                       {{"canary", {{"nodes", 1}, {"soak", "1s"}}},
                        {"minReady", "0s"},
                        {"maxUnavailable", options_.max_unavailable}}}}}},
                   "", "bench", true);
    Await("the rollout of " + mode + " is complete", 1800s, [&] {
      const Json status = client_->Get(kube::resources::kProxyConfigurations, "", "cluster")
                              .value("status", Json::object());
      return status.value("phase", "") == "Complete" &&
             status["modes"].value(mode, 0) == options_.nodes;
    });
  }

  void Act(const char* name, const std::function<void()>& act) {
    const auto before = Metrics();
    const pid_t pid = operator_.pid();
    const double cpu = CpuSeconds(pid);
    const uint64_t reports = nodes_->Reports();
    writes_->Take();
    const auto start = Clock::now();
    act();
    const Seconds took = Clock::now() - start;
    const auto [writes, most] = writes_->Take();
    const auto after = Metrics();
    const std::string plan = "pointsman_operator_plan_duration_seconds";
    const auto grown = [&](const std::string& key) {
      const auto was = before.find(key);
      return after.at(key) - (was == before.end() ? 0 : was->second);
    };
    const double steps = grown(plan + "_count");
    std::string longest = "> 2 s";
    for (const char* bound : {"2", "0.5", "0.1", "0.05", "0.02", "0.01", "0.005", "0.001"}) {
      if (grown(plan + "_bucket{le=\"" + bound + "\"}") < steps) break;
      longest = std::string("< ") + bound + " s";
    }
    std::printf("%-16s %8.1f %10.1f %8.1f %10zu, most %zu/s %10.0f: %.1f ms, %s %10llu\n", name,
                took.count(), static_cast<double>(PeakKilobytes(pid)) / 1024, CpuSeconds(pid) - cpu,
                writes, most, steps, steps > 0 ? grown(plan + "_sum") / steps * 1000 : 0,
                longest.c_str(), static_cast<unsigned long long>(nodes_->Reports() - reports));
    std::fflush(stdout);
  }

  // One of them, as JSON.
  std::string Proxies() {
    return client_
        ->Get(kube::resources::kNodeProxies, "",
              NodeObject(0)["metadata"]["name"].get<std::string>())
        .dump();
  }

  const Options options_;
  fs::path directory_;
  std::string kubeconfig_;
  // They end with this program, whatever ends it.
  e2e::Sandbox sandbox_{Program("pointsman-node-init")};
  e2e::Process server_;
  e2e::Process operator_;
  std::unique_ptr<kube::Client> client_;
  std::unique_ptr<ConfigurationWrites> writes_;
  std::unique_ptr<SimulatedNodes> nodes_;
};

}  // namespace
}  // namespace pointsman::bench

int main(int argc, char** argv) {
  pointsman::bench::Options options;
  CLI::App app("Measures the operator in a large cluster");
  app.add_option("--nodes", options.nodes, "simulated nodes")->capture_default_str();
  app.add_option("--writers", options.writers, "threads that report for them")
      ->capture_default_str();
  app.add_option("--max-unavailable", options.max_unavailable, "of the rollouts")
      ->capture_default_str();
  app.add_option("--operator", options.program, "another pointsman-operator to measure");
  app.add_flag("--keep", options.keep, "keep the logs");
  CLI11_PARSE(app, argc, argv);
  try {
    pointsman::bench::Bench(options).Run();
  } catch (const std::exception& error) {
    std::cerr << "operator_bench: " << error.what() << "\n";
    return 1;
  }
}

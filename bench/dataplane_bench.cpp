#include "bench/dataplane_bench.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <sys/resource.h>
#include <system_error>

#include <sched.h>

#include "node-agent/testing/model_maker.h"

namespace pointsman::bench {
namespace {

using agent::Backend;
using agent::ServicePortEntry;
using agent::SyncResult;

double Milliseconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
      .count();
}

double Seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

// `who`: RUSAGE_SELF or RUSAGE_CHILDREN, the tools that a dataplane has started and waited for.
rusage Usage(int who) {
  rusage usage{};
  getrusage(who, &usage);
  return usage;
}

double CpuSeconds(int who) {
  const rusage usage = Usage(who);
  return Seconds(usage.ru_utime) + Seconds(usage.ru_stime);
}

// Where CPU time went since it was made.
struct CpuMeter {
  double own = CpuSeconds(RUSAGE_SELF);
  double children = CpuSeconds(RUSAGE_CHILDREN);
  // A tool's time inside the kernel: a table's copy out, its check and its copy in.
  double children_in_kernel = Seconds(Usage(RUSAGE_CHILDREN).ru_stime);

  CpuMeter Passed() const {
    const CpuMeter now;
    return {now.own - own, now.children - children, now.children_in_kernel - children_in_kernel};
  }
  double all() const { return own + children; }
};

// "VmRSS:" or "VmHWM:" of this process.
double MemoryMegabytes(const char* name) {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(name)) return std::stod(line.substr(6)) / 1024;
  }
  throw std::runtime_error(std::string("/proc/self/status has no ") + name);
}

void Check(const SyncResult& result, const char* what) {
  if (result.ok()) return;
  throw std::runtime_error(std::string(what) + ": " + result.problems[0].object + ": " +
                           result.problems[0].message);
}

net::IpAddress Address(net::Family family, uint32_t number) {
  if (family == net::Family::kIPv4) return net::IpAddress::V4(number);
  uint8_t bytes[16] = {0xfd};
  for (unsigned i = 0; i < 4; ++i)
    bytes[15 - i] = static_cast<uint8_t>(number >> 8 * i);
  return net::IpAddress::FromBytes(bytes, sizeof bytes);
}

}  // namespace

ServicePortEntry DataplaneBench::Entry(uint32_t service) const {
  ServicePortEntry entry;
  entry.id.ns = "bench";
  entry.id.name = "service-" + std::to_string(service);
  entry.id.family = family;
  entry.cluster_ip = Address(family, 0x0a600000 + 256 + service);
  entry.port = 80;
  for (uint32_t e = 0; e < endpoints; ++e) {
    entry.internal.backends.push_back(
        {Address(family, 0x0b000000 + service * 16 + e), 8080, e == 0});
  }
  entry.external = entry.internal;
  adapt(entry);
  return entry;
}

ServicePortEntry DataplaneBench::Changed(uint32_t service, uint32_t change) const {
  ServicePortEntry entry = Entry(service);
  std::vector<Backend>& backends = entry.internal.backends;
  backends.back() = {Address(family, 0x0bf00000 + change), 8080, false};
  if (resize && change % 2 == 1) backends.pop_back();
  std::sort(backends.begin(), backends.end());
  entry.external = entry.internal;
  adapt(entry);
  return entry;
}

void DataplaneBench::Measure(uint32_t number) const {
  prepare();
  agent::testing::ModelMaker maker;
  const agent::ServiceModel& model = maker.model;
  for (uint32_t s = 0; s < number; ++s)
    maker.Put(Entry(s));
  maker.model.endpoint_count = size_t{number} * endpoints;
  const double model_mb = MemoryMegabytes("VmRSS:");
  std::unique_ptr<agent::Dataplane> dataplane = make();

  const CpuMeter before_first;
  const double first = Milliseconds([&] { Check(dataplane->FullSync(model), "first sync"); });
  const double first_cpu = before_first.Passed().all();

  std::vector<double> times;
  CpuMeter change_cpu{0, 0, 0};
  for (int i = 0; i < changes; ++i) {
    const uint32_t service = static_cast<uint32_t>(i) * 7919 % number;
    const agent::ModelDelta delta = maker.Put(Changed(service, static_cast<uint32_t>(i)));
    const CpuMeter before;
    times.push_back(Milliseconds([&] { Check(dataplane->Sync(model, delta), "change"); }));
    const CpuMeter passed = before.Passed();
    change_cpu.own += passed.own;
    change_cpu.children += passed.children;
    change_cpu.children_in_kernel += passed.children_in_kernel;
  }
  std::sort(times.begin(), times.end());

  const auto full_sync = [&](const char* what) {
    return Milliseconds([&] {
      const SyncResult result = dataplane->FullSync(model);
      Check(result, what);
      if (result.kernel_writes != 0) {
        throw std::runtime_error(std::string(what) + ": " + std::to_string(result.kernel_writes) +
                                 " objects were written, and nothing had changed");
      }
    });
  };
  const double full = full_sync("full sync");
  const double verify = Milliseconds([&] {
    const agent::VerifyResult verified = dataplane->Verify(model);
    if (!verified.ok()) throw std::runtime_error("verify: " + verified.differences[0].message);
  });
  const double memory = MemoryMegabytes("VmRSS:");
  dataplane = make();
  const double restart = full_sync("restart");
  const double remove = Milliseconds([&] { Check(dataplane->Remove(), "remove"); });

  const double per_change = 1e3 / changes;
  std::printf(
      "%s %6u x %u: first sync %.0f ms (CPU %.2f s); one change: median %.3f ms, 99%% %.3f ms, CPU "
      "%.3f ms",
      name.c_str(), number, endpoints, first, first_cpu, times[times.size() / 2],
      times[times.size() * 99 / 100], change_cpu.all() * per_change);
  if (change_cpu.children > 0) {
    std::printf(" (children %.3f ms, of it %.3f ms in the kernel)",
                change_cpu.children * per_change, change_cpu.children_in_kernel * per_change);
  }
  std::printf(
      "; full sync without changes %.0f ms; verify %.0f ms; restart %.0f ms; remove %.0f ms; "
      "memory %.1f MB (peak %.1f, a child's %.1f), of it the model %.1f MB\n",
      full, verify, restart, remove, memory, MemoryMegabytes("VmHWM:"),
      static_cast<double>(Usage(RUSAGE_CHILDREN).ru_maxrss) / 1024, model_mb);
  std::fflush(stdout);
}

void DataplaneBench::AddOptions(CLI::App& app) {
  app.add_option("--services", services, "Numbers of Services, one run each")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  app.add_option("--endpoints", endpoints, "Endpoints of each")
      ->check(CLI::Range(1, 16))
      ->capture_default_str();
  app.add_option("--changes", changes, "Single changes to time")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
}

int DataplaneBench::Run() const {
  try {
    for (const uint32_t number : services)
      Measure(number);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", name.c_str(), error.what());
    return 1;
  }
  return 0;
}

void EnterNetworkNamespace() {
  if (unshare(CLONE_NEWNET) != 0)
    throw std::system_error(errno, std::generic_category(), "unshare(CLONE_NEWNET)");
}

}  // namespace pointsman::bench

// How long the nftables dataplane takes with a number of Services, on this machine's kernel, each
// size in a network namespace of its own: the first complete sync, one endpoint's change, a restart
// that finds its table intact, reading back, removal, and memory. kube-proxy 1.36 on a machine of
// this size, 10 endpoints each: first sync 0.9, 4.4, 38.4 s, one change 194, 1520, 5170 ms, memory
// 83, 155, 279 MB at 1,000, 5,000, 10,000 Services.
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <string>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <sched.h>

#include "node-agent/nftables/nftables_dataplane.h"

namespace {

using namespace pointsman;         // NOLINT(google-build-using-namespace)
using namespace pointsman::agent;  // NOLINT(google-build-using-namespace)

double Milliseconds(std::chrono::steady_clock::duration d) {
  return std::chrono::duration<double, std::milli>(d).count();
}

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// "VmRSS:" or "VmHWM:" of this process, in MB.
double MemoryMegabytes(const char* name) {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(name)) return std::stod(line.substr(6)) / 1024;
  }
  return 0;
}

void Check(const SyncResult& result, const char* what) {
  if (result.ok()) return;
  throw std::runtime_error(std::string(what) + ": " + result.problems[0].object + ": " +
                           result.problems[0].message);
}

ServicePortEntry MakeEntry(uint32_t service, uint32_t endpoints, bool v6, bool affinity) {
  const auto address = [v6](uint32_t number) {
    if (!v6) return net::IpAddress::V4(number);
    uint8_t bytes[16] = {0xfd};
    for (unsigned i = 0; i < 4; ++i)
      bytes[15 - i] = static_cast<uint8_t>(number >> 8 * i);
    return net::IpAddress::FromBytes(bytes, sizeof bytes);
  };
  ServicePortEntry entry;
  entry.id.ns = "bench";
  entry.id.name = "service-" + std::to_string(service);
  entry.id.family = v6 ? net::Family::kIPv6 : net::Family::kIPv4;
  entry.cluster_ip = address(0x0a600000 + 256 + service);
  entry.port = 80;
  for (uint32_t e = 0; e < endpoints; ++e)
    entry.internal.backends.push_back({address(0x0b000000 + service * 16 + e), 8080, e == 0});
  if (affinity) entry.affinity_timeout = std::chrono::hours(3);
  return entry;
}

struct Options {
  uint32_t services = 1000;
  uint32_t endpoints = 10;
  int changes = 200;
  bool v6 = false;
  bool affinity = false;
  bool old_kernel = false;
  bool resize = false;
};

void Measure(const Options& options) {
  if (unshare(CLONE_NEWNET) != 0)
    throw std::system_error(errno, std::generic_category(), "unshare(CLONE_NEWNET)");
  const kube::ProxySettings settings;
  ServiceModel model;
  for (uint32_t s = 0; s < options.services; ++s) {
    auto entry = std::make_shared<const ServicePortEntry>(
        MakeEntry(s, options.endpoints, options.v6, options.affinity));
    model.entries.emplace(entry->id, entry);
  }
  model.endpoint_count = size_t{options.services} * options.endpoints;
  const double model_mb = MemoryMegabytes("VmRSS:");
  const std::vector<net::Family> families{options.v6 ? net::Family::kIPv6 : net::Family::kIPv4};
  NftablesDataplane dataplane(settings, families, !options.old_kernel);

  double cpu = CpuSeconds();
  auto start = std::chrono::steady_clock::now();
  Check(dataplane.FullSync(model), "first sync");
  const double first = Milliseconds(std::chrono::steady_clock::now() - start);
  const double first_cpu = CpuSeconds() - cpu;

  std::vector<double> times;
  cpu = CpuSeconds();
  for (int i = 0; i < options.changes; ++i) {
    // One endpoint is replaced by another.
    const uint32_t service = static_cast<uint32_t>(i) * 7919 % options.services;
    auto after = std::make_shared<ServicePortEntry>(
        MakeEntry(service, options.endpoints, options.v6, options.affinity));
    ServicePortEntry other = MakeEntry(1000000 + static_cast<uint32_t>(i), 1, options.v6, false);
    after->internal.backends.back() = other.internal.backends[0];
    // Or it goes, in each second change.
    if (options.resize && i % 2 == 1) after->internal.backends.pop_back();
    std::sort(after->internal.backends.begin(), after->internal.backends.end());
    EntryPtr& place = model.entries[after->id];
    ModelDelta delta;
    delta.changes.push_back({place, after});
    place = after;
    start = std::chrono::steady_clock::now();
    Check(dataplane.Sync(model, delta), "change");
    times.push_back(Milliseconds(std::chrono::steady_clock::now() - start));
  }
  const double change_cpu = (CpuSeconds() - cpu) / options.changes;
  std::sort(times.begin(), times.end());

  start = std::chrono::steady_clock::now();
  const SyncResult again = dataplane.FullSync(model);
  Check(again, "full sync");
  const double full = Milliseconds(std::chrono::steady_clock::now() - start);
  start = std::chrono::steady_clock::now();
  const VerifyResult verified = dataplane.Verify(model);
  const double verify = Milliseconds(std::chrono::steady_clock::now() - start);
  if (!verified.ok()) throw std::runtime_error(verified.differences[0].message);
  const double memory = MemoryMegabytes("VmRSS:");

  start = std::chrono::steady_clock::now();
  Check(dataplane.Remove(), "remove");
  const double remove = Milliseconds(std::chrono::steady_clock::now() - start);
  std::printf(
      "%6u x %u: first sync %.0f ms (CPU %.2f s); one change: median %.3f ms, 99%% %.3f ms, CPU "
      "%.3f ms; full sync without changes %.0f ms (%llu writes); verify %.0f ms; remove %.0f ms; "
      "memory %.1f MB (peak %.1f), of it the model %.1f MB\n",
      options.services, options.endpoints, first, first_cpu, times[times.size() / 2],
      times[times.size() * 99 / 100], change_cpu * 1e3, full,
      static_cast<unsigned long long>(again.kernel_writes), verify, remove, memory,
      MemoryMegabytes("VmHWM:"), model_mb);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Times the nftables dataplane on this kernel, in a network namespace of its own"};
  Options options;
  app.add_option("--services", options.services, "Services")->check(CLI::Range(1, 1000000));
  app.add_option("--endpoints", options.endpoints, "Endpoints of each")->check(CLI::Range(1, 16));
  app.add_option("--changes", options.changes, "Single changes to time")
      ->check(CLI::Range(1, 1000000));
  app.add_flag("--ipv6", options.v6, "IPv6 instead of IPv4");
  app.add_flag("--affinity", options.affinity, "Every Service has session affinity");
  app.add_flag("--old-kernel", options.old_kernel, "As on a kernel before 6.13");
  app.add_flag("--resize", options.resize, "Each second change takes an endpoint away");
  CLI11_PARSE(app, argc, argv);
  try {
    Measure(options);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "nftables_bench: %s\n", e.what());
    return 1;
  }
  return 0;
}

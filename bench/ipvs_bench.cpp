// How long the ipvs dataplane takes with a number of Services, on the kernel it runs on.
// It programs that kernel: run it in one of its own, and each number in a fresh one,
//   scripts/run-in-uml.sh -m 1G -t 600 build/bin/ipvs_bench --services 10000
// because IPVS keeps a deleted destination in a list for up to two minutes and walks that list for
// each new one (ip_vs_trash_get_dest): 50,000 just removed make adding 100,000 take a minute.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <string>
#include <sys/resource.h>

#include <CLI/CLI.hpp>

#include "node-agent/ipvs/ipvs_dataplane.h"

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

long ResidentKilobytes() {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("VmRSS:")) return std::stol(line.substr(6));
  }
  return 0;
}

void Check(const SyncResult& result, const char* what) {
  if (result.ok()) return;
  throw std::runtime_error(std::string(what) + ": " + result.problems[0].object + ": " +
                           result.problems[0].message);
}

ServicePortEntry MakeEntry(uint32_t service, uint32_t endpoints, uint32_t with_external_ip) {
  ServicePortEntry entry;
  entry.id.ns = "bench";
  entry.id.name = "service-" + std::to_string(service);
  entry.cluster_ip = net::IpAddress::V4(0x0a600000 + 256 + service);
  entry.port = 80;
  if (service < with_external_ip)
    entry.external_ips = {net::IpAddress::V4(0xcb007100 + service)};  // 203.0.113.0 and on
  for (uint32_t e = 0; e < endpoints; ++e) {
    const Backend backend{net::IpAddress::V4(0x0b000000 + service * 16 + e), 8080, e == 0};
    entry.internal.backends.push_back(backend);
    entry.external.backends.push_back(backend);
  }
  return entry;
}

void Measure(uint32_t services, uint32_t endpoints, int changes, uint32_t with_external_ip) {
  kube::ProxySettings settings;
  settings.mode = kube::Mode::kIpvs;
  IptablesTool tool(net::Family::kIPv4);
  ServiceModel model;
  for (uint32_t s = 0; s < services; ++s) {
    auto entry =
        std::make_shared<const ServicePortEntry>(MakeEntry(s, endpoints, with_external_ip));
    model.entries.emplace(entry->id, entry);
  }
  const long model_kb = ResidentKilobytes();
  IpvsDataplane dataplane(
      settings, [](const std::string&) { return std::string(); }, tool);

  double cpu = CpuSeconds();
  auto start = std::chrono::steady_clock::now();
  Check(dataplane.FullSync(model), "first sync");
  const double first = Milliseconds(std::chrono::steady_clock::now() - start);
  const double first_cpu = CpuSeconds() - cpu;

  std::vector<double> times;
  cpu = CpuSeconds();
  for (int i = 0; i < changes; ++i) {
    // One endpoint is replaced by another.
    const uint32_t service = static_cast<uint32_t>(i) * 7919 % services;
    auto after =
        std::make_shared<ServicePortEntry>(MakeEntry(service, endpoints, with_external_ip));
    after->internal.backends.back() = {net::IpAddress::V4(0x0bf00000 + static_cast<uint32_t>(i)),
                                       8080, false};
    after->external.backends = after->internal.backends;
    EntryPtr& place = model.entries[after->id];
    ModelDelta delta;
    delta.changes.push_back({place, after});
    place = after;
    start = std::chrono::steady_clock::now();
    Check(dataplane.Sync(model, delta), "change");
    times.push_back(Milliseconds(std::chrono::steady_clock::now() - start));
  }
  const double change_cpu = (CpuSeconds() - cpu) / changes;
  std::sort(times.begin(), times.end());

  start = std::chrono::steady_clock::now();
  const SyncResult again = dataplane.FullSync(model);
  Check(again, "full sync");
  const double full = Milliseconds(std::chrono::steady_clock::now() - start);
  start = std::chrono::steady_clock::now();
  const VerifyResult verified = dataplane.Verify(model);
  const double verify = Milliseconds(std::chrono::steady_clock::now() - start);
  if (!verified.ok()) throw std::runtime_error(verified.differences[0].message);
  const long kb = ResidentKilobytes();

  start = std::chrono::steady_clock::now();
  Check(dataplane.Remove(), "remove");
  const double remove = Milliseconds(std::chrono::steady_clock::now() - start);
  std::printf(
      "%6u x %u: first sync %.0f ms (CPU %.2f s); one change: median %.3f ms, 99%% %.3f ms, CPU "
      "%.3f ms; full sync without changes %.0f ms (%llu writes); verify %.0f ms; remove %.0f ms; "
      "memory %.1f MB, of it the model %.1f MB\n",
      services, endpoints, first, first_cpu, times[times.size() / 2],
      times[times.size() * 99 / 100], change_cpu * 1e3, full,
      static_cast<unsigned long long>(again.kernel_writes), verify, remove,
      static_cast<double>(kb) / 1024, static_cast<double>(model_kb) / 1024);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Times the ipvs dataplane on this kernel, which it programs"};
  uint32_t services = 1000;
  uint32_t endpoints = 10;
  int changes = 200;
  app.add_option("--services", services, "Services")->check(CLI::Range(1, 1000000));
  app.add_option("--endpoints", endpoints, "Endpoints of each")->check(CLI::Range(1, 16));
  app.add_option("--changes", changes, "Single changes to time")->check(CLI::Range(1, 1000000));
  uint32_t with_external_ip = 0;
  app.add_option("--external-ips", with_external_ip,
                 "Services that have an external IP too, which costs a rule")
      ->check(CLI::Range(0, 1000000));
  CLI11_PARSE(app, argc, argv);
  try {
    Measure(services, endpoints, changes, with_external_ip);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "ipvs_bench: %s\n", e.what());
    return 1;
  }
  return 0;
}

// Times the iptables dataplane on this machine's kernel, each size in a network namespace of its
// own: the first complete sync, one endpoint's change, a restart that finds its rules intact, and
// what the child processes cost. kube-proxy 1.36 on a machine of this size, 10 endpoints each:
// first sync 0.9, 4.1, 12.0 s and one change 147, 790, 1782 ms at 1,000, 5,000, 10,000 Services.
#include <cerrno>
#include <cstdio>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <sched.h>

#include "node-agent/iptables/base_rules.h"
#include "node-agent/iptables/iptables_dataplane.h"

namespace pointsman::agent {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double Cpu(int who) {
  rusage usage{};
  ::getrusage(who, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

// The tool's time inside the kernel: the table's copy out, its check and its copy in.
double ChildSystem() {
  rusage usage{};
  ::getrusage(RUSAGE_CHILDREN, &usage);
  return static_cast<double>(usage.ru_stime.tv_sec) +
         static_cast<double>(usage.ru_stime.tv_usec) / 1e6;
}

double CpuOfBoth() {
  return Cpu(RUSAGE_SELF) + Cpu(RUSAGE_CHILDREN);
}

double PeakMegabytes(int who) {
  rusage usage{};
  ::getrusage(who, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

EntryPtr MakeEntry(uint32_t number, int endpoints, uint32_t shift) {
  ServicePortEntry entry;
  entry.id = {"bench", "svc-" + std::to_string(number), "http", Protocol::kTcp, net::Family::kIPv4};
  entry.cluster_ip = net::IpAddress::V4(0x0a600000U + 10 + number);  // 10.96.0.10 and on
  entry.port = 80;
  for (int i = 0; i < endpoints; ++i) {
    entry.internal.backends.push_back(
        {net::IpAddress::V4(0x0af40000U + number * 16 + static_cast<uint32_t>(i) + shift), 8080,
         false});
  }
  entry.external = entry.internal;
  return std::make_shared<const ServicePortEntry>(std::move(entry));
}

void Check(const SyncResult& result) {
  if (!result.ok()) throw std::runtime_error(result.problems[0].message);
}

void Measure(uint32_t services, int endpoints, int changes) {
  if (::unshare(CLONE_NEWNET) != 0) {
    throw std::system_error(errno, std::generic_category(), "unshare(CLONE_NEWNET)");
  }
  IptablesTool tool(net::Family::kIPv4);
  kube::ProxySettings settings;
  settings.cluster_cidrs = {net::IpPrefix::Parse("10.244.0.0/16").value()};
  BaseRules(tool, settings.iptables.masquerade_bit).Ensure();
  ServiceModel model;
  for (uint32_t i = 0; i < services; ++i) {
    EntryPtr entry = MakeEntry(i, endpoints, 0);
    model.entries.emplace(entry->id, entry);
  }

  IptablesDataplane dataplane(settings, tool);
  double cpu = CpuOfBoth();
  auto start = Clock::now();
  Check(dataplane.FullSync(model));
  const double first = SecondsSince(start);
  const double first_cpu = CpuOfBoth() - cpu;

  std::vector<double> times;
  cpu = CpuOfBoth();
  const double child_system = ChildSystem();
  const double own_cpu = Cpu(RUSAGE_SELF);
  for (int i = 0; i < changes; ++i) {
    const uint32_t number = static_cast<uint32_t>(i) * 7919 % services;
    EntryPtr after = MakeEntry(number, endpoints, 1);
    EntryPtr& slot = model.entries.at(after->id);
    ModelDelta delta;
    delta.changes.push_back(EntryChange{slot, after});
    slot = after;
    start = Clock::now();
    Check(dataplane.Sync(model, delta));
    times.push_back(SecondsSince(start));
  }
  std::sort(times.begin(), times.end());
  const double change_cpu = (CpuOfBoth() - cpu) / changes;
  const double own_share = (Cpu(RUSAGE_SELF) - own_cpu) / changes;

  const double kernel_share = (ChildSystem() - child_system) / changes;

  IptablesDataplane restarted(settings, tool);
  start = Clock::now();
  SyncResult adopted = restarted.FullSync(model);
  Check(adopted);
  const double adoption = SecondsSince(start);
  if (adopted.kernel_writes != 0) throw std::runtime_error("a restart rewrote intact rules");

  std::printf(
      "%6u x %d  %s: first sync %.2f s (CPU %.2f s), change median %.0f ms max %.0f ms (CPU %.0f "
      "ms, of it %.0f ms in the kernel, agent's own %.2f ms), restart %.2f s, peak memory %.0f MB "
      "+ child %.0f MB\n",
      services, endpoints, std::string(tool.variant()).c_str(), first, first_cpu,
      times[times.size() / 2] * 1000, times.back() * 1000, change_cpu * 1000, kernel_share * 1000,
      own_share * 1000, adoption, PeakMegabytes(RUSAGE_SELF), PeakMegabytes(RUSAGE_CHILDREN));
  std::fflush(stdout);
}

}  // namespace
}  // namespace pointsman::agent

int main(int argc, char** argv) {
  CLI::App app{"Times the iptables dataplane. Needs root."};
  std::vector<uint32_t> sizes{1000, 5000, 10000};
  int endpoints = 10;
  int changes = 15;
  app.add_option("--services", sizes, "numbers of Services")->capture_default_str();
  app.add_option("--endpoints", endpoints, "endpoints of each Service")->capture_default_str();
  app.add_option("--changes", changes, "changes to time")->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  try {
    for (uint32_t services : sizes)
      pointsman::agent::Measure(services, endpoints, changes);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "iptables_bench: %s\n", error.what());
    return 1;
  }
  return 0;
}

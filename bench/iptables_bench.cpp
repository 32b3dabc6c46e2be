// Times the iptables dataplane on this machine's kernel, each size in a network namespace of its
// own; what its child processes cost is told too. kube-proxy 1.36 on a machine of this size, 10
// endpoints each: first sync 0.9, 4.1, 12.0 s and one change 147, 790, 1782 ms at 1,000, 5,000,
// 10,000 Services.
#include "bench/dataplane_bench.h"
#include "node-agent/iptables/iptables_dataplane.h"
#include "node-agent/xtables/base_rules.h"

int main(int argc, char** argv) {
  using namespace pointsman;         // NOLINT(google-build-using-namespace)
  using namespace pointsman::agent;  // NOLINT(google-build-using-namespace)
  CLI::App app{"Times the iptables dataplane in a network namespace of its own. Needs root."};
  bench::DataplaneBench bench{.name = "iptables", .services = {1000, 5000, 10000}, .changes = 15};
  bench.AddOptions(app);
  CLI11_PARSE(app, argc, argv);
  kube::ProxySettings settings;
  settings.cluster_cidrs = {net::IpPrefix::Parse("10.244.0.0/16").value()};
  std::optional<xtables::IptablesTool> tool;
  bench.prepare = [&] {
    bench::EnterNetworkNamespace();
    tool.emplace(net::Family::kIPv4);
    xtables::BaseRules(*tool, settings.iptables.masquerade_bit).Ensure();
  };
  bench.make = [&] { return std::make_unique<IptablesDataplane>(settings, *tool); };
  return bench.Run();
}

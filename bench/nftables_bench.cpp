// How long the nftables dataplane takes with a number of Services, on this machine's kernel, each
// size in a network namespace of its own. kube-proxy 1.36 on a machine of this size, 10 endpoints
// each: first sync 0.9, 4.4, 38.4 s, one change 194, 1520, 5170 ms, memory 83, 155, 279 MB at
// 1,000, 5,000, 10,000 Services.
#include "bench/dataplane_bench.h"
#include "node-agent/nftables/nftables_dataplane.h"

int main(int argc, char** argv) {
  using namespace pointsman;         // NOLINT(google-build-using-namespace)
  using namespace pointsman::agent;  // NOLINT(google-build-using-namespace)
  CLI::App app{"Times the nftables dataplane in a network namespace of its own. Needs root."};
  bench::DataplaneBench bench{.name = "nftables"};
  bool v6 = false;
  bool affinity = false;
  bench.AddOptions(app);
  app.add_flag("--ipv6", v6, "IPv6 instead of IPv4");
  app.add_flag("--affinity", affinity, "Every Service has session affinity");
  app.add_flag("--resize", bench.resize, "Each second change takes an endpoint away");
  CLI11_PARSE(app, argc, argv);
  if (v6) bench.family = net::Family::kIPv6;
  const kube::ProxySettings settings;
  bench.prepare = [] { bench::EnterNetworkNamespace(); };
  bench.make = [&] {
    return std::make_unique<NftablesDataplane>(settings, std::vector{bench.family},
                                               std::vector<xtables::IptablesTool*>{});
  };
  bench.adapt = [&](ServicePortEntry& entry) {
    entry.external = {};  // no external address asks for it
    if (affinity) entry.affinity_timeout = std::chrono::hours(3);
  };
  return bench.Run();
}

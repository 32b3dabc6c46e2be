// How long the ipvs dataplane takes with a number of Services, on the kernel it runs on.
// It programs that kernel: run it in one of its own, and each number in a fresh one,
//   scripts/run-in-uml.sh -m 1G -t 600 build/bin/ipvs_bench --services 10000
// because IPVS keeps a deleted destination in a list for up to two minutes and walks that list for
// each new one (ip_vs_trash_get_dest): 50,000 just removed make adding 100,000 take a minute.
#include "bench/dataplane_bench.h"
#include "node-agent/ipvs/ipvs_dataplane.h"

int main(int argc, char** argv) {
  using namespace pointsman;         // NOLINT(google-build-using-namespace)
  using namespace pointsman::agent;  // NOLINT(google-build-using-namespace)
  CLI::App app{"Times the ipvs dataplane on this kernel, which it programs"};
  bench::DataplaneBench bench{.name = "ipvs"};
  bench.AddOptions(app);
  CLI11_PARSE(app, argc, argv);
  kube::ProxySettings settings;
  settings.mode = kube::Mode::kIpvs;
  std::optional<IptablesTool> tool;
  bench.prepare = [&] { tool.emplace(net::Family::kIPv4); };
  bench.make = [&] {
    return std::make_unique<IpvsDataplane>(
        settings, [](const std::string&) { return std::string(); }, *tool);
  };
  return bench.Run();
}

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
  uint32_t with_external_ip = 0;
  app.add_option("--external-ips", with_external_ip, "Services that have an external IP too")
      ->check(CLI::Range(0, 1000000));
  CLI11_PARSE(app, argc, argv);
  kube::ProxySettings settings;
  settings.mode = kube::Mode::kIpvs;
  std::optional<xtables::IptablesTool> tool;
  bench.prepare = [&] { tool.emplace(net::Family::kIPv4); };
  bench.make = [&] {
    return std::make_unique<IpvsDataplane>(
        settings, [](const std::string&) { return std::string(); }, *tool);
  };
  bench.adapt = [&](ServicePortEntry& entry) {
    const std::string& name = entry.id.name;  // service-N
    const auto number = static_cast<uint32_t>(std::stoul(name.substr(name.rfind('-') + 1)));
    if (number >= with_external_ip) return;
    entry.external_ips = {net::IpAddress::V4(0xcb007100 + number)};  // 203.0.113.0 and on
    entry.external = entry.internal;
  };
  return bench.Run();
}

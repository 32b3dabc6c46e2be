#include <algorithm>
#include <filesystem>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "node-agent/contract/modes.h"
#include "node-agent/ipvs/ipvs_dataplane.h"
#include "node-agent/testing/run_tool.h"

namespace pointsman::agent::testing {
namespace {

class IpvsUnderTest final : public ModeUnderTest {
 public:
  IpvsUnderTest()
      : ModeUnderTest({.loopback_node_ports = false,
                       .needs_route_localnet = false,
                       .affinity_spans_addresses = false,
                       // Templates live as long as the last connection is remembered.
                       .affinity_ends_in_time = false,
                       .datagrams_move_at_once = false,
                       // The other mode's rules come before it.
                       .drained_is_closed = false,
                       // Those to addresses that are translated are conntrack's.
                       .cluster_ip_streams_outlive_removal = false,
                       .random_steps = 30}) {
    LoadModules();
    if (!std::filesystem::exists("/proc/net/ip_vs"))
      throw std::runtime_error("this kernel has no IPVS");
  }

  static void LoadModules() {
    static bool loaded = false;
    if (std::exchange(loaded, true)) return;
    for (const char* module :
         {"ip_vs", "ip_vs_rr", "ip_vs_wrr", "dummy", "ip_set", "ip_set_hash_ip",
          "ip_set_hash_ipport", "ip_set_hash_ipportip", "ip_set_hash_ipportnet",
          "ip_set_hash_netport", "nf_conntrack_netlink", "veth", "ip6table_nat", "ip6table_filter",
          "ip6table_mangle"})
      TryTool({"modprobe", module});
  }

  std::unique_ptr<Dataplane> MakeDataplane(const kube::ProxySettings& settings,
                                           const std::vector<net::Family>& families) override {
    return std::make_unique<IpvsDataplane>(
        settings, [](const std::string&) { return std::string(); }, Tools(families));
  }
  // The kernel lists servers and routes in the order in which they came.
  std::string Kernel() override {
    std::istringstream text(RunTool({"ipvsadm", "-Sn"}) + RunTool({"ipset", "save", "-sorted"}) +
                            RunTool({"ip", "-4", "route", "show", "table", "0"}) +
                            RunTool({"ip", "-6", "route", "show", "table", "local"}));
    std::vector<std::string> lines;
    for (std::string line; std::getline(text, line);) {
      // The kernel makes one up when the device is made.
      if (line.find("fe80::") == std::string::npos) lines.push_back(line + "\n");
    }
    std::sort(lines.begin(), lines.end());
    std::string sorted;
    for (const std::string& line : lines)
      sorted += line;
    return sorted + IptablesRules();
  }
  void AddForeign() override {
    AddForeignIptablesRules();
    RunTool({"ipvsadm", "-A", "-t", "198.51.100.1:99", "-s", "rr"});
    RunTool({"ipvsadm", "-a", "-t", "198.51.100.1:99", "-r", "10.244.0.9:99", "-m"});
    RunTool({"ipset", "create", "OTHERS", "hash:ip"});
  }

  std::vector<Damage> Damages() override {
    const auto run = [](const char* what, std::vector<std::string> argv) {
      return Damage{what, [argv = std::move(argv)] { RunTool(argv); }};
    };
    return {
        run("IPVS is empty", {"ipvsadm", "-C"}),
        run("a server is gone", {"ipvsadm", "-d", "-t", "10.97.0.1:80", "-r", "10.245.0.1:8080"}),
        run("a server's weight is another one",
            {"ipvsadm", "-e", "-t", "10.97.0.1:80", "-r", "10.245.0.1:8080", "-m", "-w", "7"}),
        run("another scheduler", {"ipvsadm", "-E", "-t", "10.97.0.1:80", "-s", "wrr"}),
        run("a set is empty", {"ipset", "flush", "PM-IPVS-VIP-4"}),
        {"an element more",
         [] {
           RunTool({"ipset", "add", "PM-IPVS-CLUSTER-4", "10.97.0.1,tcp:22222"});
         },
         /*counted=*/false},
        run("the device is gone", {"ip", "link", "del", IpvsDataplane::kDevice}),
        run("the device is down", {"ip", "link", "set", IpvsDataplane::kDevice, "down"}),
        run("a chain is empty", {"iptables-legacy", "-F", "POINTSMAN-IPVS-INPUT"}),
        run("the kernel's own chain is empty",
            {"iptables-legacy", "-t", "nat", "-F", "PREROUTING"}),
    };
  }
};

}  // namespace

std::unique_ptr<ModeUnderTest> MakeIpvsUnderTest() {
  return std::make_unique<IpvsUnderTest>();
}

}  // namespace pointsman::agent::testing

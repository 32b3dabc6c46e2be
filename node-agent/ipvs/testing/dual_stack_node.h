// A dataplane that serves both families, for tests that run in each of them.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "node-agent/ipvs/testing/dataplane_fixture.h"

namespace pointsman::agent {

class DualStackNode {
 protected:
  // Without ip_vs itself, which some tests unload.
  static void LoadModules() {
    for (const char* module :
         {"dummy", "ip_set", "ip_set_hash_ip", "ip_set_hash_ipport", "ip_set_hash_ipportip",
          "ip_set_hash_ipportnet", "ip_set_hash_netport", "nf_conntrack_netlink", "veth",
          "ip6table_nat", "ip6table_filter", "ip6table_mangle"})
      RunTool({"modprobe", module});
    ASSERT_TRUE(WriteSysctl("net.ipv6.conf.all.forwarding", "1").ok());
  }

  DualStackNode() {
    settings_.mode = kube::Mode::kIpvs;
    settings_.cluster_cidrs = {net::IpPrefix::Parse("10.244.0.0/16").value(),
                               net::IpPrefix::Parse("fd00:10:244::/64").value()};
    maker_.model.node.node_name = "node";
  }
  void SetUpNode(const net::IpAddress& v4, const net::IpAddress& v6) {
    maker_.model.node.node_port_addresses = {v4, v6};
    for (auto& base : bases_)
      EXPECT_SYNCED(base.Ensure());
    Start();
  }
  void TearDownNode() {
    if (dataplane_ != nullptr) EXPECT_SYNCED(dataplane_->Remove());
    dataplane_.reset();
    for (auto& base : bases_)
      EXPECT_SYNCED(base.Remove());
    TryTool({"conntrack", "-F"});
    TryTool({"conntrack", "-F", "-f", "ipv6"});
  }
  // A new process takes over.
  void Start() {
    dataplane_ = std::make_unique<IpvsDataplane>(
        settings_, [](const std::string&) { return std::string(); }, std::vector{&v4_, &v6_});
  }

  kube::ProxySettings settings_;
  xtables::IptablesTool v4_{net::Family::kIPv4};
  xtables::IptablesTool v6_{net::Family::kIPv6};
  std::array<xtables::BaseRules, 2> bases_{
      xtables::BaseRules(v4_, settings_.iptables.masquerade_bit),
      xtables::BaseRules(v6_, settings_.iptables.masquerade_bit)};
  ModelMaker maker_;
  std::unique_ptr<IpvsDataplane> dataplane_;
};

}  // namespace pointsman::agent

#include "node-agent/model/node_network.h"

#include <gmock/gmock.h>

namespace pointsman::agent {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

net::IpAddress Ip(const std::string& text) {
  return net::IpAddress::Parse(text).value();
}
net::IpPrefix Cidr(const std::string& text) {
  return net::IpPrefix::Parse(text).value();
}

const std::vector<HostAddress> kHost{
    {Ip("127.0.0.1"), 8, "lo"},           {Ip("::1"), 128, "lo"},
    {Ip("192.168.1.5"), 24, "eth0"},      {Ip("10.0.0.5"), 8, "eth1"},
    {Ip("fe80::5"), 64, "eth0"},          {Ip("2001:db8::5"), 64, "eth0"},
    {Ip("169.254.20.10"), 32, "nodedns"}, {Ip("10.96.0.1"), 32, "kube-ipvs-pm"},
    {Ip("10.96.0.1"), 32, "kube-ipvs0"},  {Ip("192.168.1.5"), 32, "eth2"},
};

TEST(ChooseNodeNetwork, AllAddressesByDefault) {
  const NodeNetwork network = ChooseNodeNetwork("n1", kHost, {}, nullptr);
  EXPECT_EQ(network.node_name, "n1");
  EXPECT_THAT(network.node_port_addresses, ElementsAre(Ip("10.0.0.5"), Ip("169.254.20.10"),
                                                       Ip("192.168.1.5"), Ip("2001:db8::5")));
  EXPECT_TRUE(network.localhost_node_ports);
  EXPECT_TRUE(network.every_address);
  EXPECT_THAT(network.source_addresses, IsEmpty()) << "no Node object yet";
}

// kube-proxy's node IP: what answers node ports does not matter.
TEST(ChooseNodeNetwork, SourceRangesKnowTheNodeByItsPrimaryAddresses) {
  kube::ProxySettings settings;
  kube::Node node;
  node.internal_ips = {Ip("192.168.1.5"), Ip("10.0.0.5"), Ip("2001:db8::5")};
  for (const char* cidr : {"10.0.0.0/8", "127.0.0.0/8"}) {
    settings.node_port_addresses = {Cidr(cidr)};
    const NodeNetwork network = ChooseNodeNetwork("n1", kHost, settings, &node);
    EXPECT_THAT(network.source_addresses, ElementsAre(Ip("192.168.1.5"), Ip("2001:db8::5")));
    EXPECT_FALSE(network.every_address);
  }
  settings.node_port_addresses.clear();
  settings.node_port_primary = true;
  EXPECT_FALSE(ChooseNodeNetwork("n1", kHost, settings, &node).every_address);
}

TEST(ChooseNodeNetwork, CidrsCountAFamilyAtATime) {
  // NewNodePortAddresses: without CIDRs of a family, its zero CIDR is added.
  kube::ProxySettings settings;
  settings.node_port_addresses = {Cidr("192.168.0.0/16")};
  NodeNetwork network = ChooseNodeNetwork("n1", kHost, settings, nullptr);
  EXPECT_THAT(network.node_port_addresses, ElementsAre(Ip("192.168.1.5"), Ip("2001:db8::5")));
  EXPECT_FALSE(network.localhost_node_ports);

  settings.node_port_addresses = {Cidr("2001:db8:1::/48")};
  network = ChooseNodeNetwork("n1", kHost, settings, nullptr);
  EXPECT_THAT(network.node_port_addresses,
              ElementsAre(Ip("10.0.0.5"), Ip("169.254.20.10"), Ip("192.168.1.5")));
  EXPECT_TRUE(network.localhost_node_ports);
}

TEST(ChooseNodeNetwork, LocalhostNeedsItsCidr) {
  // ContainsIPv4Loopback.
  kube::ProxySettings settings;
  for (const char* cidr : {"127.0.0.0/8", "127.0.0.1/32", "0.0.0.0/0", "126.0.0.0/7"}) {
    settings.node_port_addresses = {Cidr("10.0.0.0/8"), Cidr(cidr)};
    EXPECT_TRUE(ChooseNodeNetwork("n1", kHost, settings, nullptr).localhost_node_ports) << cidr;
  }
  settings.localhost_node_ports = false;
  EXPECT_FALSE(ChooseNodeNetwork("n1", kHost, settings, nullptr).localhost_node_ports);
}

TEST(ChooseNodeNetwork, TheDnsCachesAddressesWhateverAnswersNodePorts) {
  kube::ProxySettings settings;
  settings.node_port_addresses = {Cidr("192.168.1.0/24")};
  const NodeNetwork network = ChooseNodeNetwork("n1",
                                                {{Ip("192.168.1.5"), 24, "eth0"},
                                                 {Ip("169.254.20.10"), 32, "nodelocaldns"},
                                                 {Ip("fd00:96::a"), 128, "nodelocaldns"},
                                                 {Ip("10.96.0.10"), 32, "nodelocaldns"}},
                                                settings, nullptr);
  EXPECT_THAT(network.dns_cache_addresses, ElementsAre(Ip("10.96.0.10"), Ip("fd00:96::a")));
  EXPECT_THAT(ChooseNodeNetwork("n1", kHost, settings, nullptr).dns_cache_addresses, IsEmpty());
}

TEST(ChooseNodeNetwork, PrimaryTogetherWithOthers) {
  kube::ProxySettings settings;
  settings.node_port_primary = true;
  kube::Node node;
  node.internal_ips = {Ip("192.168.1.5")};
  settings.node_port_addresses = {Cidr("10.0.0.0/8")};
  NodeNetwork network = ChooseNodeNetwork("n1", kHost, settings, &node);
  // Of a family without CIDRs there are only the primary ones: none here.
  EXPECT_THAT(network.node_port_addresses, ElementsAre(Ip("10.0.0.5"), Ip("192.168.1.5")));
  EXPECT_FALSE(network.localhost_node_ports);
  settings.node_port_addresses = {Cidr("127.0.0.0/8"), Cidr("::1/128")};  // "localhost"
  network = ChooseNodeNetwork("n1", kHost, settings, &node);
  EXPECT_THAT(network.node_port_addresses, ElementsAre(Ip("192.168.1.5")));
  EXPECT_TRUE(network.localhost_node_ports);
}

TEST(ChooseNodeNetwork, PrimaryIsTheFirstInternalAddressOfEachFamily) {
  kube::ProxySettings settings;
  settings.node_port_primary = true;
  EXPECT_THAT(ChooseNodeNetwork("n1", kHost, settings, nullptr).node_port_addresses, IsEmpty());
  kube::Node node;
  node.internal_ips = {Ip("192.168.1.5"), Ip("10.0.0.5"), Ip("2001:db8::5"), Ip("2001:db8::6")};
  node.external_ips = {Ip("169.254.20.10")};
  const NodeNetwork network = ChooseNodeNetwork("n1", kHost, settings, &node);
  EXPECT_THAT(network.node_port_addresses, ElementsAre(Ip("192.168.1.5"), Ip("2001:db8::5")));
  EXPECT_FALSE(network.localhost_node_ports);
  node.internal_ips = {Ip("10.9.9.9")};  // no interface has it
  EXPECT_THAT(ChooseNodeNetwork("n1", kHost, settings, &node).node_port_addresses, IsEmpty());
  node.internal_ips.clear();
  EXPECT_THAT(ChooseNodeNetwork("n1", kHost, settings, &node).node_port_addresses,
              ElementsAre(Ip("169.254.20.10")));
}

}  // namespace
}  // namespace pointsman::agent

// Beside chains of type nat in others' tables, with real connections: to an address that is local
// to the node, as a cluster IP is in ipvs mode, and on which a server of this test stands in for
// IPVS.
#include "node-agent/ipvs/nat_guard.h"

#include <filesystem>
#include <fstream>
#include <optional>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include "kube/process/kernel_release.h"
#include "node-agent/ipvs/sets.h"
#include "node-agent/nf_tables/connection.h"
#include "node-agent/testing/dual_stack_network.h"
#include "node-agent/testing/results.h"
#include "node-agent/testing/run_tool.h"

namespace pointsman::agent::ipvs {
namespace {

using testing::Ask;
using testing::DualStackNetwork;
using ::testing::IsEmpty;
using testing::Reply;
using testing::RunTool;

constexpr int kPod = 0;
constexpr int kPublished = 1;

class NatGuardTest : public ::testing::TestWithParam<net::Family> {
 protected:
  void SetUp() override {
    try {
      network_.emplace(2);
    } catch (const std::exception& error) {
      GTEST_SKIP() << "no network of namespaces here: " << error.what();
    }
    network_->node().Enter();
    ipset_.emplace();
    guard_.emplace(*ipset_, 14, "");
    RunTool({"ip", family_flag(), "route", "add", "local", vip(), "dev", "lo"});
    const std::string set = SetName(SetId::kVip, family());
    ASSERT_EQ(ipset_->Create(set, netlink::SetType::kHashIp, family(), 1024), 0);
    AddVip();
  }

  static net::Family family() { return GetParam(); }
  static bool v4() { return family() == net::Family::kIPv4; }
  static const char* family_flag() { return v4() ? "-4" : "-6"; }
  static std::string vip() { return v4() ? "10.96.0.10" : "fd00:96::10"; }
  static std::string node_ip() { return v4() ? "192.168.77.1" : "fd00:77::1"; }

  void AddVip() {
    netlink::Batch batch;
    netlink::Ipset::Add(batch, SetName(SetId::kVip, family()), netlink::SetType::kHashIp,
                        {.ip = net::IpAddress::Parse(vip()).value()});
    ASSERT_THAT(ipset_->Execute(batch), IsEmpty());
  }
  // CNI portmap with nftables (containernetworking/plugins 3d27709, portmap_nftables.go): a host
  // port of pod 1, as "whatever is addressed to the node".
  static void PublishPort8080() {
    const std::string ip = v4() ? "ip" : "ip6";
    const std::string to = DualStackNetwork::PodIp(kPublished, family()).ToString();
    for (const std::string& command :
         {fmt::format("add table {} cni_hostport", ip),
          fmt::format("add chain {} cni_hostport prerouting {{ type nat hook prerouting priority "
                      "dstnat; }}",
                      ip),
          fmt::format("add chain {} cni_hostport output {{ type nat hook output priority -100; }}",
                      ip),
          fmt::format(
              "add rule {} cni_hostport prerouting fib daddr type local tcp dport 8080 dnat "
              "to {}",
              ip, to),
          fmt::format("add rule {} cni_hostport output fib daddr type local tcp dport 8080 dnat to "
                      "{}",
                      ip, to)})
      RunTool({"nft", command});
  }
  // Who answers the cluster IP, from each side.
  std::vector<std::string> Answering() {
    std::vector<std::string> answering;
    for (const testing::NetNamespace* from :
         {&network_->outside(), &network_->pod(kPod), &network_->node()}) {
      const Reply reply = Ask(*from, vip(), 8080);
      answering.push_back(reply.ok() ? reply.server : "nobody");
    }
    return answering;
  }
  static void Expect(const std::vector<std::string>& answering, const std::string& server) {
    EXPECT_THAT(answering, ::testing::Each(server));
  }

  std::optional<DualStackNetwork> network_;
  std::optional<netlink::Ipset> ipset_;  // of the node's namespace
  std::optional<NatGuard> guard_;
};

TEST_P(NatGuardTest, HostPortsInATableOfTheirOwnTakeNothingFromClusterIps) {
  Expect(Answering(), "node");
  PublishPort8080();
  Expect(Answering(), "pod1");  // or this test says nothing

  EXPECT_GT(guard_->Ensure(family()), 0U);
  Expect(Answering(), "node");
  EXPECT_EQ(Ask(network_->outside(), node_ip(), 8080).server, "pod1") << "a host port is theirs";
  EXPECT_EQ(guard_->Ensure(family()), 0U);
  VerifyResult verified;
  guard_->Verify(family(), verified);
  EXPECT_TRUE(verified.ok());

  // A cluster IP that goes, and one that comes.
  RunTool({"ipset", "flush", SetName(SetId::kVip, family())});
  Expect(Answering(), "pod1");
  AddVip();
  Expect(Answering(), "node");

  // Drained: new connections are no longer kept here.
  EXPECT_TRUE(guard_->Remove(family()));
  Expect(Answering(), "pod1");
  EXPECT_FALSE(guard_->Remove(family()));
}

TEST_P(NatGuardTest, IptablesOwnTableIsAnothersWhereOursAreInTheOtherFlavour) {
  RunTool({v4() ? "iptables-nft" : "ip6tables-nft", "-t", "nat", "-A", "PREROUTING", "-p", "tcp",
           "--dport", "8080", "-m", "addrtype", "--dst-type", "LOCAL", "-j", "DNAT",
           "--to-destination", DualStackNetwork::PodIp(kPublished, family()).ToString()});
  EXPECT_EQ(Ask(network_->outside(), vip(), 8080).server, "pod1");
  EXPECT_GT(guard_->Ensure(family()), 0U);
  Expect(Answering(), "node");
}

TEST_P(NatGuardTest, WhatOthersDoToItIsFoundAndMended) {
  PublishPort8080();
  guard_->Ensure(family());
  for (const std::string& damage : {std::string("flush chain {} pointsman-ipvs output"),
                                    std::string("delete table {} pointsman-ipvs"),
                                    std::string("add rule {} pointsman-ipvs prerouting counter")}) {
    SCOPED_TRACE(damage);
    RunTool({"nft", fmt::format(fmt::runtime(damage), v4() ? "ip" : "ip6")});
    VerifyResult verified;
    guard_->Verify(family(), verified);
    EXPECT_EQ(verified.difference_count, 1U);
    EXPECT_GT(guard_->Ensure(family()), 0U);
    Expect(Answering(), "node");
  }
}

// A node that does without nf_tables is not made to load it; what is built in is said below the
// root that the agent was given.
TEST(NatGuardModulesTest, WhatIsBuiltInIsLookedUpBelowTheModulesRoot) {
  if (::access("/sys/module/nf_tables", F_OK) == 0 || ::access("/proc/modules", F_OK) != 0)
    GTEST_SKIP() << "here no list is asked";
  const auto root = [](const std::string& name, const std::string& text) {
    const std::filesystem::path path = std::filesystem::path(::testing::TempDir()) / name;
    const auto folder = path / "lib/modules" / kube::KernelRelease();
    std::filesystem::create_directories(folder);
    std::ofstream(folder / "modules.builtin") << text;
    return path.string();
  };
  EXPECT_FALSE(NatGuard::MayHaveTables(root("without", "kernel/net/ipv4/ip_tables.ko\n")));
  EXPECT_TRUE(NatGuard::MayHaveTables(root("with", "kernel/net/netfilter/nf_tables.ko\n")));
}

INSTANTIATE_TEST_SUITE_P(, NatGuardTest, ::testing::Values(net::Family::kIPv4, net::Family::kIPv6),
                         [](const auto& tried) { return std::string(net::ToString(tried.param)); });

}  // namespace
}  // namespace pointsman::agent::ipvs

#include "node-agent/iptables/iptables_dataplane.h"

#include <cerrno>
#include <system_error>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "kube/testing/eventually.h"
#include "node-agent/sysctl/sysctl.h"
#include "node-agent/testing/dual_stack_network.h"
#include "node-agent/testing/fresh_netns.h"
#include "node-agent/testing/iptables_rules.h"
#include "node-agent/testing/random_model.h"
#include "node-agent/testing/results.h"
#include "node-agent/xtables/base_rules.h"

namespace pointsman::agent {
namespace {

using testing::Ask;
using testing::Attempt;
using testing::DualStackNetwork;
using ::testing::HasSubstr;
using testing::Ip;
using testing::IpTool;
using testing::ModelMaker;
using testing::NetNamespace;
using testing::OpenStream;
using testing::RandomModel;
using testing::Reply;
using testing::RulesOf;
using testing::Text;
using testing::Transport;

net::IpAddress PodIp(int k) {
  return DualStackNetwork::PodIp(k, net::Family::kIPv4);
}

ServicePortEntry Entry(const std::string& name, const std::string& vip, uint16_t port,
                       const std::vector<int>& pods, Protocol protocol = Protocol::kTcp) {
  ServicePortEntry entry;
  entry.id = {"default", name, "http", protocol, net::Family::kIPv4};
  entry.cluster_ip = Ip(vip);
  entry.port = port;
  for (int k : pods)
    entry.internal.backends.push_back({PodIp(k), 8080, true});
  entry.external = entry.internal;
  return entry;
}

kube::ProxySettings Settings() {
  kube::ProxySettings settings;
  settings.cluster_cidrs = {net::IpPrefix::Parse("10.244.0.0/16").value()};
  return settings;
}

class Traffic : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root to make network namespaces";
    network_ = std::make_unique<DualStackNetwork>(3);
    OnNode([&] {
      tool_ = std::make_unique<xtables::IptablesTool>(net::Family::kIPv4);
      dataplane_ = std::make_unique<IptablesDataplane>(Settings(), *tool_);
    });
  }
  void OnNode(const std::function<void()>& work) { network_->node().Run(work); }
  void FullSync() {
    OnNode([&] { EXPECT_SYNCED(dataplane_->FullSync(maker_.model)); });
  }
  void Sync(const ServicePortEntry& entry) {
    OnNode([&] {
      const SyncResult result = dataplane_->Sync(maker_.model, maker_.Put(entry));
      EXPECT_TRUE(result.ok()) << Text(result);
      EXPECT_EQ(result.repaired, 0U);
    });
  }
  std::string Save() {
    std::string text;
    OnNode([&] { text = tool_->Save("nat") + tool_->Save("filter"); });
    return text;
  }
  static Attempt Over(bool udp) { return {.transport = udp ? Transport::kUdp : Transport::kTcp}; }
  Reply Pod(const std::string& vip, uint16_t port, bool udp = false, int pod = 0) {
    return Ask(network_->pod(pod), vip, port, Over(udp));
  }
  Reply Outside(const std::string& vip, uint16_t port, bool udp = false) {
    return Ask(network_->outside(), vip, port, Over(udp));
  }
  Reply Node(const std::string& vip, uint16_t port, bool udp = false) {
    return Ask(network_->node(), vip, port, Over(udp));
  }

  std::unique_ptr<DualStackNetwork> network_;
  std::unique_ptr<xtables::IptablesTool> tool_;
  std::unique_ptr<IptablesDataplane> dataplane_;
  ModelMaker maker_;
};

TEST_F(Traffic, ClusterIpReachesEveryBackend) {
  maker_.Put(Entry("web", "10.96.0.10", 80, {0, 1, 2}));
  maker_.Put(Entry("dns", "10.96.0.10", 80, {0, 1, 2}, Protocol::kUdp));
  FullSync();
  for (bool udp : {false, true}) {
    std::map<std::string, int> seen;
    for (int i = 0; i < 60; ++i) {
      Reply outcome = Pod("10.96.0.10", 80, udp);
      ASSERT_EQ(outcome.error, 0) << std::generic_category().message(outcome.error);
      ++seen[outcome.server];
      // A pod's address is kept, unless it reached itself.
      if (outcome.server != "pod0") {
        EXPECT_EQ(outcome.peer, "10.244.0.2");
      }
    }
    // 60 draws of 3: fewer than 5 of one has a probability of about 10^-6.
    EXPECT_EQ(seen.size(), 3U);
    for (const auto& [server, count] : seen)
      EXPECT_GE(count, 5) << server;
    EXPECT_EQ(Node("10.96.0.10", 80, udp).error, 0);
  }
}

TEST_F(Traffic, AFullSyncCountsTheRulesThatAreThere) {
  ServicePortEntry entry = Entry("web", "10.96.0.10", 80, {0, 1, 2});
  entry.node_port = 30080;
  maker_.Put(entry);
  maker_.Put(Entry("none", "10.96.0.11", 80, {}));
  OnNode([&] {
    // The second finds all of it there.
    for (int i = 0; i < 2; ++i) {
      SyncResult result = dataplane_->FullSync(maker_.model);
      const auto rules = [&](const char* table) {
        uint64_t count = 0;
        tool_->SaveLines(table, [&](std::string_view line) {
          if (line.starts_with("-A") && line.find("POINTSMAN-IPT-") != std::string_view::npos)
            ++count;
        });
        return count;
      };
      EXPECT_EQ(result.rules["nat"], rules("nat"));
      EXPECT_EQ(result.rules["filter"], rules("filter"));
      EXPECT_GT(result.rules["nat"], 10U);
      EXPECT_GT(result.rules["filter"], 5U);
    }
  });
}

TEST_F(Traffic, AnEndpointReachesItself) {
  maker_.Put(Entry("self", "10.96.0.11", 80, {0}));
  FullSync();
  for (bool udp : {false, true}) {
    if (udp) Sync(Entry("self", "10.96.0.11", 80, {0}, Protocol::kUdp));
    Reply outcome = Pod("10.96.0.11", 80, udp);
    EXPECT_EQ(outcome.error, 0);
    EXPECT_EQ(outcome.peer, "10.244.0.1");
  }
}

TEST_F(Traffic, OffClusterSourcesAreMasqueraded) {
  maker_.Put(Entry("web", "10.96.0.12", 80, {1}));
  FullSync();
  EXPECT_EQ(Outside("10.96.0.12", 80).peer, "10.244.1.1");
  EXPECT_EQ(Pod("10.96.0.12", 80).peer, "10.244.0.2");
}

TEST_F(Traffic, NodePortsAnswerOnEveryAddress) {
  ServicePortEntry entry = Entry("web", "10.96.0.13", 80, {1});
  entry.node_port = 30080;
  maker_.Put(entry);
  FullSync();
  Reply outcome = Outside("192.168.77.1", 30080);
  EXPECT_EQ(outcome.error, 0);
  EXPECT_EQ(outcome.peer, "10.244.1.1");
  EXPECT_EQ(Outside("10.244.0.1", 30080).error, 0);
  EXPECT_EQ(Pod("192.168.77.1", 30080).error, 0);
  EXPECT_EQ(Node("192.168.77.1", 30080).error, 0);
  EXPECT_EQ(Node("127.0.0.1", 30080).error, 0);
  EXPECT_EQ(Outside("192.168.77.1", 30081).error, ECONNREFUSED);
}

// nodePortAddresses: [127.0.0.0/8], as the documentation of Services has it.
TEST_F(Traffic, NodePortsOnLoopbackAlone) {
  ServicePortEntry entry = Entry("web", "10.96.0.14", 80, {1});
  entry.node_port = 30082;
  maker_.Put(entry);
  maker_.model.node.localhost_node_ports = true;
  maker_.model.node.every_address = false;
  maker_.model.node.node_port_addresses.clear();
  FullSync();
  EXPECT_EQ(Node("127.0.0.1", 30082).error, 0);
  EXPECT_EQ(Outside("192.168.77.1", 30082).error, ECONNREFUSED);
  EXPECT_EQ(Node("192.168.77.1", 30082).error, ECONNREFUSED);
}

TEST_F(Traffic, LoopbackStaysClosedToTheOutside) {
  maker_.model.node.localhost_node_ports = true;
  FullSync();
  EXPECT_EQ(
      *[&] {
        std::optional<std::string> value;
        OnNode([&] { value = ReadSysctl("net.ipv4.conf.all.route_localnet"); });
        return value;
      }(),
      "1");
  EXPECT_THAT(dataplane_->Sysctls(),
              ::testing::ElementsAre("net.ipv4.ip_forward", "net.ipv4.conf.all.route_localnet"));
  NetNamespace const& outside = network_->outside();
  outside.Run([] { IpTool("route add 127.0.0.5/32 via 192.168.77.1 table local"); });
  // Something listens on every address of the node, as a node's own debug ports do on 127.0.0.1.
  Reply outcome = Ask(outside, "127.0.0.5", 8080, {.timeout = std::chrono::milliseconds(300)});
  EXPECT_NE(outcome.error, 0);
  // Restored also when something else has deleted the rule that says whose it is.
  OnNode([&] { tool_->Restore("*filter\n-F POINTSMAN-IPT-GUARD\nCOMMIT\n"); });
  FullSync();
  OnNode([&] { dataplane_->Remove(); });
  OnNode([&] { EXPECT_EQ(ReadSysctl("net.ipv4.conf.all.route_localnet"), "0"); });
}

TEST_F(Traffic, WithoutEndpointsItIsRefusedAtOnce) {
  for (Protocol protocol : {Protocol::kTcp, Protocol::kUdp}) {
    ServicePortEntry entry = Entry("empty", "10.96.0.14", 80, {}, protocol);
    entry.node_port = 30090;
    entry.external_ips = {Ip("198.51.100.1")};
    entry.load_balancer_ips = {Ip("198.51.100.2")};
    maker_.Put(entry);
  }
  FullSync();
  for (bool udp : {false, true}) {
    for (const std::string vip : {"10.96.0.14", "198.51.100.1", "198.51.100.2"}) {
      auto refused = [&](const char* from, const Reply& outcome) {
        // A datagram of the node's own does not even leave: send(2) fails.
        EXPECT_THAT(outcome.error, ::testing::AnyOf(ECONNREFUSED, udp ? EPERM : ECONNREFUSED))
            << from << " " << vip << (udp ? " udp" : " tcp");
        // A SYN that was dropped would be sent again after a second.
        EXPECT_LT(outcome.took.count(), 900) << from << " " << vip << (udp ? " udp" : " tcp");
      };
      refused("pod", Pod(vip, 80, udp));
      refused("node", Node(vip, 80, udp));
      refused("outside", Outside(vip, 80, udp));
    }
    EXPECT_EQ(Outside("192.168.77.1", 30090, udp).error, ECONNREFUSED);
  }
  // The first endpoint opens it again.
  ServicePortEntry entry = Entry("empty", "10.96.0.14", 80, {1});
  entry.node_port = 30090;
  Sync(entry);
  EXPECT_EQ(Pod("10.96.0.14", 80).error, 0);
  EXPECT_EQ(Outside("192.168.77.1", 30090).error, 0);
}

TEST_F(Traffic, OnlyAnswersOfEndpointsAreHeldUpWhenTheyAreInvalid) {
  network_->AddPathPastNode(2);
  const auto ask = [&] {
    return Ask(network_->outside(), PodIp(2).ToString(), 8080,
               {.timeout = std::chrono::milliseconds(400)});
  };
  ASSERT_TRUE(Eventually([&] { return ask().ok(); })) << "the path is not there";
  // An endpoint of another network, and one of this pod's with another port.
  maker_.Put(Entry("web", "10.96.0.18", 80, {0}));
  ServicePortEntry near = Entry("near", "10.96.0.19", 80, {2});
  near.internal.backends[0].port = near.external.backends[0].port = 8081;
  maker_.Put(near);
  FullSync();
  // The node saw no SYN, so to its conntrack the answer is invalid; but it is no Service's.
  EXPECT_TRUE(ask().ok());
  // This might be an answer whose NAT is to be undone.
  const ServicePortEntry entry = Entry("direct", "10.96.0.20", 80, {2});
  Sync(entry);
  EXPECT_FALSE(ask().ok());
  OnNode([&] {
    EXPECT_SYNCED(dataplane_->Sync(maker_.model, maker_.Remove(entry.id)));
    EXPECT_VERIFIED(dataplane_->Verify(maker_.model));
  });
  EXPECT_TRUE(ask().ok());
}

TEST_F(Traffic, AffinityKeepsAClientAtItsBackend) {
  ServicePortEntry entry = Entry("sticky", "10.96.0.15", 80, {0, 1, 2});
  entry.affinity_timeout = std::chrono::seconds(100);
  maker_.Put(entry);
  FullSync();
  const std::string first = Outside("10.96.0.15", 80).server;
  for (int i = 0; i < 12; ++i)
    EXPECT_EQ(Outside("10.96.0.15", 80).server, first);
  // Another backend's change leaves it alone.
  const int kept = first.back() - '0';
  entry.internal.backends = {{PodIp(kept), 8080, true}};
  const int other = kept == 0 ? 1 : 0;
  entry.internal.backends.push_back({PodIp(other), 8080, true});
  std::sort(entry.internal.backends.begin(), entry.internal.backends.end());
  entry.external = entry.internal;
  Sync(entry);
  for (int i = 0; i < 8; ++i)
    EXPECT_EQ(Outside("10.96.0.15", 80).server, first);
}

TEST_F(Traffic, LocalPolicyKeepsTheClientsAddress) {
  ServicePortEntry entry = Entry("local", "10.96.0.16", 80, {1, 2});
  entry.node_port = 30100;
  entry.external_local = true;
  entry.external_from_node = entry.internal;
  entry.external.backends = {{PodIp(1), 8080, true}};
  entry.external.when_empty = BackendChoice::WhenEmpty::kDrop;
  maker_.Put(entry);
  FullSync();
  for (int i = 0; i < 6; ++i) {
    Reply outcome = Outside("192.168.77.1", 30100);
    EXPECT_EQ(outcome.server, "pod1");
    EXPECT_EQ(outcome.peer, "192.168.77.2");
  }
  // No local endpoint: outside is dropped, the node and its pods are served.
  entry.external.backends.clear();
  Sync(entry);
  Reply outcome =
      Ask(network_->outside(), "192.168.77.1", 30100, {.timeout = std::chrono::milliseconds(400)});
  EXPECT_NE(outcome.error, 0);
  EXPECT_NE(outcome.error, ECONNREFUSED);
  EXPECT_EQ(Node("192.168.77.1", 30100).error, 0);
  EXPECT_EQ(Pod("192.168.77.1", 30100).error, 0);
}

TEST_F(Traffic, SourceRangesAreEnforced) {
  ServicePortEntry entry = Entry("lb", "10.96.0.17", 80, {1});
  entry.load_balancer_ips = {Ip("198.51.100.7")};
  entry.source_ranges = {net::IpPrefix::Parse("10.244.0.0/24").value()};
  maker_.Put(entry);
  FullSync();
  EXPECT_EQ(Pod("198.51.100.7", 80).error, 0);
  Reply outcome =
      Ask(network_->outside(), "198.51.100.7", 80, {.timeout = std::chrono::milliseconds(400)});
  EXPECT_NE(outcome.error, 0);
  entry.source_ranges.push_back(net::IpPrefix::Parse("192.168.77.2/32").value());
  Sync(entry);
  EXPECT_EQ(Outside("198.51.100.7", 80).error, 0);
}

TEST_F(Traffic, StreamsSurviveChangeDrainAndRemoval) {
  maker_.Put(Entry("web", "10.96.0.18", 80, {1}));
  FullSync();
  OpenStream pod(network_->pod(0), "10.96.0.18", 80);
  OpenStream outside(network_->outside(), "10.96.0.18", 80);
  EXPECT_EQ(pod.server(), "pod1");
  Sync(Entry("web", "10.96.0.18", 80, {2}));
  EXPECT_TRUE(pod.Echo());
  EXPECT_TRUE(outside.Echo());
  EXPECT_EQ(Pod("10.96.0.18", 80).server, "pod2");
  OnNode([&] {
    EXPECT_GE(dataplane_->Drain(maker_.model).connections, 2U);
    EXPECT_TRUE(dataplane_->Present());
  });
  EXPECT_NE(
      Ask(network_->pod(0), "10.96.0.18", 80, {.timeout = std::chrono::milliseconds(300)}).error,
      0);
  EXPECT_TRUE(pod.Echo());
  // Back: a drain that was broken off.
  FullSync();
  EXPECT_EQ(Pod("10.96.0.18", 80).error, 0);
  OnNode([&] {
    EXPECT_TRUE(dataplane_->Remove().ok());
    EXPECT_FALSE(dataplane_->Present());
  });
  // The base rules keep conntrack going.
  EXPECT_TRUE(pod.Echo());
  EXPECT_TRUE(outside.Echo());
}

// Rules alone, in an empty namespace; both variants.
class Rules : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (!EnterFreshNetns()) GTEST_SKIP() << "needs root to make a network namespace";
    setenv("POINTSMAN_IPTABLES", GetParam().c_str(), 1);  // NOLINT(concurrency-mt-unsafe)
    try {
      tool_ = std::make_unique<xtables::IptablesTool>(net::Family::kIPv4);
      tool6_ = std::make_unique<xtables::IptablesTool>(net::Family::kIPv6);
    } catch (const std::runtime_error& error) {
      GTEST_SKIP() << error.what();
    }
    xtables::BaseRules(*tool_, 14).Ensure();
    xtables::BaseRules(*tool6_, 14).Ensure();
  }
  // NOLINTNEXTLINE(concurrency-mt-unsafe)
  void TearDown() override { unsetenv("POINTSMAN_IPTABLES"); }

  IptablesDataplane Make() {
    return IptablesDataplane(Settings(), std::vector{tool_.get(), tool6_.get()});
  }
  std::string Save() { return RulesOf(*tool_) + RulesOf(*tool6_); }

  std::unique_ptr<xtables::IptablesTool> tool_;
  std::unique_ptr<xtables::IptablesTool> tool6_;
};

TEST_P(Rules, IncrementalEqualsFull) {
  const std::string untouched = Save();
  RandomModel random(20261123);
  ModelMaker maker;
  IptablesDataplane dataplane = Make();
  ASSERT_TRUE(dataplane.FullSync(maker.model).ok());
  for (int step = 0; step < 60; ++step) {
    SyncResult result = dataplane.Sync(maker.model, random.Step(maker));
    ASSERT_TRUE(result.ok()) << result.problems[0].message;
    // Another process finds nothing to write: what is in the kernel is what a full sync would make.
    VerifyResult verified = Make().Verify(maker.model);
    ASSERT_TRUE(verified.ok()) << "step " << step << ": " << verified.differences[0].object << " "
                               << verified.differences[0].message;
    EXPECT_GT(verified.objects_checked, 10U);
    ASSERT_TRUE(dataplane.Verify(maker.model).ok());
  }
  const std::string incremental = Save();
  IptablesDataplane restarted = Make();
  EXPECT_EQ(restarted.FullSync(maker.model).kernel_writes, 0U);
  EXPECT_EQ(Save(), incremental);
  EXPECT_TRUE(restarted.Remove().ok());
  EXPECT_EQ(Save(), untouched);
  EXPECT_TRUE(restarted.FullSync(maker.model).ok());
  EXPECT_EQ(Save(), incremental);
}

TEST_P(Rules, DamageIsSeenAndRepaired) {
  RandomModel random(7);
  ModelMaker maker;
  for (int i = 0; i < 10; ++i)
    random.Step(maker);
  maker.Put(Entry("web", "10.96.0.10", 80, {0, 1}));
  IptablesDataplane dataplane = Make();
  ASSERT_TRUE(dataplane.FullSync(maker.model).ok());
  const std::string good = Save();
  for (const char* damage :
       {"*nat\n-F POINTSMAN-IPT-SERVICES\nCOMMIT\n",
        "*nat\n-I POINTSMAN-IPT-NODEPORTS -j RETURN\nCOMMIT\n",
        "*nat\n-D PREROUTING -m comment --comment \"pointsman: services\" -j "
        "POINTSMAN-IPT-SERVICES\nCOMMIT\n",
        "*nat\n-I PREROUTING -m comment --comment \"pointsman: services\" -j "
        "POINTSMAN-IPT-SERVICES\nCOMMIT\n",
        "*nat\n:POINTSMAN-IPT-SOLD - [0:0]\n-A POINTSMAN-IPT-SOLD -p tcp -j DNAT --to-destination "
        "1.2.3.4:5\nCOMMIT\n",
        "*filter\n-F POINTSMAN-IPT-FORWARD\nCOMMIT\n", "*filter\n-F INPUT\nCOMMIT\n"}) {
    tool_->Restore(damage);
    EXPECT_NE(Save(), good) << damage;
    EXPECT_EQ(dataplane.Verify(maker.model).difference_count, 1U) << damage;
    SyncResult result = dataplane.FullSync(maker.model);
    EXPECT_TRUE(result.ok());
    EXPECT_EQ(result.repaired, 1U) << damage;
    EXPECT_EQ(Save(), good) << damage;
    EXPECT_TRUE(dataplane.Verify(maker.model).ok());
  }
  // Somebody else's jump before ours, as kube-proxy's: ours comes first again, theirs stays.
  tool_->Restore("*nat\n:KUBE-SERVICES - [0:0]\n-I PREROUTING -j KUBE-SERVICES\nCOMMIT\n");
  EXPECT_FALSE(dataplane.Verify(maker.model).ok());
  EXPECT_TRUE(dataplane.FullSync(maker.model).ok());
  EXPECT_TRUE(dataplane.Verify(maker.model).ok());
  EXPECT_THAT(tool_->Save("nat"), HasSubstr("-A PREROUTING -j KUBE-SERVICES\n"));
  // Calico's may stay before ours: it would put it back.
  tool_->Restore("*nat\n:cali-PREROUTING - [0:0]\n-I PREROUTING -j cali-PREROUTING\nCOMMIT\n");
  EXPECT_EQ(dataplane.FullSync(maker.model).kernel_writes, 0U);
}

TEST_P(Rules, RemovalLeavesOthersAlone) {
  tool_->Restore(
      "*nat\n:KUBE-SERVICES - [0:0]\n-A PREROUTING -j KUBE-SERVICES\n-A KUBE-SERVICES -d "
      "10.0.0.1/32 -j RETURN\nCOMMIT\n*filter\n:MINE - [0:0]\n-A INPUT -p tcp -m tcp --dport 22 -j "
      "ACCEPT\n-A MINE -j RETURN\nCOMMIT\n");
  auto exact = [&] { return tool_->Save("nat") + tool_->Save("filter") + tool6_->Save("nat"); };
  const std::string before = exact();
  ModelMaker maker;
  RandomModel random(3);
  for (int i = 0; i < 10; ++i)
    random.Step(maker);
  IptablesDataplane dataplane = Make();
  EXPECT_FALSE(dataplane.Present());
  ASSERT_TRUE(dataplane.FullSync(maker.model).ok());
  EXPECT_TRUE(Make().Present());
  // By another process, which remembers nothing.
  EXPECT_TRUE(Make().Remove().ok());
  EXPECT_FALSE(dataplane.Present());
  EXPECT_EQ(exact(), before);
  EXPECT_EQ(Make().Remove().kernel_writes, 0U);
}

TEST_P(Rules, AFailedWriteIsReportedAndMadeGood) {
  ModelMaker maker;
  IptablesDataplane dataplane = Make();
  ASSERT_TRUE(dataplane.FullSync(maker.model).ok());
  // Without the chain that its rules jump to, the kernel's tool refuses the Service.
  xtables::BaseRules(*tool_, 14).Remove();
  ServicePortEntry entry = Entry("web", "10.96.0.10", 80, {0});
  SyncResult result = dataplane.Sync(maker.model, maker.Put(entry));
  ASSERT_EQ(result.problems.size(), 1U);
  EXPECT_THAT(result.problems[0].message, HasSubstr("POINTSMAN-MARK-MASQ"));
  // Changes do not try it again, which would be all of the family each time; a full sync does, and
  // makes the base rules too.
  ServicePortEntry other = Entry("other", "10.96.0.11", 80, {0});
  const SyncResult later = dataplane.Sync(maker.model, maker.Put(other));
  ASSERT_EQ(later.problems.size(), 1U);
  EXPECT_EQ(later.problems[0].message, result.problems[0].message);
  EXPECT_EQ(later.kernel_writes, 0U);
  EXPECT_TRUE(dataplane.FullSync(maker.model).ok());
  EXPECT_THAT(tool_->Save("nat"), HasSubstr("-d 10.96.0.11/32 -p tcp -m tcp --dport 80 -j"));
  EXPECT_THAT(tool_->Save("nat"), HasSubstr("-d 10.96.0.10/32 -p tcp -m tcp --dport 80 -j"));
  EXPECT_TRUE(dataplane.Verify(maker.model).ok());
}

INSTANTIATE_TEST_SUITE_P(Variants, Rules, ::testing::Values("legacy", "nft"),
                         [](const auto& variant) { return variant.param; });

}  // namespace
}  // namespace pointsman::agent

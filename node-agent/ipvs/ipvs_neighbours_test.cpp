// ipvs mode beside policy engines, firewalls and host ports, with real packets. A packet to a
// cluster IP passes INPUT and OUTPUT here, never FORWARD, and to the node it is one of its own.
#include "node-agent/ipvs/testing/dataplane_fixture.h"
#include "node-agent/testing/iptables_rules.h"
#include "node-agent/testing/neighbours/firewalls.h"
#include "node-agent/testing/neighbours/plugins.h"
#include "node-agent/testing/neighbours/policy_engines.h"
#include "node-agent/testing/neighbours/proxies.h"

namespace pointsman::agent {
namespace {

using ::testing::AllOf;
using testing::CalicoInserts;
using ::testing::Contains;
using ::testing::ElementsAre;
using testing::Neighbour;

constexpr const char* kLoadBalancer = "203.0.113.8";
constexpr net::Family kFamily = net::Family::kIPv4;

// pod-b is what the Service leads to; only pod-a may connect to it.
class IpvsNeighboursTest : public IpvsDataplaneTest {
 protected:
  void SetUp() override {
    IpvsDataplaneTest::SetUp();
    ServicePortEntry web = Web({MakeBackend(kPodB, 8080)});
    web.load_balancer_ips = {Ip(kLoadBalancer)};
    maker_.Put(web);
  }
  void TearDown() override {
    IpvsDataplaneTest::TearDown();
    for (const char* table : {"filter", "nat"}) {
      RunTool({"iptables-legacy", "-t", table, "-F"});
      RunTool({"iptables-legacy", "-t", table, "-X"});
    }
    for (const char* chain : {"INPUT", "FORWARD"})
      RunTool({"iptables-legacy", "-P", chain, "ACCEPT"});
  }

  static testing::PodPolicies Policy() {
    return {{.pod = kPodB, .link = "vpod-b", .ingress_from = std::vector<std::string>{kPodA}}};
  }
  uint64_t Resync() {
    const SyncResult result = dataplane_->FullSync(maker_.model);
    EXPECT_SYNCED(result);
    ExpectVerified();
    return result.kernel_writes;
  }
  static std::string Rules() { return RunTool({"iptables-legacy-save"}); }
  // Who gets to a server, and by what; each connection is tried for 300 ms.
  static std::vector<std::string> Reaching() {
    struct Way {
      const char* name;
      const char* host;
      const char* ip;
      uint16_t port;
    };
    static constexpr Way kWays[] = {{"pod itself", "client", kPodB, 8080},
                                    {"cluster IP", "client", kVip, 80},
                                    {"load balancer", "client", kLoadBalancer, 80},
                                    {"node port", "client", kNodeIp, 30080},
                                    {"pod to cluster IP", "pod-c", kVip, 80},
                                    {"pod to node port", "pod-c", kNodeIp, 30080},
                                    {"allowed pod", "pod-a", kVip, 80},
                                    {"node", "", kVip, 80}};
    std::vector<std::string> reaching;
    for (const Way& way : kWays) {
      Stream stream(TestNetwork::At(way.host), way.ip, way.port,
                    {.timeout = std::chrono::milliseconds(300)});
      if (stream.Ask().ok()) reaching.emplace_back(way.name);
    }
    return reaching;
  }
  static void ExpectPolicyHolds(const std::string& when) {
    SCOPED_TRACE(when);
    EXPECT_THAT(Reaching(), ElementsAre("allowed pod", "node")) << Rules();
  }
  // First theirs, then ours; then both agents look again.
  void ExpectPolicyIsKept(const Neighbour& engine) {
    EXPECT_TRUE(engine.Sync(tool_));
    Resync();
    ExpectPolicyHolds("after the first write");
    EXPECT_EQ(Resync(), 0U) << Rules();
    engine.Sync(tool_);
    Resync();
    ExpectPolicyHolds("after the engine looked again");
    EXPECT_EQ(Resync(), 0U) << Rules();
  }
};

TEST_F(IpvsNeighboursTest, Calico) {
  const Neighbour calico =
      CalicoForIpvs(kFamily, Policy(), "vpod-", {kNodeIp}, CalicoInserts::kFirst);
  ExpectPolicyIsKept(calico);
  EXPECT_FALSE(calico.Sync(tool_)) << "nothing of ours is in its way";
}
TEST_F(IpvsNeighboursTest, CalicoThatAppends) {
  ExpectPolicyIsKept(CalicoForIpvs(kFamily, Policy(), "vpod-", {kNodeIp}, CalicoInserts::kLast));
}
TEST_F(IpvsNeighboursTest, CalicoThatComesLater) {
  Resync();
  EXPECT_THAT(Reaching(), AllOf(Contains("node port"), Contains("pod to cluster IP")));
  EXPECT_TRUE(
      CalicoForIpvs(kFamily, Policy(), "vpod-", {kNodeIp}, CalicoInserts::kLast).Sync(tool_));
  Resync();
  ExpectPolicyHolds("after the engine came");
}
TEST_F(IpvsNeighboursTest, KubeRouter) {
  const Neighbour kube_router = testing::KubeRouter(kFamily, Policy(), "10.96.0.0/16");
  ExpectPolicyIsKept(kube_router);
  EXPECT_FALSE(kube_router.Sync(tool_)) << "nothing of ours is in its way";
}

// An agent of an older version had one chain in INPUT that refused and accepted.
TEST_F(IpvsNeighboursTest, WhatAnOlderAgentLeftIsTakenOverAndPutInOrder) {
  EXPECT_TRUE(
      CalicoForIpvs(kFamily, Policy(), "vpod-", {kNodeIp}, CalicoInserts::kLast).Sync(tool_));
  Resync();
  const std::string good = testing::RulesOf(tool_);
  tool_.Restore(
      "*filter\n"
      "-D INPUT -m comment --comment \"pointsman ipvs\" -j POINTSMAN-IPVS-ACCEPT\n"
      "-F POINTSMAN-IPVS-ACCEPT\n-X POINTSMAN-IPVS-ACCEPT\n"
      "-I POINTSMAN-IPVS-INPUT -m set --match-set PM-IPVS-CLUSTER-4 dst,dst -j ACCEPT\n"
      "COMMIT\n");
  EXPECT_THAT(Reaching(), Contains("pod to cluster IP")) << "or this test says nothing";
  Start();
  EXPECT_GT(Resync(), 0U);
  ExpectPolicyHolds("after the newer agent's first write");
  EXPECT_EQ(testing::RulesOf(tool_), good);
}

// What refuses everything that it does not know does not refuse Services: as in the other modes.
class IpvsFirewallTest : public IpvsNeighboursTest {
 protected:
  static void ExpectServed(const std::string& when) {
    SCOPED_TRACE(when);
    EXPECT_THAT(Reaching(),
                ElementsAre("cluster IP", "load balancer", "node port", "pod to cluster IP",
                            "pod to node port", "allowed pod", "node"))
        << Rules();
  }
  void ExpectServesBeside(const Neighbour& firewall) {
    EXPECT_TRUE(firewall.Sync(tool_));
    Resync();
    ExpectServed("after the first write");
    for (const auto& rule : firewall.rules)
      tool_.Restore("*filter\n-D " + rule.builtin + " " + rule.rule + "\nCOMMIT\n");
    EXPECT_TRUE(firewall.Sync(tool_));
    Resync();
    ExpectServed("after the firewall has started again");
    EXPECT_EQ(Resync(), 0U) << Rules();
  }
};

TEST_F(IpvsFirewallTest, IptablesServices) {
  ExpectServesBeside(testing::IptablesServices(kFamily));
}
TEST_F(IpvsFirewallTest, Ufw) {
  ExpectServesBeside(testing::Ufw(kFamily));
}
TEST_F(IpvsFirewallTest, FirewalldIptables) {
  ExpectServesBeside(testing::FirewalldIptables(kFamily, "vpod-a"));
}
TEST_F(IpvsFirewallTest, PoliciesOfDrop) {
  tool_.Restore("*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\nCOMMIT\n");
  Resync();
  ExpectServed("after the first write");
}

// They ask "is it addressed to this node?", which a cluster IP is in this mode.
TEST_F(IpvsNeighboursTest, HostPortsTakeNothingFromClusterIps) {
  for (const Neighbour& neighbour : {testing::Portmap(80, "10.244.0.4:8080"),
                                     testing::DockerPublished(kFamily, 80, "10.244.0.4:8080")}) {
    SCOPED_TRACE(neighbour.name);
    EXPECT_TRUE(neighbour.Sync(tool_));
    Resync();
    EXPECT_EQ(AskTcp("pod-a", kVip, 80).server, "pod-b") << Rules();
    EXPECT_EQ(AskTcp("", kVip, 80).server, "pod-b") << Rules();
    EXPECT_EQ(AskTcp("client", kNodeIp, 80).server, "pod-c") << "the host port";
    // It makes its jumps once more, in front.
    for (const auto& rule : neighbour.rules)
      tool_.Restore("*nat\n-D " + rule.builtin + " " + rule.rule + "\nCOMMIT\n");
    EXPECT_TRUE(neighbour.Sync(tool_));
    EXPECT_EQ(AskTcp("pod-a", kVip, 80).server, "pod-c") << "or this test says nothing";
    EXPECT_GT(Resync(), 0U);
    EXPECT_EQ(AskTcp("pod-a", kVip, 80).server, "pod-b") << Rules();
    EXPECT_EQ(AskTcp("", kVip, 80).server, "pod-b") << Rules();
    EXPECT_FALSE(neighbour.Sync(tool_));
  }
}

// The cache answers its queries, which no connection tracking sees, and the Service all else.
TEST_F(IpvsNeighboursTest, ADnsCacheAnswersAtItsClusterIp) {
  maker_.Put(Dns({MakeBackend(kPodB, 8080)}));
  maker_.Put(MakeEntry("dns", Protocol::kTcp, kVip, 53, {MakeBackend(kPodB, 8080)}));
  Resync();
  const auto answers = [&](const char* host, uint16_t port) {
    const Reply tcp = AskTcp(host, kVip, port);
    return port == 80 ? tcp.server : tcp.server + " " + AskUdp(host, kVip, port).server;
  };
  EXPECT_EQ(answers("pod-a", 53), "pod-b pod-b");
  // Whatever is open there does not keep new queries from the cache.
  Stream open(TestNetwork::At("pod-a"), kVip, 53);
  ASSERT_TRUE(open.Ask().ok());

  const Neighbour cache = testing::NodeLocalDns(kFamily, kVip, 53);
  cache.Put(tool_);
  network_->Serve("", kVip, 53);
  maker_.model.node.dns_cache_addresses = {Ip(kVip)};
  EXPECT_SYNCED(dataplane_->Sync(maker_.model, {.node_changed = true}));
  ExpectVerified();
  const std::string by_both = "node node";
  for (const char* host : {"pod-a", "pod-b", ""}) {
    EXPECT_EQ(answers(host, 53), by_both) << host;
    EXPECT_EQ(answers(host, 80), "pod-b") << host;
  }
  // Changes of the Service, and a new process, leave it to the cache too.
  EXPECT_SYNCED(dataplane_->Sync(maker_.model, maker_.Put(Dns({MakeBackend(kPodC, 8080)}))));
  EXPECT_EQ(answers("pod-a", 53), by_both);
  Start();
  EXPECT_EQ(Resync(), 0U);

  // When it goes, the Service answers itself.
  network_->StopServing("");
  cache.Remove(tool_);
  maker_.model.node.dns_cache_addresses.clear();
  EXPECT_SYNCED(dataplane_->Sync(maker_.model, {.node_changed = true}));
  ExpectVerified();
  EXPECT_EQ(answers("pod-a", 53), "pod-b pod-c");
  EXPECT_EQ(answers("", 53), "pod-b pod-c");
}

}  // namespace
}  // namespace pointsman::agent

// Services beside policy engines, firewalls and other proxies, with real packets: what these refuse
// stays refused, what they let by works, and their agents and ours do not move each other's rules.
#include <future>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "node-agent/iptables/iptables_dataplane.h"
#include "node-agent/testing/dual_stack_network.h"
#include "node-agent/testing/model_maker.h"
#include "node-agent/testing/neighbours/firewalls.h"
#include "node-agent/testing/neighbours/policy_engines.h"
#include "node-agent/testing/neighbours/proxies.h"
#include "node-agent/testing/results.h"
#include "node-agent/xtables/base_rules.h"

namespace pointsman::agent {
namespace {

using net::Family;
using testing::Ask;
using testing::DualStackNetwork;
using ::testing::ElementsAre;
using testing::Ip;
using ::testing::IsEmpty;
using testing::Neighbour;

constexpr uint16_t kNodePort = 30080;
constexpr uint16_t kOtherNodePort = 30081;  // of a Service whose pod has no policy

// The names of one family.
struct Addresses {
  Family family;
  const char* vip;
  const char* other_vip;
  const char* load_balancer;
  const char* node;     // as the client outside sees it
  const char* outside;  // the client
  std::string pod(int k) const { return DualStackNetwork::PodIp(k, family).ToString(); }
};
constexpr Addresses kV4{Family::kIPv4,  "10.96.0.10",   "10.96.0.11",
                        "198.51.100.7", "192.168.77.1", "192.168.77.2"};
constexpr Addresses kV6{Family::kIPv6, "fd00:96::10", "fd00:96::11",
                        "fd00:51::7",  "fd00:77::1",  "fd00:77::2"};

// A node with three pods. Pod 1 is what a Service leads to; pod 0 may reach it, and nothing else
// outside of the node.
class NeighboursTest : public ::testing::TestWithParam<Addresses> {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root to make network namespaces";
    network_ = std::make_unique<DualStackNetwork>(3);
    ServicePortEntry entry = testing::MakeEntry("web", kube::Protocol::kTcp, at_.vip, 80,
                                                {testing::MakeBackend(at_.pod(1), 8080)});
    entry.node_port = kNodePort;
    entry.load_balancer_ips = {Ip(at_.load_balancer)};
    maker_.Put(entry);
    entry = testing::MakeEntry("other", kube::Protocol::kTcp, at_.other_vip, 80,
                               {testing::MakeBackend(at_.pod(2), 8080)});
    entry.node_port = kOtherNodePort;
    maker_.Put(entry);
    OnNode([&] {
      tool_ = std::make_unique<xtables::IptablesTool>(at_.family);
      EXPECT_SYNCED(xtables::BaseRules(*tool_, 14).Ensure());
    });
    Start();
  }
  void OnNode(const std::function<void()>& work) { network_->node().Run(work); }
  // A new process takes over.
  void Start() {
    kube::ProxySettings settings;
    settings.cluster_cidrs = {net::IpPrefix::Parse("10.244.0.0/16").value(),
                              net::IpPrefix::Parse("fd00:244::/32").value()};
    OnNode([&] { dataplane_ = std::make_unique<IptablesDataplane>(settings, *tool_); });
  }
  // What the agent does every 30 s; returns how much it wrote.
  uint64_t Resync() {
    uint64_t writes = 0;
    OnNode([&] {
      const SyncResult result = dataplane_->FullSync(maker_.model);
      EXPECT_SYNCED(result);
      EXPECT_VERIFIED(dataplane_->Verify(maker_.model));
      writes = result.kernel_writes;
    });
    return writes;
  }
  bool Sync(const Neighbour& neighbour) {
    bool wrote = false;
    OnNode([&] { wrote = neighbour.Sync(*tool_); });
    return wrote;
  }
  void Run(const std::string& rules) {
    OnNode([&] { tool_->Restore(rules); });
  }
  std::string Rules() {
    std::string rules;
    OnNode([&] { rules = tool_->Save("filter") + tool_->Save("nat"); });
    return rules;
  }

  testing::PodPolicy Policy() const {
    return {.pod = at_.pod(1), .link = "pod1", .allowed = at_.pod(0)};
  }
  struct Way {
    std::string name;
    const testing::NetNamespace& from;
    std::string to;
    uint16_t port;
  };
  // The names of those that lead to a server, all tried at once: a drop is a time without answer.
  static std::vector<std::string> Reaching(const std::vector<Way>& ways) {
    std::vector<std::future<bool>> tries;
    tries.reserve(ways.size());
    for (const Way& way : ways) {
      tries.push_back(std::async(std::launch::async, [&way] {
        return Ask(way.from, way.to, way.port, {.timeout = std::chrono::seconds(1)}).ok();
      }));
    }
    std::vector<std::string> reaching;
    for (size_t i = 0; i < ways.size(); ++i) {
      if (tries[i].get()) reaching.push_back(ways[i].name);
    }
    return reaching;
  }
  std::vector<Way> WaysFromOutside() {
    return {{"pod itself", network_->outside(), at_.pod(1), 8080},
            {"cluster IP", network_->outside(), at_.vip, 80},
            {"load balancer", network_->outside(), at_.load_balancer, 80},
            {"node port", network_->outside(), at_.node, kNodePort}};
  }
  void ExpectPolicyHolds(const std::string& when) {
    SCOPED_TRACE(when);
    std::vector<Way> ways = WaysFromOutside();
    ways.push_back({"refused pod", network_->pod(2), at_.vip, 80});
    ways.push_back({"allowed pod", network_->pod(0), at_.vip, 80});
    EXPECT_THAT(Reaching(ways), ElementsAre("allowed pod")) << Rules();
  }

  const Addresses at_ = GetParam();
  std::unique_ptr<DualStackNetwork> network_;
  std::unique_ptr<xtables::IptablesTool> tool_;
  std::unique_ptr<IptablesDataplane> dataplane_;
  testing::ModelMaker maker_;
};

class PolicyEngineTest : public NeighboursTest {
 protected:
  // First theirs, then ours; then both agents look again; then a new process of ours.
  void ExpectPolicyIsKept(const Neighbour& engine) {
    EXPECT_TRUE(Sync(engine));
    Resync();
    ExpectPolicyHolds("after the first write");
    EXPECT_EQ(Resync(), 0U) << Rules();
    Sync(engine);
    EXPECT_EQ(Resync(), 0U) << Rules();
    EXPECT_FALSE(Sync(engine));
    ExpectPolicyHolds("after the engine looked again");
    Start();
    EXPECT_EQ(Resync(), 0U) << "another process finds all in its place";
  }
  // Ours were there before the engine came.
  void ExpectPolicyIsKeptByALateEngine(const Neighbour& engine) {
    Resync();
    EXPECT_THAT(Reaching(WaysFromOutside()),
                ElementsAre("pod itself", "cluster IP", "load balancer", "node port"));
    EXPECT_TRUE(Sync(engine));
    Resync();
    ExpectPolicyHolds("after the engine came");
  }
};

TEST_P(PolicyEngineTest, KubeRouter) {
  ExpectPolicyIsKept(KubeRouter(at_.family, Policy()));
}
TEST_P(PolicyEngineTest, KubeRouterThatComesLater) {
  ExpectPolicyIsKeptByALateEngine(KubeRouter(at_.family, Policy()));
}
TEST_P(PolicyEngineTest, Calico) {
  ExpectPolicyIsKept(Calico(Policy(), "pod", testing::CalicoInserts::kFirst));
}
// Its agent wants the end of the chain, where ours would have to be.
TEST_P(PolicyEngineTest, CalicoThatAppends) {
  const Neighbour calico = Calico(Policy(), "pod", testing::CalicoInserts::kLast);
  EXPECT_TRUE(Sync(calico));
  Resync();
  ExpectPolicyHolds("after the first write");
  EXPECT_TRUE(Sync(calico));
  EXPECT_GT(Resync(), 0U);
  ExpectPolicyHolds("after both looked again");
  EXPECT_FALSE(Sync(calico)) << "nobody moves anything from now on\n" << Rules();
  EXPECT_EQ(Resync(), 0U) << Rules();
  // Docker starts.
  Run("*filter\n:FORWARD DROP [0:0]\nCOMMIT\n");
  EXPECT_GT(Resync(), 0U);
  ExpectPolicyHolds("when the chain's policy is DROP");
  EXPECT_THAT(Reaching({{"pod 2's node port", network_->outside(), at_.node, kOtherNodePort}}),
              ElementsAre("pod 2's node port"))
      << Rules();
}
TEST_P(PolicyEngineTest, CalicoThatAppendsAndComesLater) {
  ExpectPolicyIsKeptByALateEngine(Calico(Policy(), "pod", testing::CalicoInserts::kLast));
}
TEST_P(PolicyEngineTest, Weave) {
  ExpectPolicyIsKept(Weave(Policy()));
}
TEST_P(PolicyEngineTest, AzureNpm) {
  ExpectPolicyIsKept(AzureNpm(Policy()));
}

// An agent of an older version had one chain that refused and accepted, in front of everything.
TEST_P(PolicyEngineTest, WhatAnOlderAgentLeftIsTakenOverAndPutInOrder) {
  const Neighbour engine = KubeRouter(at_.family, Policy());
  EXPECT_TRUE(Sync(engine));
  Resync();
  Run("*filter\n"
      "-D FORWARD -m conntrack --ctstate INVALID -m comment --comment \"pointsman: invalid "
      "answers\" "
      "-j POINTSMAN-IPT-INVALID\n"
      "-I POINTSMAN-IPT-FORWARD -m conntrack --ctstate INVALID -j POINTSMAN-IPT-INVALID\n"
      "-D FORWARD -m comment --comment \"pointsman: forward\" -j POINTSMAN-IPT-FORWARD\n"
      "-I FORWARD -m comment --comment \"pointsman: forward\" -j POINTSMAN-IPT-FORWARD\n"
      "COMMIT\n");
  EXPECT_THAT(Reaching(WaysFromOutside()), ElementsAre("cluster IP", "load balancer", "node port"))
      << "or this test says nothing";
  Start();
  EXPECT_GT(Resync(), 0U);
  ExpectPolicyHolds("after the newer agent's first write");
  EXPECT_EQ(Resync(), 0U);
}

TEST_P(NeighboursTest, AnAdministratorsDropInDockerUserHolds) {
  const Neighbour docker = testing::DockerUser(at_.outside);
  // As Docker leaves it.
  Run("*filter\n:FORWARD DROP [0:0]\nCOMMIT\n");
  EXPECT_TRUE(Sync(docker));
  Resync();
  const auto expect_held = [&] {
    // Others' node ports work: what they send is masqueraded, and accepted for that.
    std::vector<Way> ways = WaysFromOutside();
    ways.push_back({"pod to node port", network_->pod(0), at_.node, kNodePort});
    EXPECT_THAT(Reaching(ways), ElementsAre("pod to node port")) << Rules();
  };
  expect_held();
  // Docker starts again.
  Sync(docker);
  EXPECT_EQ(Resync(), 0U) << Rules();
  expect_held();
  EXPECT_FALSE(Sync(docker));
}

TEST_P(NeighboursTest, AnAdministratorsDropBeforeOursHolds) {
  Resync();
  Run(std::string("*filter\n-I FORWARD -s ") + at_.outside + " -j DROP\nCOMMIT\n");
  EXPECT_EQ(Resync(), 0U);
  EXPECT_THAT(Reaching(WaysFromOutside()), IsEmpty()) << Rules();
}

// What refuses everything that it does not know does not refuse Services: as beside kube-proxy.
class FirewallTest : public NeighboursTest {
 protected:
  void ExpectServed(const std::string& when) {
    SCOPED_TRACE(when);
    EXPECT_THAT(Reaching(WaysFromOutside()),
                ElementsAre("cluster IP", "load balancer", "node port"))
        << Rules();
  }
  void ExpectServesBeside(const Neighbour& firewall) {
    EXPECT_TRUE(Sync(firewall));
    Resync();
    ExpectServed("after the first write");
    EXPECT_EQ(Resync(), 0U) << Rules();
    EXPECT_FALSE(Sync(firewall)) << Rules();
    // It starts again: all of its rules come to the top.
    for (const auto& rule : firewall.rules)
      Run("*" + rule.table + "\n-D " + rule.builtin + " " + rule.rule + "\nCOMMIT\n");
    EXPECT_TRUE(Sync(firewall));
    Resync();
    ExpectServed("after the firewall has started again");
    EXPECT_EQ(Resync(), 0U) << Rules();
  }
};

TEST_P(FirewallTest, IptablesServices) {
  ExpectServesBeside(testing::IptablesServices(at_.family));
}
TEST_P(FirewallTest, Ufw) {
  ExpectServesBeside(testing::Ufw(at_.family));
}
TEST_P(FirewallTest, FirewalldIptables) {
  ExpectServesBeside(testing::FirewalldIptables(at_.family, "pod0"));
}
TEST_P(FirewallTest, APolicyOfDrop) {
  Run("*filter\n:FORWARD DROP [0:0]\nCOMMIT\n");
  Resync();
  ExpectServed("after the first write");
}

// While kube-proxy runs beside us, or what it left: ours decide.
TEST_P(NeighboursTest, OursComeBeforeKubeProxysAndStay) {
  if (at_.family != Family::kIPv4) GTEST_SKIP() << "its rules here are of IPv4";
  const Neighbour proxy = testing::KubeProxy(at_.vip, 80, at_.pod(2) + ":8080");
  EXPECT_TRUE(Sync(proxy));
  EXPECT_EQ(Ask(network_->pod(0), at_.vip, 80).server, "pod2");
  Resync();
  EXPECT_EQ(Ask(network_->pod(0), at_.vip, 80).server, "pod1");
  // It only looks whether its jumps are there.
  EXPECT_FALSE(Sync(proxy));
  EXPECT_EQ(Resync(), 0U);
  // Somebody has flushed them, and it makes them first.
  for (const char* builtin : {"PREROUTING", "OUTPUT"})
    Run(std::string("*nat\n-D ") + builtin +
        " -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\nCOMMIT\n");
  EXPECT_TRUE(Sync(proxy));
  EXPECT_EQ(Ask(network_->pod(0), at_.vip, 80).server, "pod2");
  EXPECT_GT(Resync(), 0U);
  EXPECT_EQ(Ask(network_->pod(0), at_.vip, 80).server, "pod1");
  EXPECT_EQ(Ask(network_->node(), at_.vip, 80).server, "pod1");
}

const auto kFamilies = ::testing::Values(kV4, kV6);
const auto kFamilyName = [](const auto& test) {
  return test.param.family == Family::kIPv4 ? "IPv4" : "IPv6";
};
INSTANTIATE_TEST_SUITE_P(Families, NeighboursTest, kFamilies, kFamilyName);
INSTANTIATE_TEST_SUITE_P(Families, PolicyEngineTest, kFamilies, kFamilyName);
INSTANTIATE_TEST_SUITE_P(Families, FirewallTest, kFamilies, kFamilyName);

}  // namespace
}  // namespace pointsman::agent

// Services of the modes that send them on themselves beside policy engines, firewalls and other
// proxies, with real packets: what these refuse stays refused, what they let by works, and their
// agents and ours do not move each other's rules.
#include <future>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "node-agent/iptables/iptables_dataplane.h"
#include "node-agent/nftables/kernel_support.h"
#include "node-agent/nftables/nftables_dataplane.h"
#include "node-agent/testing/dual_stack_network.h"
#include "node-agent/testing/iptables_rules.h"
#include "node-agent/testing/iptables_wish.h"
#include "node-agent/testing/model_maker.h"
#include "node-agent/testing/neighbours/firewalls.h"
#include "node-agent/testing/neighbours/policy_engines.h"
#include "node-agent/testing/neighbours/proxies.h"
#include "node-agent/testing/results.h"
#include "node-agent/testing/run_tool.h"
#include "node-agent/xtables/base_rules.h"
#include "node-agent/xtables/legacy_table.h"

namespace pointsman::agent {
namespace {

using kube::Mode;
using net::Family;
using testing::Ask;
using testing::DualStackNetwork;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::Ip;
using ::testing::IsEmpty;
using testing::Neighbour;
using ::testing::Not;

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
  const char* cluster_ips;
  std::string pod(int k) const { return DualStackNetwork::PodIp(k, family).ToString(); }
};
constexpr Addresses kV4{Family::kIPv4,  "10.96.0.10",   "10.96.0.11",  "198.51.100.7",
                        "192.168.77.1", "192.168.77.2", "10.96.0.0/16"};
constexpr Addresses kV6{Family::kIPv6, "fd00:96::10", "fd00:96::11",  "fd00:51::7",
                        "fd00:77::1",  "fd00:77::2",  "fd00:96::/112"};

struct Case {
  Addresses at;
  Mode mode;
  std::string tools;  // the variant of iptables; "": as the node decides
};

std::string NameOf(const Case& of) {
  return std::string(kube::ToString(of.mode)) + (of.tools.empty() ? "" : "_" + of.tools) +
         (of.at.family == Family::kIPv4 ? "_IPv4" : "_IPv6");
}
void PrintTo(const Case& of, std::ostream* out) {
  *out << NameOf(of);
}

// A node with three pods. Pod 1 is what a Service leads to; pod 0 may reach it, and nothing else
// outside of the node.
class NeighboursTest : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root to make network namespaces";
    if (mode_ == Mode::kNftables && !nft::MissingFeatures(at_.family).empty())
      GTEST_SKIP() << "this kernel cannot run mode nftables";
    testing::WishVariant(GetParam().tools);
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
    settings.mode = mode_;
    settings.cluster_cidrs = {net::IpPrefix::Parse("10.244.0.0/16").value(),
                              net::IpPrefix::Parse("fd00:244::/32").value()};
    OnNode([&] {
      if (mode_ == Mode::kIptables) {
        dataplane_ = std::make_unique<IptablesDataplane>(settings, *tool_);
      } else {
        dataplane_ = std::make_unique<NftablesDataplane>(settings, std::vector{at_.family},
                                                         std::vector{tool_.get()});
      }
    });
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

  testing::PodPolicies Policy() const {
    return {
        {.pod = at_.pod(1), .link = "pod1", .ingress_from = std::vector<std::string>{at_.pod(0)}}};
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

  const Addresses at_ = GetParam().at;
  Mode mode_ = GetParam().mode;
  std::unique_ptr<DualStackNetwork> network_;
  std::unique_ptr<xtables::IptablesTool> tool_;
  std::unique_ptr<Dataplane> dataplane_;
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
  ExpectPolicyIsKept(KubeRouter(at_.family, Policy(), at_.cluster_ips));
}
TEST_P(PolicyEngineTest, KubeRouterThatComesLater) {
  ExpectPolicyIsKeptByALateEngine(KubeRouter(at_.family, Policy(), at_.cluster_ips));
}
TEST_P(PolicyEngineTest, Calico) {
  ExpectPolicyIsKept(Calico(at_.family, Policy(), "pod", testing::CalicoInserts::kFirst));
}
// Its agent wants the end of the chain, where ours would have to be.
TEST_P(PolicyEngineTest, CalicoThatAppends) {
  const Neighbour calico = Calico(at_.family, Policy(), "pod", testing::CalicoInserts::kLast);
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
  ExpectPolicyIsKeptByALateEngine(
      Calico(at_.family, Policy(), "pod", testing::CalicoInserts::kLast));
}
TEST_P(PolicyEngineTest, Weave) {
  ExpectPolicyIsKept(Weave(Policy()));
}
TEST_P(PolicyEngineTest, AzureNpm) {
  ExpectPolicyIsKept(AzureNpm(Policy()));
}

// An agent of an older version had one chain that refused and accepted, in front of everything.
TEST_P(PolicyEngineTest, WhatAnOlderAgentLeftIsTakenOverAndPutInOrder) {
  if (mode_ != Mode::kIptables) GTEST_SKIP() << "it had no such rules for this mode";
  const Neighbour engine = KubeRouter(at_.family, Policy(), at_.cluster_ips);
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
  // nftables mode has rules there from now on.
  EXPECT_EQ(Resync() > 0, mode_ == Mode::kNftables);
  EXPECT_EQ(Resync(), 0U) << Rules();
  EXPECT_THAT(Reaching(WaysFromOutside()), IsEmpty()) << Rules();
}

// … and what nftables mode finds there, of whatever age, is not passed either by what it puts there
// for a policy of DROP.
TEST_P(NeighboursTest, AnAdministratorsDropThatWasThereHoldsInNftablesMode) {
  if (mode_ != Mode::kNftables) GTEST_SKIP() << "as kube-proxy, iptables mode comes first";
  Run(std::string("*filter\n:FORWARD DROP [0:0]\n-A FORWARD -s ") + at_.outside +
      " -j DROP\nCOMMIT\n");
  Resync();
  std::vector<Way> ways = WaysFromOutside();
  ways.push_back({"pod to node port", network_->pod(0), at_.node, kNodePort});
  EXPECT_THAT(Reaching(ways), ElementsAre("pod to node port")) << Rules();
  EXPECT_EQ(Resync(), 0U) << Rules();
}

// A home-made firewall, with iptables mode's rules in front of it: a handover changes nothing of
// what it refuses.
TEST_P(NeighboursTest, AHandoverKeepsTheOrderAmongOthersRules) {
  Run("*filter\n:FORWARD DROP [0:0]\nCOMMIT\n");
  Resync();
  Run(std::string("*filter\n-A FORWARD -s ") + at_.outside + " -j DROP\nCOMMIT\n");
  const std::vector<Way> ways = WaysFromOutside();
  const auto before = ElementsAre("cluster IP", "load balancer", "node port");
  EXPECT_THAT(Reaching(ways), before) << Rules();
  mode_ = mode_ == Mode::kIptables ? Mode::kNftables : Mode::kIptables;
  if (mode_ == Mode::kNftables && !nft::MissingFeatures(at_.family).empty())
    GTEST_SKIP() << "this kernel cannot run mode nftables";
  const std::unique_ptr<Dataplane> old = std::move(dataplane_);
  Start();
  Resync();
  OnNode([&] {
    old->Drain(maker_.model);
    EXPECT_SYNCED(old->Remove());
  });
  EXPECT_THAT(Reaching(ways), before) << Rules();
  Resync();  // route_localnet, which the old one has undone
  EXPECT_EQ(Resync(), 0U) << Rules();
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
TEST_P(FirewallTest, Docker) {
  Run("*filter\n:FORWARD DROP [0:0]\nCOMMIT\n");
  const Neighbour docker = testing::DockerUser(at_.pod(0));
  EXPECT_TRUE(Sync(docker));
  Resync();
  ExpectServed("after the first write");
  // It starts again, and puts its first chain in front of ours that refuse.
  Sync(docker);
  EXPECT_EQ(Resync(), 0U) << Rules();
  EXPECT_FALSE(Sync(docker)) << Rules();
  ExpectServed("after Docker has started again");
}
// What pods send to a Service is accepted where what they send to each other is: in no mode by the
// service proxy.
TEST_P(FirewallTest, PodsReachServicesWhereTheNetworkPluginLetsThemForward) {
  Run("*filter\n:FORWARD DROP [0:0]\nCOMMIT\n");
  Resync();
  const std::vector<Way> ways{{"pod", network_->pod(2), at_.pod(1), 8080},
                              {"cluster IP", network_->pod(2), at_.vip, 80},
                              {"node port", network_->pod(2), at_.node, kNodePort}};
  EXPECT_THAT(Reaching(ways), ElementsAre("node port")) << "masqueraded\n" << Rules();
  // flannel's chain.
  const char* cidr = at_.family == Family::kIPv4 ? "10.244.0.0/16" : "fd00:244::/32";
  Run(std::string("*filter\n:FLANNEL-FWD - [0:0]\n-A FLANNEL-FWD -s ") + cidr +
      " -j ACCEPT\n-A FLANNEL-FWD -d " + cidr + " -j ACCEPT\n-A FORWARD -j FLANNEL-FWD\nCOMMIT\n");
  Resync();
  EXPECT_THAT(Reaching(ways), ElementsAre("pod", "cluster IP", "node port")) << Rules();
}

// While kube-proxy runs beside us, or what it left: ours decide.
TEST_P(NeighboursTest, OursComeBeforeKubeProxysAndStay) {
  if (at_.family != Family::kIPv4) GTEST_SKIP() << "its rules here are of IPv4";
  if (mode_ != Mode::kIptables) GTEST_SKIP() << "this mode's chains are called before iptables'";
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

// The chain of nftables mode in iptables' table filter.
class ForwardAcceptTest : public NeighboursTest {
 protected:
  static constexpr const char* kChain = "POINTSMAN-NFT-FORWARD";
  static constexpr const char* kJump =
      "-A FORWARD -m comment --comment \"pointsman: forward\" -j POINTSMAN-NFT-FORWARD";

  std::string Filter() {
    std::string rules;
    OnNode([&] { rules = tool_->Save("filter"); });
    return rules;
  }
  bool HasTable() {
    bool has = false;
    OnNode([&] {
      has = tool_->variant() == "legacy" ? xtables::LegacyTablesInUse(at_.family).contains("filter")
                                         : TryNft();
    });
    return has;
  }
  void Policy(const char* policy) {
    Run(std::string("*filter\n:FORWARD ") + policy + " [0:0]\nCOMMIT\n");
  }
  VerifyResult Verify() {
    VerifyResult result;
    OnNode([&] { result = dataplane_->Verify(maker_.model); });
    return result;
  }

 private:
  bool TryNft() const {
    return testing::TryTool(
               {"nft", "list", "table", at_.family == Family::kIPv4 ? "ip" : "ip6", "filter"}) == 0;
  }
};

TEST_P(ForwardAcceptTest, ANodeWithoutSuchATableGetsNone) {
  // To choose between the variants the tool looks at legacy's, which makes it.
  const bool had = HasTable();
  Resync();
  EXPECT_EQ(HasTable(), had);
  OnNode([&] {
    EXPECT_TRUE(dataplane_->Present());
    EXPECT_SYNCED(dataplane_->Remove());
    EXPECT_FALSE(dataplane_->Present());
  });
  EXPECT_EQ(HasTable(), had);
  if (had) {
    EXPECT_THAT(Filter(), Not(HasSubstr("POINTSMAN"))) << "and nothing of ours in it";
  }
}

TEST_P(ForwardAcceptTest, ItIsThereAsLongAsSomethingMayRefuse) {
  Policy("ACCEPT");
  Resync();
  EXPECT_THAT(Filter(), Not(HasSubstr(kChain)));
  Policy("DROP");
  Resync();
  EXPECT_THAT(Filter(), HasSubstr(kJump));
  Policy("ACCEPT");
  Resync();
  EXPECT_THAT(Filter(), Not(HasSubstr(kChain)));
  Run("*filter\n-A FORWARD -j DROP\nCOMMIT\n");
  Resync();
  EXPECT_THAT(Filter(), HasSubstr(std::string(kJump) + "\n-A FORWARD -j DROP"));
}

TEST_P(ForwardAcceptTest, WhatIsDamagedIsSeenAndRepaired) {
  Policy("DROP");
  Resync();
  const auto rules = [&] {
    std::string text;
    OnNode([&] { text = testing::RulesOf(*tool_); });
    return text;
  };
  const std::string good = rules();
  for (const char* damage : {"-F POINTSMAN-NFT-FORWARD", "-A POINTSMAN-NFT-FORWARD -j ACCEPT",
                             "-F FORWARD", "-A FORWARD -j POINTSMAN-NFT-FORWARD",
                             "-A INPUT -j POINTSMAN-NFT-FORWARD", "-N POINTSMAN-NFT-STRANGER"}) {
    SCOPED_TRACE(damage);
    Run(std::string("*filter\n") + damage + "\nCOMMIT\n");
    EXPECT_FALSE(Verify().ok());
    OnNode([&] {
      const SyncResult result = dataplane_->FullSync(maker_.model);
      EXPECT_SYNCED(result);
      EXPECT_GT(result.repaired, 0U);
      EXPECT_VERIFIED(dataplane_->Verify(maker_.model));
    });
    EXPECT_EQ(rules(), good);
  }
}

// A killed agent's successor, and --cleanup.
TEST_P(ForwardAcceptTest, AnotherProcessAdoptsAndRemovesIt) {
  Policy("DROP");
  Resync();
  Start();
  EXPECT_EQ(Resync(), 0U);
  // The table went, and the chain is what tells of the mode.
  Start();
  OnNode([&] {
    testing::TryTool(
        {"nft", "delete", "table", at_.family == Family::kIPv4 ? "ip" : "ip6", "pointsman"});
    EXPECT_TRUE(dataplane_->Present());
    EXPECT_SYNCED(dataplane_->Remove());
    EXPECT_FALSE(dataplane_->Present());
  });
  EXPECT_THAT(Filter(), Not(HasSubstr(kChain)));
}

// Somebody has put a rule there that only nft knows: what is in the table is not known, and it is
// written to by nobody. Most such rules refuse nothing; a policy of DROP does.
TEST_P(ForwardAcceptTest, ATableThatOnlyNftKnowsIsLeftAloneUnlessItDrops) {
  if (GetParam().tools != "nft") GTEST_SKIP() << "only iptables-nft's tables can be so";
  Run("*filter\n-A FORWARD -j RETURN\nCOMMIT\n");
  const char* family = at_.family == Family::kIPv4 ? "ip" : "ip6";
  OnNode([&] {
    testing::RunTool({"nft", "add", "rule", family, "filter", "FORWARD", "meta", "mark", "set",
                      "numgen", "inc", "mod", "2"});
    EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
    EXPECT_VERIFIED(dataplane_->Verify(maker_.model));
    testing::RunTool({"nft", "chain", family, "filter", "FORWARD", "{ policy drop; }"});
    const SyncResult result = dataplane_->FullSync(maker_.model);
    ASSERT_EQ(result.problems.size(), 1U);
    EXPECT_THAT(result.problems[0].object, HasSubstr("chain FORWARD of table filter"));
    EXPECT_THAT(result.problems[0].message, HasSubstr("nft list table"));
    EXPECT_EQ(result.problems[0].family, at_.family);
    EXPECT_SYNCED(dataplane_->Remove());
  });
}

// A Service's change starts no process, whatever there is in table filter.
TEST_P(ForwardAcceptTest, ADeltaWritesNothingThere) {
  Policy("DROP");
  Resync();
  Run("*filter\n-F POINTSMAN-NFT-FORWARD\nCOMMIT\n");
  OnNode([&] {
    const ModelDelta delta = maker_.Put(testing::MakeEntry(
        "new", kube::Protocol::kTcp, at_.other_vip, 81, {testing::MakeBackend(at_.pod(2), 8080)}));
    EXPECT_SYNCED(dataplane_->Sync(maker_.model, delta));
  });
  EXPECT_FALSE(Verify().ok()) << "the next full sync's";
  Resync();
}

const std::vector<Case>& NftablesCases() {
  static const std::vector<Case> cases{{kV4, Mode::kNftables, "nft"},
                                       {kV6, Mode::kNftables, "nft"},
                                       {kV4, Mode::kNftables, "legacy"},
                                       {kV6, Mode::kNftables, "legacy"}};
  return cases;
}

std::vector<Case> Cases() {
  std::vector<Case> cases{{kV4, Mode::kIptables, ""}, {kV6, Mode::kIptables, ""}};
  cases.insert(cases.end(), NftablesCases().begin(), NftablesCases().end());
  return cases;
}

std::string CaseName(const ::testing::TestParamInfo<Case>& test) {
  return NameOf(test.param);
}
INSTANTIATE_TEST_SUITE_P(Modes, NeighboursTest, ::testing::ValuesIn(Cases()), CaseName);
INSTANTIATE_TEST_SUITE_P(Modes, PolicyEngineTest, ::testing::ValuesIn(Cases()), CaseName);
INSTANTIATE_TEST_SUITE_P(Modes, FirewallTest, ::testing::ValuesIn(Cases()), CaseName);
INSTANTIATE_TEST_SUITE_P(Modes, ForwardAcceptTest, ::testing::ValuesIn(NftablesCases()), CaseName);

}  // namespace
}  // namespace pointsman::agent

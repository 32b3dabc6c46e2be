// A handover is judged by what clients meet: with the kernel's own rules, and connections of pods
// and of a machine outside, that the node's probes know nothing of.
#include "node-agent/traffic/client_traffic.h"

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "kube/pointsman/change_impact.h"
#include "kube/pointsman/neighbour_names.h"
#include "node-agent/agent/kernel_environment.h"
#include "node-agent/dataplane/sync_problems.h"
#include "node-agent/handover/mode_controller.h"
#include "node-agent/testing/client_network.h"
#include "node-agent/testing/iptables_wish.h"
#include "node-agent/testing/steady_clients.h"

namespace pointsman::agent {
namespace {

using kube::Mode;
using std::chrono_literals::operator""ms;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::RunTool;
using testing::SteadyClient;

// As in production, but shorter.
constexpr ClientTraffic::Windows kWindows{
    .before = 1500ms, .after = 3000ms, .answer_within = 1200ms, .compare = 300ms};

class ClientTrafficTest : public testing::ClientNetworkTest {
 protected:
  void SetUp() override {
    ClientNetworkTest::SetUp();
    if (IsSkipped()) return;
    environment_.emplace("", "", "", "text", kWindows);
    controller_.emplace(*environment_);
  }
  void TearDown() override {
    clients_.clear();
    if (controller_) {
      EXPECT_THAT(controller_->RemoveAll(), IsEmpty());
    }
    ClientNetworkTest::TearDown();
  }
  const ModeState& state() const { return controller_->state(); }
  bool CanRun(std::initializer_list<Mode> modes) {
    return std::all_of(modes.begin(), modes.end(), [this](Mode mode) {
      return environment_->Preflight(mode, {}, true).passed;
    });
  }

  // Until nothing is watched or drains any more.
  void Settle() {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!state().watching.empty() || state().draining) {
      ASSERT_LT(std::chrono::steady_clock::now(), deadline) << state().watching;
      std::this_thread::sleep_until(std::min(controller_->NextDeadline(), deadline));
      controller_->Tick(maker_.model);
    }
  }
  void Begin(Mode mode) {
    settings_.mode = mode;
    settings_.fallback_modes.clear();
    settings_.drain_timeout = std::chrono::seconds(2);
    // Found or not yet: what is tried here is what clients tell.
    settings_.neighbours.accept = kube::AllNeighbourNames();
    controller_->Apply(settings_, maker_.model);
    ASSERT_FALSE(state().failed) << Describe(state().problems);
  }
  void Apply(Mode mode) {
    Begin(mode);
    Settle();
  }
  void ClientsOfTheClusterIp() {
    for (const char* pod : {"pod1", "pod2", "pod3"})
      clients_.push_back(std::make_unique<SteadyClient>(pod, kWeb));
  }
  void ExpectReverted(Mode from, Mode to, const std::string& service) {
    EXPECT_EQ(state().active, from);
    EXPECT_EQ(state().desired, to);
    EXPECT_THAT(state().reverted_reason,
                AllOf(HasSubstr(service), HasSubstr("stayed unanswered"),
                      HasSubstr(std::string("handover to ") + std::string(kube::ToString(to)))));
    for (const auto& client : clients_) {
      const uint64_t opened = client->opened();
      EXPECT_TRUE(Await([&] { return client->opened() > opened + 5; })) << "it is served again";
    }
  }
  void ExpectStays(Mode mode) {
    EXPECT_EQ(state().active, mode);
    EXPECT_EQ(state().reverted_reason, "");
  }

  kube::ProxySettings settings_;
  std::vector<std::unique_ptr<SteadyClient>> clients_;
  std::optional<KernelEnvironment> environment_;
  std::optional<ModeController> controller_;
};

TEST_F(ClientTrafficTest, AHandoverThatServesItsClientsStays) {
  if (!CanRun({Mode::kIptables, Mode::kNftables})) GTEST_SKIP() << "this kernel cannot run both";
  Apply(Mode::kIptables);
  ClientsOfTheClusterIp();
  clients_.push_back(std::make_unique<SteadyClient>("outside", kNodePort));
  const uint64_t answered = ProcessWatchedTraffic().answered;
  Apply(Mode::kNftables);
  ExpectStays(Mode::kNftables);
  EXPECT_GT(ProcessWatchedTraffic().answered, answered + 50) << "it was awake";
  const TrafficFigures& seen = state().toll.traffic;
  EXPECT_GT(seen.before, 50U);
  EXPECT_GT(seen.after, 50U);
  EXPECT_LT(20 * seen.failed_after, seen.after);
}

class FiguresTest : public ClientTrafficTest {
 protected:
  // Clients of a Service with four endpoints, when new connections have just gone to another mode.
  void SwitchWithClients() {
    std::vector<Backend> backends;
    for (uint16_t port = 8081; port <= 8084; ++port) {
      network_->Serve("pod4", "10.244.4.2", port);
      backends.push_back(testing::MakeBackend("10.244.4.2", port));
    }
    maker_.Put(testing::MakeEntry("four", kube::Protocol::kTcp, "10.96.0.40", 80, backends));
    Apply(Mode::kIptables);
    for (const char* pod : {"pod1", "pod2", "pod3"}) {
      for (int i = 0; i < 3; ++i)
        clients_.push_back(
            std::make_unique<SteadyClient>(pod, net::IpPort{testing::Ip("10.96.0.40"), 80},
                                           SteadyClient::Habits{.every = 20ms, .patience = 50ms}));
    }
    Begin(Mode::kNftables);
    while (state().active != Mode::kNftables) {
      std::this_thread::sleep_until(controller_->NextDeadline());
      controller_->Tick(maker_.model);
    }
  }
  // From now on one of the four does not answer these.
  void Drop(const std::string& source) {
    const xtables::IptablesTool tool(net::Family::kIPv4);
    Tool(fmt::format("ip netns exec pod4 iptables-{} -A INPUT -s {} -p tcp --dport 8084 -j DROP",
                     tool.variant(), source));
  }
};

// A quarter of the connections: too few for the handover to be undone, and told all the same.
TEST_F(FiguresTest, WhatFailsForSomeIsMeasuredThoughTheHandoverStays) {
  if (!CanRun({Mode::kIptables, Mode::kNftables})) GTEST_SKIP() << "this kernel cannot run both";
  SwitchWithClients();
  for (const char* pod : {"10.244.1.2", "10.244.2.2", "10.244.3.2"})
    Drop(pod);
  while (!state().watching.empty()) {
    std::this_thread::sleep_until(controller_->NextDeadline());
    controller_->Tick(maker_.model);
  }
  ExpectStays(Mode::kNftables);
  const TrafficFigures& seen = state().toll.traffic;
  EXPECT_GT(seen.after, 100U);
  EXPECT_GT(100 * seen.failed_after, 10 * seen.after);
  EXPECT_LT(100 * seen.failed_after, 34 * seen.after);
  EXPECT_LT(20 * seen.failed_before, seen.before);
  EXPECT_TRUE(kube::FailsMore({.connections_before = static_cast<int64_t>(seen.before),
                               .failed_before = static_cast<int64_t>(seen.failed_before),
                               .connections_after = static_cast<int64_t>(seen.after),
                               .failed_after = static_cast<int64_t>(seen.failed_after)},
                              5));
}

// Endpoints die whenever they like: that is no figure of the handover's.
TEST_F(FiguresTest, AnEndpointThatDiesIsLeftOut) {
  if (!CanRun({Mode::kIptables, Mode::kNftables})) GTEST_SKIP() << "this kernel cannot run both";
  SwitchWithClients();
  Drop("0.0.0.0/0");
  while (!state().watching.empty()) {
    std::this_thread::sleep_until(controller_->NextDeadline());
    controller_->Tick(maker_.model);
  }
  ExpectStays(Mode::kNftables);
  const TrafficFigures& seen = state().toll.traffic;
  EXPECT_LE(20 * seen.failed_after, seen.after);
}

TEST_F(ClientTrafficTest, WithoutClientsNothingIsWaitedForAfterTheSwitch) {
  if (!CanRun({Mode::kIptables, Mode::kNftables})) GTEST_SKIP() << "this kernel cannot run both";
  // Longer than a busy machine takes for all the rest.
  ClientTraffic::Windows windows = kWindows;
  windows.after = std::chrono::seconds(60);
  controller_.reset();
  environment_.emplace("", "", "", "text", windows);
  controller_.emplace(*environment_);
  Apply(Mode::kIptables);
  const auto begin = std::chrono::steady_clock::now();
  Apply(Mode::kNftables);
  ExpectStays(Mode::kNftables);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, windows.after)
      << "only the windows before the switch and before the removal";
}

TEST_F(ClientTrafficTest, WithoutServicesNothingIsWaitedForAtAll) {
  if (!CanRun({Mode::kIptables, Mode::kNftables})) GTEST_SKIP() << "this kernel cannot run both";
  maker_.model.entries.clear();
  Begin(Mode::kIptables);
  Begin(Mode::kNftables);
  ExpectStays(Mode::kNftables);
  EXPECT_FALSE(state().draining);
}

// Docker, ufw: each mode accepts there what it sends on, from its first packet to the last one of a
// connection that it has left.
class ForwardDropTest : public ClientTrafficTest,
                        public ::testing::WithParamInterface<const char*> {
 protected:
  void TearDown() override {
    ClientTrafficTest::TearDown();
    testing::WishVariant("");
  }
};

TEST_P(ForwardDropTest, WhereForwardDropsAHandoverToNftablesAndBackStays) {
  testing::WishVariant(GetParam());
  try {
    xtables::IptablesTool{net::Family::kIPv4};
  } catch (const std::runtime_error& error) {
    testing::WishVariant("");
    GTEST_SKIP() << error.what();
  }
  if (!CanRun({Mode::kIptables, Mode::kNftables})) GTEST_SKIP() << "this kernel cannot run both";
  Iptables("-P FORWARD DROP");
  // As network plugins have it.
  Iptables("-A FORWARD -s 10.244.0.0/16 -d 10.244.0.0/16 -j ACCEPT");
  Apply(Mode::kIptables);
  for (int i = 0; i < 3; ++i)
    clients_.push_back(std::make_unique<SteadyClient>("outside", kNodePort));
  ClientsOfTheClusterIp();
  testing::Stream stream(testing::TestNetwork::At("outside"), kNodePort.ip.ToString(),
                         kNodePort.port);
  ASSERT_TRUE(stream.Ask().ok());
  for (const Mode mode : {Mode::kNftables, Mode::kIptables, Mode::kNftables}) {
    SCOPED_TRACE(kube::ToString(mode));
    Apply(mode);
    ExpectStays(mode);
    EXPECT_TRUE(stream.Ask().ok()) << "it was there before";
    for (const auto& client : clients_) {
      const uint64_t opened = client->opened();
      EXPECT_TRUE(Await([&] { return client->opened() > opened + 5; }));
      EXPECT_EQ(client->failed(), 0U);
    }
    EXPECT_EQ(xtables::IptablesTool(net::Family::kIPv4).Save("filter").find("NFT-FORWARD") !=
                  std::string::npos,
              mode == Mode::kNftables);
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, ForwardDropTest, ::testing::Values("legacy", "nft"),
                         [](const auto& test) { return std::string(test.param); });

// Somebody's own chain drops, whatever iptables accepts, and knows the mark of iptables mode only.
TEST_F(ClientTrafficTest, AFirewallOfNfTablesThatKnowsAnotherMarkCutsNodePortsOff) {
  if (!CanRun({Mode::kIptables, Mode::kNftables})) GTEST_SKIP() << "this kernel cannot run both";
  if (testing::TryTool({"nft", "add", "table", "inet", "firewall"}) != 0)
    GTEST_SKIP() << "no nft here";
  RunTool({"nft", "add", "chain", "inet", "firewall", "forward",
           "{ type filter hook forward priority 5; policy drop; }"});
  RunTool({"nft", "add", "rule", "inet", "firewall", "forward", "ct state established,related",
           "accept"});
  RunTool({"nft", "add", "rule", "inet", "firewall", "forward", "meta mark & 0x4000 == 0x4000",
           "accept"});
  settings_.nftables.masquerade_bit = 15;
  Apply(Mode::kIptables);
  for (int i = 0; i < 3; ++i)
    clients_.push_back(std::make_unique<SteadyClient>("outside", kNodePort));
  Apply(Mode::kNftables);
  ExpectReverted(Mode::kIptables, Mode::kNftables, "default/web");
}

TEST_F(ClientTrafficTest, ForwardPolicyDropCutsPodsWhenIpvsGoes) {
  if (!CanRun({Mode::kIptables, Mode::kIpvs})) GTEST_SKIP() << "this kernel cannot run both";
  Iptables("-P FORWARD DROP");
  Apply(Mode::kIpvs);
  ClientsOfTheClusterIp();
  Apply(Mode::kIptables);
  ExpectReverted(Mode::kIpvs, Mode::kIptables, "default/web");
}

// Whoever has a Service and its clients can make it look so. It is reverted, since a mode that does
// not get along with one namespace's policies looks the same; and it is said.
TEST_F(ClientTrafficTest, ThatOneNamespaceAloneIsWorseIsSaid) {
  if (!CanRun({Mode::kIptables, Mode::kNftables})) GTEST_SKIP() << "this kernel cannot run both";
  ServicePortEntry shop = testing::MakeEntry("shop", kube::Protocol::kTcp, "10.96.0.30", 80,
                                             {testing::MakeBackend("10.244.4.2", 8080)});
  shop.id.ns = "team";
  maker_.Put(shop);
  maker_.Put(testing::MakeEntry("other", kube::Protocol::kTcp, "10.96.0.31", 80,
                                {testing::MakeBackend("10.244.5.2", 8080)}));
  Apply(Mode::kIptables);
  for (const char* pod : {"pod1", "pod2", "pod3"}) {
    for (const char* vip : {"10.96.0.30", "10.96.0.31"})
      clients_.push_back(std::make_unique<SteadyClient>(pod, net::IpPort{testing::Ip(vip), 80}));
  }
  Begin(Mode::kNftables);
  while (state().active != Mode::kNftables) {
    std::this_thread::sleep_until(controller_->NextDeadline());
    controller_->Tick(maker_.model);
  }
  // From now on it answers the node alone.
  const xtables::IptablesTool tool(net::Family::kIPv4);
  for (const char* pod : {"10.244.1.2", "10.244.2.2", "10.244.3.2"})
    Tool(fmt::format("ip netns exec pod4 iptables-{} -A INPUT -s {} -j DROP", tool.variant(), pod));
  Settle();
  EXPECT_EQ(state().active, Mode::kIptables);
  EXPECT_THAT(state().reverted_reason,
              AllOf(HasSubstr("team/shop"), Not(HasSubstr("default/")),
                    HasSubstr("all of these are of namespace team, and clients of Services of 1 "
                              "other namespaces are answered")));
}

// What pods send to a Service comes by INPUT in ipvs mode, where the firewall refuses them; in
// iptables mode it is let through for its DNAT.
TEST_F(ClientTrafficTest, AFirewallThatKeepsPodsFromTheNodeCutsThemOffFromIpvs) {
  if (!CanRun({Mode::kIptables, Mode::kIpvs})) GTEST_SKIP() << "this kernel cannot run both";
  for (const char* chain : {"INPUT", "FORWARD"}) {
    const std::string in = std::string("-A ") + chain;
    Iptables("-t mangle " + in + " -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT");
    Iptables("-t mangle " + in + " -m conntrack --ctstate DNAT -j ACCEPT");
    Iptables("-t mangle " + in + " -s 10.244.0.0/16 -d 10.96.0.0/16 -j DROP");
  }
  Apply(Mode::kIptables);
  ClientsOfTheClusterIp();
  Apply(Mode::kIpvs);
  ExpectReverted(Mode::kIptables, Mode::kIpvs, "default/web");
}

// Security groups for pods on AWS, VRFs, egress gateways: what comes from a pod has a table of its
// own. What IPVS sends on leaves by the main one, and the network does not take a pod's address
// there. The node itself may use it.
TEST_F(ClientTrafficTest, ARoutingRuleForPodsInterfacesCutsThemOffFromIpvs) {
  if (!CanRun({Mode::kIptables, Mode::kIpvs})) GTEST_SKIP() << "this kernel cannot run both";
  network_->AddHost("fabric", "10.245.0.2", "10.245.0.1");
  network_->Serve("fabric", "10.245.0.2", 8080);
  for (const char* line : {
           "ip link add up1 type veth peer name eth1 netns fabric",
           "ip address add 10.246.0.1/30 dev up1",
           "ip link set up1 up",
           "ip -n fabric address add 10.246.0.2/30 dev eth1",
           "ip -n fabric link set eth1 up",
           "ip -n fabric route add 10.244.0.0/16 via 10.246.0.1",
           "ip route add default via 10.246.0.2 table 101",
           "ip netns exec fabric sysctl -qw net.ipv4.conf.all.rp_filter=1",
       })
    Tool(line);
  for (const char* pod : {"vpod1", "vpod2", "vpod3"})
    RunTool({"ip", "rule", "add", "iif", pod, "lookup", "101", "pref", "100"});
  maker_.Put(testing::MakeEntry("remote", kube::Protocol::kTcp, "10.96.0.20", 80,
                                {testing::MakeBackend("10.245.0.2", 8080, /*local=*/false)}));
  Apply(Mode::kIptables);
  for (const char* pod : {"pod1", "pod2", "pod3"}) {
    clients_.push_back(
        std::make_unique<SteadyClient>(pod, net::IpPort{testing::Ip("10.96.0.20"), 80}));
  }
  Apply(Mode::kIpvs);
  ExpectReverted(Mode::kIptables, Mode::kIpvs, "default/remote");
}

}  // namespace
}  // namespace pointsman::agent

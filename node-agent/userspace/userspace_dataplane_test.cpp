// What is userspace mode's alone; what it has in common with the others is in node-agent/contract/.
// Real rules, a real forwarder, real packets: in a network namespace on this machine's kernel, and
// in a kernel of its own (cmake/KernelTest.cmake).
#include "node-agent/userspace/userspace_dataplane.h"

#include <filesystem>
#include <map>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "kube/testing/eventually.h"
#include "node-agent/contract/empty_node.h"
#include "node-agent/contract/traffic.h"
#include "node-agent/contract/userspace_under_test.h"
#include "node-agent/iptables/iptables_dataplane.h"
#include "node-agent/testing/run_tool.h"
#include "node-agent/userspace/forwarder/address_plan.h"
#include "node-agent/userspace/testing/sockets.h"

namespace pointsman::agent {
namespace {

using kube::Mode;
using net::Family;
using testing::ExpectDropped;
using testing::ExpectRefused;
using ::testing::HasSubstr;
using testing::Ip;
using testing::kTransports;
using testing::MakeBackend;
using testing::MakeEntry;
using testing::RunTool;
using testing::Stream;
using testing::Text;
using testing::Transport;
using testing::UserspaceUnderTest;

class Traffic : public testing::DataplaneTraffic {
 protected:
  using DataplaneTraffic::DataplaneTraffic;

  UserspaceDataplane& userspace() { return static_cast<UserspaceDataplane&>(*dataplane_); }
  UserspaceUnderTest& mode_under_test() { return static_cast<UserspaceUnderTest&>(mode()); }
  ServicePortEntry Web(const std::vector<int>& pods, Protocol protocol = Protocol::kTcp) const {
    return Entry(protocol == Protocol::kTcp ? "web" : "dns", 10, pods, protocol);
  }
  std::string Server() { return FromOutside(Vip(10), 80).server; }
};

TEST_P(Traffic, TheForwarderItselfIsNotReachable) {
  maker_.Put(Web({0}));
  FullSync();
  const std::string rules = mode().Kernel();
  const std::string rule = "-A POINTSMAN-USP-INPUT -p tcp -m tcp --dport ";
  const size_t at = rules.find(rule);
  ASSERT_NE(at, std::string::npos);
  const auto port = static_cast<uint16_t>(std::stoi(rules.substr(at + rule.size())));
  for (const Transport transport : kTransports)
    ExpectRefused(FromOutside(NodeIp(), port, Over(transport)));
  // Nor a slot's address, for somebody on the same wire.
  const std::string slot = forwarder::SlotAddress(GetParam().family, 1).ToString();
  ExpectDropped(FromOutside(slot, port, Briefly()));
}

TEST_P(Traffic, NodePortsClaimNoSocket) {
  ServicePortEntry entry = Web({0});
  entry.node_port = 30080;
  AddBoth(entry);
  FullSync();
  EXPECT_NO_THROW(testing::ListenTcp({Ip(NodeIp()), 30080}));
  EXPECT_NO_THROW(testing::BindUdp({Ip(NodeIp()), 30080}));
}

TEST_P(Traffic, ADeadBackendIsNotSeenByClients) {
  // Nothing listens on that port; kube-proxy's other modes would let every other client fail.
  ServicePortEntry entry = Web({0, 1});
  entry.internal.backends[0].port = 9;
  entry.external = entry.internal;
  AddBoth(entry);
  FullSync();
  for (int i = 0; i < 6; ++i) {
    for (const Transport transport : kTransports)
      EXPECT_EQ(FromOutside(Vip(10), 80, Over(transport)).server, "pod1");
  }
}

TEST_P(Traffic, StreamsSurviveARestartAndANewVersionOfTheAgent) {
  maker_.Put(Web({0}));
  FullSync();
  Stream pod(network_->pod(2), Vip(10), 80);
  Stream outside(network_->outside(), Vip(10), 80);
  ASSERT_EQ(pod.Ask().server, "pod0");
  const auto alive = [&] { return pod.Ask().ok() && outside.Ask().ok(); };
  Put(Web({1}));
  const pid_t forwarder = userspace().forwarder_pid();
  Restart();
  EXPECT_TRUE(alive());
  EXPECT_EQ(dataplane_->FullSync(maker_.model).kernel_writes, 0U);
  EXPECT_EQ(userspace().forwarder_pid(), forwarder);
  EXPECT_TRUE(alive());
  dataplane_.reset();
  dataplane_ = mode_under_test().MakeVersion("next", settings_, {GetParam().family});
  FullSync();
  EXPECT_NE(userspace().forwarder_pid(), forwarder);
  EXPECT_TRUE(alive());
  EXPECT_EQ(Server(), "pod1");
}

TEST_P(Traffic, AKilledForwarderComesBackWithoutTheAgentsSync) {
  maker_.Put(Web({0}));
  FullSync();
  const pid_t before = userspace().forwarder_pid();
  ASSERT_GT(before, 0);
  ASSERT_EQ(::kill(before, SIGKILL), 0);
  EXPECT_TRUE(Eventually([&] { return Server() == "pod0"; }));
  EXPECT_NE(userspace().forwarder_pid(), before);
  ExpectVerified();
  Put(Web({1}));
  EXPECT_EQ(Server(), "pod1");
}

// An endpoint that is the Service's own address would go round for ever.
TEST_P(Traffic, AServiceThatPointsToItselfDoesNotGoRound) {
  for (const int number : {10, 11}) {
    ServicePortEntry entry = Entry("s" + std::to_string(number), number, {});
    entry.internal.backends = entry.external.backends = {MakeBackend(Vip(10), 80)};
    maker_.Put(entry);
  }
  FullSync();
  for (const int number : {10, 11}) {
    const uint64_t before = userspace().Statistics().accepted;
    EXPECT_FALSE(FromOutside(Vip(number), 80, Briefly()).ok());
    EXPECT_EQ(userspace().Statistics().accepted, before + 1);
  }
}

// Make before break, there and back, with streams open across.
TEST_P(Traffic, HandoverToAndFromIptablesMode) {
  xtables::IptablesTool tool(GetParam().family);
  IptablesDataplane iptables(settings_, tool);
  maker_.Put(Web({0}));
  maker_.Put(Web({0}, Protocol::kUdp));
  FullSync();
  const auto ask = [&] { return FromPod(Vip(10), 80, {}, 2); };
  const auto udp = [&] {
    return FromPod(Vip(10), 80, {.transport = Transport::kUdp, .source_port = 45000}, 2);
  };
  Stream forwarded(network_->pod(2), Vip(10), 80);
  ASSERT_EQ(forwarded.Ask().peer, Gateway(0));
  ASSERT_EQ(udp().peer, Gateway(0));

  EXPECT_SYNCED(iptables.FullSync(maker_.model));
  EXPECT_GE(dataplane_->Drain(maker_.model).connections, 1U);
  Stream direct(network_->pod(2), Vip(10), 80);
  EXPECT_EQ(direct.Ask().peer, PodIp(2));
  EXPECT_TRUE(forwarded.Ask().ok());
  EXPECT_TRUE(udp().ok());
  // Endpoints that go while it drains: its UDP clients are told too.
  maker_.Put(Web({1}, Protocol::kUdp));
  dataplane_->Drain(maker_.model);
  EXPECT_EQ(udp().server, "pod1");
  // And back, before the drain is over.
  FullSync();
  iptables.Drain(maker_.model);
  EXPECT_EQ(ask().peer, Gateway(0));
  EXPECT_TRUE(direct.Ask().ok());
  EXPECT_TRUE(forwarded.Ask().ok());
  EXPECT_SYNCED(iptables.Remove());
  EXPECT_TRUE(direct.Ask().ok());
  EXPECT_TRUE(forwarded.Ask().ok());
  // To the end this time: what is left is the client's next datagram, which nothing may swallow.
  EXPECT_TRUE(udp().ok());
  EXPECT_SYNCED(iptables.FullSync(maker_.model));
  dataplane_->Drain(maker_.model);
  EXPECT_SYNCED(dataplane_->Remove());
  EXPECT_FALSE(forwarded.Ask().ok());  // cut at the drain's end
  EXPECT_EQ(udp().peer, PodIp(2));
  EXPECT_TRUE(direct.Ask().ok());
  EXPECT_SYNCED(iptables.Remove());
}

// Five backends with affinity, in TCP and UDP.
class Bound : public Traffic {
 protected:
  static constexpr int kPods = 5;
  using Key = std::pair<Transport, net::IpAddress>;

  Bound() : Traffic(kPods) {}
  void SetUp() override {
    Traffic::SetUp();
    if (IsSkipped()) return;
    for (const Transport transport : kTransports)
      maker_.Put(Affine(transport, {0, 1, 2, 3, 4}));
    FullSync();
  }
  ServicePortEntry Affine(Transport transport, const std::vector<int>& pods) const {
    ServicePortEntry entry =
        Web(pods, transport == Transport::kUdp ? Protocol::kUdp : Protocol::kTcp);
    entry.affinity_timeout = std::chrono::hours(1);
    return entry;
  }
  EntryPtr EntryOf(Transport transport) const {
    return maker_.model.entries.at(Affine(transport, {}).id);
  }
  net::IpAddress Backend(int pod) const { return Ip(PodIp(pod)); }
  // Each pod is a client, and the machine outside: as number kPods.
  net::IpAddress Client(int i) const { return Ip(i < kPods ? PodIp(i) : OutsideIp()); }
  int Served(Transport transport, int client) {
    const testing::Reply reply = client < kPods ? FromPod(Vip(10), 80, Over(transport), client)
                                                : FromOutside(Vip(10), 80, Over(transport));
    testing::ExpectServed(reply);
    return reply.ok() ? reply.server.back() - '0' : -1;
  }
  // Of the mode.
  std::map<Key, ClientBinding> Bindings() {
    std::map<Key, ClientBinding> all;
    for (const ClientBinding& binding : dataplane_->Bindings(maker_.model)) {
      const Transport transport =
          binding.entry->id.protocol == Protocol::kUdp ? Transport::kUdp : Transport::kTcp;
      EXPECT_EQ(binding.entry, EntryOf(transport));
      EXPECT_EQ(binding.backend_port, 8080);
      EXPECT_TRUE(all.emplace(Key(transport, binding.client), binding).second);
    }
    return all;
  }
};

TEST_P(Bound, BindingsSayWhoReallyAnswered) {
  EXPECT_TRUE(Bindings().empty());
  std::map<Key, int> answered;
  std::set<int> pods;
  for (const Transport transport : kTransports) {
    for (int client = 0; client <= kPods; ++client) {
      const int pod = answered[{transport, Client(client)}] = Served(transport, client);
      pods.insert(pod);
    }
  }
  EXPECT_EQ(pods.size(), size_t{kPods});
  const auto told = Bindings();
  ASSERT_EQ(told.size(), answered.size());
  for (const auto& [client, pod] : answered) {
    const ClientBinding& binding = told.at(client);
    EXPECT_EQ(binding.backend_ip, Backend(pod));
    EXPECT_LE(binding.left, std::chrono::hours(1));
    EXPECT_GT(binding.left, std::chrono::minutes(57));
  }
  // Another process is told the same, before it has synced.
  Restart();
  EXPECT_EQ(Bindings().size(), told.size());
  // A backend goes, and its clients with it; the other Service has no affinity any more.
  FullSync();
  Put(Affine(Transport::kTcp, {0, 2, 3, 4}));
  ServicePortEntry plain = Affine(Transport::kUdp, {0, 1, 2, 3, 4});
  plain.affinity_timeout = std::chrono::seconds(0);
  Put(plain);
  std::erase_if(answered, [](const auto& item) {
    return item.first.first == Transport::kUdp || item.second == 1;
  });
  const auto rest = Bindings();
  EXPECT_EQ(rest.size(), answered.size());
  for (const auto& [client, binding] : rest)
    EXPECT_EQ(binding.backend_ip, Backend(answered.at(client)));
}

TEST_P(Bound, ClientsGoWhereTheyAreBound) {
  Stream stream(network_->pod(2), Vip(10), 80);
  ASSERT_TRUE(stream.Ask().ok());
  Served(Transport::kUdp, 2);
  const auto before = Bindings();
  // All others to a backend that is not the next one of round robin: all to the same.
  const int chosen = stream.Ask().server == "pod0" ? 1 : 0;
  std::vector<ClientBinding> bindings;
  for (const Transport transport : kTransports) {
    for (int client = 0; client <= kPods; ++client) {
      bindings.push_back(
          {EntryOf(transport), Client(client), Backend(chosen), 8080, std::chrono::minutes(20)});
    }
  }
  EXPECT_SYNCED(dataplane_->Bind(maker_.model, bindings));
  const auto told = Bindings();
  ASSERT_EQ(told.size(), bindings.size());
  for (const auto& [client, binding] : told) {
    const bool bound_before = before.contains(client);
    EXPECT_EQ(binding.backend_ip, bound_before ? before.at(client).backend_ip : Backend(chosen));
    const std::chrono::minutes full(bound_before ? 60 : 20);
    EXPECT_LE(binding.left, full);
    EXPECT_GT(binding.left, full - std::chrono::minutes(3));
  }
  for (int round = 0; round < 2; ++round) {
    for (int client = 0; client <= kPods; ++client) {
      for (const Transport transport : kTransports) {
        EXPECT_EQ(Backend(Served(transport, client)),
                  told.at({transport, Client(client)}).backend_ip);
      }
    }
  }
  EXPECT_TRUE(stream.Ask().ok());
  // They have connected: their time is the whole again.
  for (const auto& [client, binding] : Bindings())
    EXPECT_GT(binding.left, std::chrono::minutes(57));
  ExpectVerified();
}

TEST_P(Bound, ABackendThatIsGoneIsNotBoundTo) {
  const EntryPtr full = EntryOf(Transport::kTcp);
  Put(Affine(Transport::kTcp, {0, 2, 3, 4}));
  const auto bind = [&] {
    return dataplane_->Bind(maker_.model,
                            {{full, Ip(OutsideIp()), Backend(1), 8080, std::chrono::hours(1)}});
  };
  EXPECT_THAT(Text(bind()), HasSubstr("1 of 1 will be rebalanced"));
  EXPECT_TRUE(Bindings().empty());
  // Of a model that the forwarder has not got yet: it looks for itself.
  const ModelDelta back = maker_.Put(*full);
  EXPECT_THAT(Text(bind()), HasSubstr("1 of 1 will be rebalanced"));
  EXPECT_TRUE(Bindings().empty());
  Sync(back);
  EXPECT_SYNCED(bind());
  EXPECT_EQ(Served(Transport::kTcp, kPods), 1);
  // Without a forwarder the reason is said, and nothing else happens.
  EXPECT_SYNCED(dataplane_->Remove());
  EXPECT_THAT(Text(bind()), HasSubstr("there is no forwarder"));
  EXPECT_THROW(Bindings(), std::runtime_error);
  FullSync();
}

const auto kFamilies =
    ::testing::ValuesIn(testing::InBothFamilies({{"userspace", Mode::kUserspace}}));
INSTANTIATE_TEST_SUITE_P(Families, Traffic, kFamilies, testing::NameOf);
INSTANTIATE_TEST_SUITE_P(Families, Bound, kFamilies, testing::NameOf);

class Rules : public testing::DataplaneOnEmptyNode {
 protected:
  void Put(const ServicePortEntry& entry) {
    EXPECT_SYNCED(dataplane_->Sync(maker_.model, maker_.Put(entry)));
  }
};

TEST_P(Rules, EndpointsAloneChangeNoRule) {
  ServicePortEntry entry =
      MakeEntry("web", Protocol::kTcp, "10.96.9.9", 80, {MakeBackend("10.244.0.2", 80)});
  maker_.Put(entry);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  const std::string rules = mode_->Kernel();
  entry.internal.backends.push_back(MakeBackend("10.244.0.3", 80));
  const ModelDelta delta = maker_.Put(entry);
  const SyncResult result = dataplane_->Sync(maker_.model, delta);
  EXPECT_TRUE(result.ok());
  EXPECT_EQ(result.kernel_writes, 1U);  // the message to the forwarder
  EXPECT_EQ(mode_->Kernel(), rules);
  EXPECT_VERIFIED(dataplane_->Verify(maker_.model));
}

// What one Service asks too much of is its own matter: the node is well and serves the others.
TEST_P(Rules, EndpointsBeyondTheForwardersBoundAreAWarningOfTheirService) {
  ServicePortEntry huge = MakeEntry("huge", Protocol::kTcp, "10.96.0.66", 80, {});
  for (uint32_t i = 0; i <= 40'000; ++i)
    huge.internal.backends.push_back({net::IpAddress::V4(0x0af40000U + i), 8080});
  maker_.Put(huge);
  maker_.Put(MakeEntry("web", Protocol::kTcp, "10.96.0.10", 80, {MakeBackend("10.244.0.2", 8080)}));
  for (const bool full : {true, false}) {
    huge.internal.backends.back().port = full ? 8080 : 8081;
    const ModelDelta delta = maker_.Put(huge);
    const SyncResult result =
        full ? dataplane_->FullSync(maker_.model) : dataplane_->Sync(maker_.model, delta);
    EXPECT_SYNCED(result);
    const auto warnings = result.refusals.Warnings();
    ASSERT_EQ(warnings.size(), 1U);
    EXPECT_EQ(warnings[0].service, "huge");
    EXPECT_THAT(warnings[0].message, ::testing::HasSubstr("1 endpoints are left out"));
    EXPECT_VERIFIED(dataplane_->Verify(maker_.model));
    EXPECT_VERIFIED(Make()->Verify(maker_.model));
  }
}

TEST_P(Rules, NothingOfTheForwarderIsLeftWhenTheModeIsRemoved) {
  auto& mode = static_cast<UserspaceUnderTest&>(*mode_);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_TRUE(std::filesystem::exists(mode.run_directory()));
  EXPECT_SYNCED(dataplane_->Remove());
  dataplane_.reset();
  EXPECT_FALSE(std::filesystem::exists(mode.run_directory()));
}

TEST_P(Rules, AForwarderThatDoesNotStartIsReported) {
  const UserspaceDataplane::Options options{
      .forwarder_program = "/nonexistent/pointsman-forwarder",
      .run_directory = static_cast<UserspaceUnderTest&>(*mode_).run_directory(),
      .version = "test"};
  xtables::IptablesTool tool(Family::kIPv4);
  UserspaceDataplane broken(settings_, options, {&tool});
  try {
    broken.FullSync(maker_.model);
    FAIL() << "synced";
  } catch (const std::exception& error) {
    EXPECT_THAT(error.what(), HasSubstr("/nonexistent/pointsman-forwarder"));
  }
  EXPECT_SYNCED(broken.Remove());
}

INSTANTIATE_TEST_SUITE_P(Variants, Rules,
                         ::testing::ValuesIn(testing::WithEachTool("userspace", Mode::kUserspace)),
                         testing::VariantName);

}  // namespace
}  // namespace pointsman::agent

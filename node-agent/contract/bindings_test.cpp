// sessionAffinity as each mode keeps it: read, written, and carried from one to another. Real
// clients, each with an address of its own.
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <system_error>
#include <thread>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kube/testing/eventually.h"
#include "node-agent/contract/empty_node.h"
#include "node-agent/contract/traffic.h"
#include "node-agent/nf_tables/connection.h"
#include "node-agent/nftables/layout.h"
#include "node-agent/xtables/service_rules.h"

namespace pointsman::agent::testing {
namespace {

using kube::Mode;
using net::Family;
using std::chrono::seconds;
using ::testing::HasSubstr;

constexpr int kPods = 5;
constexpr seconds kTimeout{100};
constexpr uint16_t kNodePort = 30150;
constexpr Protocol kProtocols[] = {Protocol::kTcp, Protocol::kUdp};

// The kernel's default for lists of xt_recent.
constexpr int kMostInAList = 100;

class ClientBindings : public DataplaneTraffic {
 protected:
  ClientBindings() : DataplaneTraffic(kPods) {}
  bool iptables() const { return GetParam().variant.mode == Mode::kIptables; }
  std::string Vip() const { return DataplaneTraffic::Vip(15); }
  // The address of client `i`, up to 65,535, and as one that the machine outside has.
  std::string Client(int i) const {
    return v4() ? fmt::format("172.20.{}.{}", i / 256, i % 256)
                : fmt::format("fd00:99::{:x}", i + 1);
  }
  void AddClients(int count) const {
    network_->outside().Run([&] {
      std::string lines;
      for (int i = 0; i < count; ++i) {
        lines += fmt::format("addr add {}/{} dev eth0{}\n", Client(i), v4() ? 32 : 128,
                             v4() ? "" : " nodad");
      }
      IpTool(lines);
    });
  }
  ServicePortEntry Sticky(const std::vector<int>& pods = {0, 1, 2, 3, 4},
                          Protocol protocol = Protocol::kTcp) const {
    ServicePortEntry entry = Entry("sticky", 15, pods, protocol);
    entry.node_port = kNodePort;
    entry.affinity_timeout = kTimeout;
    return entry;
  }
  EntryPtr EntryOf(Protocol protocol = Protocol::kTcp) const {
    return maker_.model.entries.at(Sticky({}, protocol).id);
  }
  net::IpAddress Pod(int k) const { return Ip(PodIp(k)); }
  ClientBinding Binding(const std::string& client, int pod, seconds left = kTimeout,
                        Protocol protocol = Protocol::kTcp) const {
    return {EntryOf(protocol), Ip(client), Pod(pod), 8080, left};
  }
  SyncResult Bind(const std::vector<ClientBinding>& bindings) {
    SyncResult result = dataplane_->Bind(maker_.model, bindings);
    ExpectVerified();
    // Nor is there anything to write for a process that has just started, but for what is out of
    // use and the periodic sync takes away.
    EXPECT_EQ(dataplane_->FullSync(maker_.model).repaired, 0U);
    EXPECT_EQ(Make()->FullSync(maker_.model).kernel_writes, 0U);
    return result;
  }
  std::vector<ClientBinding> Bindings() { return dataplane_->Bindings(maker_.model); }
  // "TCP 172.20.0.1" → "pod3"; each client once.
  static std::map<std::string, std::string> Told(const std::vector<ClientBinding>& bindings) {
    std::map<std::string, std::string> told;
    for (const ClientBinding& binding : bindings) {
      EXPECT_EQ(binding.backend_port, 8080);
      for (int k = 0; k < kPods; ++k) {
        if (DualStackNetwork::PodIp(k, binding.client.family()) != binding.backend_ip) continue;
        const bool fresh = told.emplace(Key(binding.entry->id.protocol, binding.client.ToString()),
                                        fmt::format("pod{}", k))
                               .second;
        EXPECT_TRUE(fresh) << binding.client.ToString();
      }
    }
    EXPECT_EQ(told.size(), bindings.size());
    return told;
  }
  static std::string Key(Protocol protocol, const std::string& client) {
    return fmt::format("{} {}", protocol == Protocol::kUdp ? "UDP" : "TCP", client);
  }
  static Attempt Over(Protocol protocol, const std::string& source = {}) {
    return {.transport = protocol == Protocol::kUdp ? Transport::kUdp : Transport::kTcp,
            .source = source};
  }
  // Which pod serves a client outside; "" and a failure of the test when none does.
  std::string Served(int client, Protocol protocol = Protocol::kTcp) const {
    const Reply reply = Ask(network_->outside(), Vip(), 80, Over(protocol, Client(client)));
    EXPECT_TRUE(reply.ok()) << std::generic_category().message(reply.error);
    return reply.server;
  }
  std::string ServedByNodePort(int client, Protocol protocol = Protocol::kTcp) const {
    const Reply reply =
        Ask(network_->outside(), NodeIp(), kNodePort, Over(protocol, Client(client)));
    EXPECT_TRUE(reply.ok()) << std::generic_category().message(reply.error);
    return reply.server;
  }

  std::unique_ptr<ModeUnderTest> other_mode_;  // of handovers
};
class ClientBindingsInLists : public ClientBindings {};  // xt_recent: one for each backend
class ClientBindingsInMaps : public ClientBindings {};   // nftables: one for all
class ClientBindingsInAFullMap : public ClientBindings {};

TEST_P(ClientBindings, TellsWhereEachClientWent) {
  EXPECT_TRUE(Bindings().empty());
  AddBoth(Sticky());
  FullSync();
  EXPECT_TRUE(Bindings().empty());
  constexpr int kClients = 12;
  AddClients(kClients);
  std::map<std::string, std::string> went;
  const auto began = std::chrono::steady_clock::now();
  for (const Protocol protocol : kProtocols) {
    for (int i = 0; i < kClients; ++i)
      went[Key(protocol, Client(i))] = Served(i, protocol);
    went[Key(protocol, PodIp(0))] = Ask(network_->pod(0), Vip(), 80, Over(protocol)).server;
    went[Key(protocol, NodeIp())] = Ask(network_->node(), Vip(), 80, Over(protocol)).server;
  }
  const auto ended = std::chrono::steady_clock::now();
  const auto expect_times = [&] {
    using std::chrono::ceil;
    using std::chrono::floor;
    const auto before = std::chrono::steady_clock::now();
    const std::vector<ClientBinding> bindings = Bindings();
    const auto after = std::chrono::steady_clock::now();
    EXPECT_EQ(Told(bindings), went);
    for (const ClientBinding& binding : bindings) {
      // Rounded up; and the kernel's own clock ticks each 10 ms at worst.
      EXPECT_LE(binding.left, kTimeout - floor<seconds>(before - ended) + seconds(1));
      EXPECT_GE(binding.left, kTimeout - ceil<seconds>(after - began));
    }
    return bindings.empty() ? kTimeout : bindings.front().left;
  };
  expect_times();
  EXPECT_TRUE(Eventually([&] { return expect_times() < kTimeout - seconds(3); }));
  // Nobody is moved by being looked at.
  for (const Protocol protocol : kProtocols) {
    for (int i = 0; i < kClients; ++i)
      EXPECT_EQ(Served(i, protocol), went[Key(protocol, Client(i))]);
  }
}

TEST_P(ClientBindings, ManyClientsGoWhereTheyAreBoundTo) {
  AddBoth(Sticky());
  FullSync();
  constexpr int kClients = kMostInAList * kPods;  // iptables mode has no room for more
  AddClients(kClients);
  std::vector<ClientBinding> bindings;
  std::map<std::string, std::string> expected;
  for (const Protocol protocol : kProtocols) {
    for (int i = 0; i < kClients; ++i) {
      bindings.push_back(Binding(Client(i), i % kPods, seconds(50), protocol));
      expected[Key(protocol, Client(i))] = fmt::format("pod{}", i % kPods);
    }
  }
  const auto began = std::chrono::steady_clock::now();
  const SyncResult result = Bind(bindings);
  EXPECT_TRUE(result.ok()) << Text(result);
  EXPECT_EQ(result.kernel_writes, bindings.size());
  const std::vector<ClientBinding> told = Bindings();
  const auto took =
      std::chrono::ceil<seconds>(std::chrono::steady_clock::now() - began) + seconds(1);
  EXPECT_EQ(Told(told), expected);
  // nftables keeps the time, iptables begins it anew.
  const seconds left = !iptables() ? seconds(50) : kTimeout;
  for (const ClientBinding& binding : told) {
    EXPECT_LE(binding.left, left);
    EXPECT_GE(binding.left, left - took);
  }
  for (const Protocol protocol : kProtocols) {
    for (int i = 0; i < kClients; ++i)
      EXPECT_EQ(Served(i, protocol), expected[Key(protocol, Client(i))]) << Client(i);
  }
  for (int i = 0; i < kClients; i += 7) {
    EXPECT_EQ(ServedByNodePort(i), fmt::format("pod{}", i % kPods));
    EXPECT_EQ(ServedByNodePort(i, Protocol::kUdp), fmt::format("pod{}", i % kPods));
  }
  // All lists of iptables mode are full, and still nobody has been forgotten by being looked at.
  EXPECT_EQ(Told(Bindings()), expected);
  // By now they have connected, and their time is the whole again.
  for (const ClientBinding& binding : Bindings())
    EXPECT_GT(binding.left, seconds(50));
}

TEST_P(ClientBindings, PodsAndTheNodeGoWhereTheyAreBoundTo) {
  AddBoth(Sticky());
  FullSync();
  std::vector<ClientBinding> bindings;
  for (const Protocol protocol : kProtocols) {
    for (int k = 0; k < kPods; ++k)
      bindings.push_back(Binding(PodIp(k), (k + 2) % kPods, seconds(60), protocol));
    bindings.push_back(Binding(NodeIp(), 3, seconds(60), protocol));
  }
  EXPECT_SYNCED(Bind(bindings));
  for (const Protocol protocol : kProtocols) {
    for (const auto& [ip, port] :
         {std::pair(Vip(), uint16_t{80}), std::pair(NodeIp(), kNodePort)}) {
      for (int k = 0; k < kPods; ++k) {
        EXPECT_EQ(Ask(network_->pod(k), ip, port, Over(protocol)).server,
                  fmt::format("pod{}", (k + 2) % kPods));
      }
      EXPECT_EQ(Ask(network_->node(), ip, port, Over(protocol)).server, "pod3");
    }
  }
}

TEST_P(ClientBindings, WhoIsBoundStaysAndWhatIsVoidIsNotMade) {
  maker_.Put(Sticky());
  ServicePortEntry loose = Sticky();
  loose.id.name = "loose";
  loose.cluster_ip = Ip(v4() ? "10.96.0.16" : "fd00:96::16");
  loose.node_port = 0;
  loose.affinity_timeout = seconds(0);
  maker_.Put(loose);
  FullSync();
  AddClients(6);
  const std::string first = Served(0);
  const int other = first == "pod1" ? 2 : 1;
  // As the mode before us knew them, with a backend more.
  const EntryPtr old = std::make_shared<const ServicePortEntry>(Sticky({0, 1, 2, 3, 4}));
  ServicePortEntry gone = Sticky();
  gone.id.name = "gone";
  std::vector<ClientBinding> bindings{
      Binding(Client(0), other),  // is bound
      {old, Ip(Client(1)), Pod(other), 8080, kTimeout},
      {old, Ip(Client(2)), Pod(other), 9999, kTimeout},  // no such backend
      {old, Ip(Client(3)), Ip(v4() ? "10.244.9.2" : "fd00:244:9::2"), 8080, kTimeout},  // nor that
      {maker_.model.entries.at(loose.id), Ip(Client(4)), Pod(1), 8080, kTimeout},
      {std::make_shared<const ServicePortEntry>(gone), Ip(Client(5)), Pod(1), 8080, kTimeout}};
  EXPECT_SYNCED(Bind(bindings));
  const std::map<std::string, std::string> expected{
      {Key(Protocol::kTcp, Client(0)), first},
      {Key(Protocol::kTcp, Client(1)), fmt::format("pod{}", other)}};
  EXPECT_EQ(Told(Bindings()), expected);
  // Again: all that can be is there.
  EXPECT_EQ(Bind(bindings).kernel_writes, 0U);
  EXPECT_EQ(Told(Bindings()), expected);
  EXPECT_EQ(Served(0), first);
  EXPECT_EQ(Served(1), fmt::format("pod{}", other));

  // Its backend goes: it is not told of, and may be bound to another.
  std::vector<int> rest{0, 1, 2, 3, 4};
  rest.erase(std::find(rest.begin(), rest.end(), first.back() - '0'));
  EXPECT_SYNCED(dataplane_->Sync(maker_.model, maker_.Put(Sticky(rest))));
  EXPECT_EQ(Told(Bindings()).count(Key(Protocol::kTcp, Client(0))), 0U);
  EXPECT_SYNCED(Bind({Binding(Client(0), rest.back())}));
  EXPECT_EQ(Served(0), fmt::format("pod{}", rest.back()));

  EXPECT_SYNCED(dataplane_->Remove());
  EXPECT_FALSE(dataplane_->Present());
  const char* lists = "/proc/thread-self/net/xt_recent";
  EXPECT_TRUE(!std::filesystem::exists(lists) || std::filesystem::is_empty(lists));
}

TEST_P(ClientBindings, UnderALocalPolicyOnlyTheTrafficThatMayGoThere) {
  ServicePortEntry entry = Sticky();
  entry.external_local = true;
  entry.external_from_node = entry.internal;
  entry.external = Pods({1, 4});
  maker_.Put(entry);
  FullSync();
  AddClients(2);
  EXPECT_SYNCED(Bind({Binding(Client(0), 2), Binding(Client(1), 4)}));
  EXPECT_EQ(Served(0), "pod2");
  EXPECT_THAT(ServedByNodePort(0), ::testing::AnyOf("pod1", "pod4"));
  EXPECT_EQ(Served(1), "pod4");
  EXPECT_EQ(ServedByNodePort(1), "pod4");
}

TEST_P(ClientBindings, WhoseTimeHasEndedIsNotBound) {
  ServicePortEntry entry = Sticky();
  entry.affinity_timeout = seconds(3);
  maker_.Put(entry);
  FullSync();
  AddClients(1);
  const std::string first = Served(0);
  EXPECT_EQ(Bindings().size(), 1U);
  EXPECT_TRUE(Eventually([&] { return Bindings().empty(); }));
  if (iptables()) {
    // The kernel still has it in its list, as it does until another packet comes.
    const int k = first.back() - '0';
    std::ifstream list("/proc/thread-self/net/xt_recent/" +
                       xtables::AffinityList(entry.id, {Pod(k), 8080, true}));
    std::string line;
    EXPECT_TRUE(std::getline(list, line));
    EXPECT_THAT(line, HasSubstr(v4() ? "src=172.20.0.0 " : "src=fd00:0099:"));
  }
  // And may be bound elsewhere.
  const int other = first == "pod1" ? 2 : 1;
  EXPECT_SYNCED(Bind({Binding(Client(0), other, seconds(3))}));
  EXPECT_EQ(Served(0), fmt::format("pod{}", other));
}

// xt_recent begins the time anew.
TEST_P(ClientBindingsInMaps, ATimeThatIsNearlyOverEnds) {
  maker_.Put(Sticky());
  FullSync();
  EXPECT_SYNCED(Bind({Binding(Client(0), 2, seconds(2)), Binding(Client(1), 2, seconds(90))}));
  EXPECT_EQ(Bindings().size(), 2U);
  EXPECT_TRUE(Eventually([&] { return Bindings().size() == 1; }));
  EXPECT_EQ(Bindings().front().client, Ip(Client(1)));
}

TEST_P(ClientBindingsInLists, AListThatIsFullTakesThoseWithTheMostTimeLeft) {
  maker_.Put(Sticky({2}));
  FullSync();
  AddClients(1);
  EXPECT_EQ(Served(0), "pod2");
  std::vector<ClientBinding> bindings;
  std::map<std::string, std::string> expected{{Key(Protocol::kTcp, Client(0)), "pod2"}};
  for (int i = 1; i <= 150; ++i) {
    bindings.push_back(Binding(Client(i), 2, kTimeout - seconds(i % 75)));
    // 150 to share 99 places: two of each number of seconds, the lowest 25 and one more without.
    if (i % 75 < 49) expected[Key(Protocol::kTcp, Client(i))] = "pod2";
  }
  const SyncResult result = Bind(bindings);
  ASSERT_EQ(result.problems.size(), 1U);
  EXPECT_EQ(result.problems[0].object, EntryOf()->id.ToString());
  EXPECT_THAT(result.problems[0].message, HasSubstr("51 clients have no room"));
  EXPECT_EQ(result.kernel_writes, 99U);
  for (int look = 0; look < 3; ++look) {
    std::map<std::string, std::string> told = Told(Bindings());
    EXPECT_EQ(told.size(), size_t{kMostInAList});
    for (const auto& [client, pod] : expected)
      EXPECT_EQ(told[client], pod) << client;
  }
}

TEST_P(ClientBindingsInAFullMap, WhatHasNoRoomIsTold) {
  maker_.Put(Sticky());
  FullSync();
  constexpr int kClients = 100;
  AddClients(kClients);
  constexpr int kRoom = 40;
  const nft::SetDefinition& map =
      nft::SetsOf(Family::kIPv4)[static_cast<size_t>(nft::SetId::kAffinity)];
  nft::Connection connection;
  // As if other clients of a Service with another number had come.
  for (uint32_t next = 0; next < map.max_elements - uint32_t{kRoom};) {
    nft::Transaction transaction(Family::kIPv4, nft::kTable);
    for (int i = 0; i < 100'000 && next < map.max_elements - uint32_t{kRoom}; ++i, ++next) {
      std::string key(map.key_size, '\0');
      std::memcpy(key.data() + 8, &next, sizeof next);
      const std::string data(map.data_size, '\1');
      transaction.AddExpiring(map, {key, data}, std::chrono::hours(1), std::chrono::hours(1));
    }
    ASSERT_THAT(connection.Commit(transaction), ::testing::IsEmpty());
  }
  std::vector<ClientBinding> bindings;
  bindings.reserve(kClients);
  for (int i = 0; i < kClients; ++i)
    bindings.push_back(Binding(Client(i), i % kPods, kTimeout - seconds(i / 2)));
  SyncResult result;
  result = dataplane_->Bind(maker_.model, bindings);
  ASSERT_EQ(result.problems.size(), 1U);
  EXPECT_EQ(result.problems[0].object, "nftables IPv4 map affinity");
  EXPECT_THAT(result.problems[0].message, HasSubstr("of 60 clients could not be kept"));
  EXPECT_EQ(result.kernel_writes, uint64_t{kRoom});
  EXPECT_VERIFIED(dataplane_->Verify(maker_.model));
  // Those with the most time left are bound, and the others are served.
  for (int i = 0; i < kRoom; ++i)
    EXPECT_EQ(Served(i), fmt::format("pod{}", i % kPods));
  for (int i = kRoom; i < kClients; ++i)
    EXPECT_THAT(Served(i), ::testing::StartsWith("pod"));
  // Bounded, however many there are.
  EXPECT_LE(Bindings().size(), size_t{kRoom});
}

// Connections that come while clients are bound: nobody fails, and each client has one backend from
// then on.
TEST_P(ClientBindings, BindingBesideTraffic) {
  maker_.Put(Sticky());
  FullSync();
  constexpr int kClients = 60;
  AddClients(kClients);
  std::vector<ClientBinding> bindings;
  bindings.reserve(kClients);
  for (int i = 0; i < kClients; ++i)
    bindings.push_back(Binding(Client(i), i % kPods));
  std::map<int, std::string> went;
  std::thread clients([&] {
    for (int i = kClients; i-- > 0;)
      went[i] = Served(i);
  });
  EXPECT_SYNCED(Bind(bindings));
  clients.join();
  std::map<std::string, std::string> told = Told(Bindings());
  EXPECT_EQ(told.size(), size_t{kClients});
  for (int i = 0; i < kClients; ++i) {
    const std::string now = told[Key(Protocol::kTcp, Client(i))];
    // Who connected before it was bound stays there. But a packet that comes during a transaction
    // of nf_tables neither sees the new element nor can make another one with its key.
    EXPECT_THAT(now, ::testing::AnyOf(went[i], fmt::format("pod{}", i % kPods)));
    EXPECT_EQ(Served(i), now);
    EXPECT_EQ(Served(i), now);
  }
}

TEST_P(ClientBindings, ClientsStayThroughHandovers) {
  try {
    other_mode_ = ModeUnderTest::Make(iptables() ? Variant{"nftables", Mode::kNftables}
                                                 : Variant{"iptables", Mode::kIptables, "legacy"});
  } catch (const std::runtime_error& error) {
    GTEST_SKIP() << error.what();
  }
  std::unique_ptr<Dataplane> next = other_mode_->MakeDataplane(settings_, {GetParam().family});
  AddBoth(Sticky());
  FullSync();
  constexpr int kClients = 40;
  AddClients(kClients);
  std::map<std::string, std::string> went;
  for (const Protocol protocol : kProtocols) {
    for (int i = 0; i < kClients; ++i)
      went[Key(protocol, Client(i))] = Served(i, protocol);
  }
  for (int round = 0; round < 3; ++round) {
    const std::vector<ClientBinding> bindings = dataplane_->Bindings(maker_.model);
    EXPECT_SYNCED(next->FullSync(maker_.model));
    EXPECT_SYNCED(next->Bind(maker_.model, bindings));
    EXPECT_VERIFIED(next->Verify(maker_.model));
    dataplane_->Drain(maker_.model);
    for (const Protocol protocol : kProtocols) {
      for (int i = round; i < kClients; i += 2)
        EXPECT_EQ(Served(i, protocol), went[Key(protocol, Client(i))]);
    }
    EXPECT_SYNCED(dataplane_->Remove());
    std::swap(dataplane_, next);
    EXPECT_EQ(Told(Bindings()), went);
  }
  for (const Protocol protocol : kProtocols) {
    for (int i = 0; i < kClients; ++i)
      EXPECT_EQ(ServedByNodePort(i, protocol), went[Key(protocol, Client(i))]);
  }
}

const auto kRecent = ::testing::ValuesIn(InBothFamilies(WithEachTool("iptables", Mode::kIptables)));
const auto kMaps = ::testing::ValuesIn(InBothFamilies({{"nftables", Mode::kNftables}}));
INSTANTIATE_TEST_SUITE_P(Iptables, ClientBindings, kRecent, NameOf);
INSTANTIATE_TEST_SUITE_P(Nftables, ClientBindings, kMaps, NameOf);
INSTANTIATE_TEST_SUITE_P(Iptables, ClientBindingsInLists, kRecent, NameOf);
INSTANTIATE_TEST_SUITE_P(Nftables, ClientBindingsInMaps, kMaps, NameOf);
INSTANTIATE_TEST_SUITE_P(Nftables, ClientBindingsInAFullMap,
                         ::testing::Values(ModeAndFamily{{"nftables", Mode::kNftables},
                                                         Family::kIPv4}),
                         NameOf);

}  // namespace
}  // namespace pointsman::agent::testing

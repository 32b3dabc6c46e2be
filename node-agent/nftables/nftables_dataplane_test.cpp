// What is nftables mode's alone; what it has in common with the others is in node-agent/contract/.
#include "node-agent/nftables/nftables_dataplane.h"

#include <atomic>
#include <fstream>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <mutex>
#include <sstream>
#include <system_error>
#include <thread>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "kube/testing/eventually.h"
#include "node-agent/contract/nftables_under_test.h"
#include "node-agent/contract/traffic.h"
#include "node-agent/iptables/iptables_dataplane.h"
#include "node-agent/nftables/kernel_support.h"
#include "node-agent/nftables/layout.h"
#include "node-agent/testing/fresh_netns.h"
#include "node-agent/testing/random_model.h"

namespace pointsman::agent {
namespace {

using net::Family;
using testing::Ask;
using testing::ExpectDropped;
using testing::ExpectRefused;
using ::testing::HasSubstr;
using testing::Ip;
using testing::IpTool;
using testing::kTransports;
using testing::MakeBackend;
using testing::MakeEntry;
using testing::ModelMaker;
using testing::NetNamespace;
using testing::NftablesSnapshot;
using testing::RandomModel;
using testing::Reply;
using testing::Stream;
using testing::Transport;

constexpr Family kFamilies[] = {Family::kIPv4, Family::kIPv6};

kube::ProxySettings Settings() {
  kube::ProxySettings settings;
  settings.mode = kube::Mode::kNftables;
  settings.cluster_cidrs = {net::IpPrefix::Parse("10.244.0.0/16").value(),
                            net::IpPrefix::Parse("fd00:244::/32").value()};
  return settings;
}

std::string Snapshot() {
  return NftablesSnapshot(Family::kIPv4) + NftablesSnapshot(Family::kIPv6);
}

class Traffic : public testing::DataplaneTraffic {
 protected:
  // First packets that the node's conntrack has dropped because another one had just taken the
  // addresses and ports that they were given: the column `insert_failed`, a line for each CPU.
  static uint64_t ConntrackClashes() {
    uint64_t clashes = 0;
    std::ifstream file("/proc/thread-self/net/stat/nf_conntrack");
    std::string line;
    std::getline(file, line);
    std::istringstream header(line);
    size_t column = 0;
    for (std::string word; header >> word && word != "insert_failed";)
      ++column;
    while (std::getline(file, line)) {
      std::istringstream words(line);
      std::string word;
      for (size_t i = 0; i <= column; ++i)
        words >> word;
      clashes += std::stoull(word, nullptr, 16);
    }
    return clashes;
  }
};

TEST_P(Traffic, AnUnusedPortOfAClusterIpIsRefusedAtOnce) {
  ServicePortEntry entry = Entry("web", 16, {1});
  entry.external_ips = {Ip(PublicIp(1))};
  entry.load_balancer_ips = {Ip(PublicIp(2))};
  maker_.Put(entry);
  FullSync();
  const auto ping = [&](const NetNamespace& from) {
    int status = -1;
    from.Run([&] {
      status = std::system(  // NOLINT(cert-env33-c,concurrency-mt-unsafe)
          fmt::format("ping -{} -c1 -W1 {} >/dev/null", v4() ? 4 : 6, Vip(16)).c_str());
    });
    return status == 0;
  };
  const auto refused = [&](uint16_t port, Transport transport) {
    SCOPED_TRACE(fmt::format("port {} {}", port, transport == Transport::kUdp ? "udp" : "tcp"));
    ExpectRefused(FromPod(Vip(16), port, Over(transport)));
    ExpectRefused(FromNode(Vip(16), port, Over(transport)));
    ExpectRefused(FromOutside(Vip(16), port, Over(transport)));
  };
  for (const Transport transport : kTransports)
    refused(81, transport);
  refused(80, Transport::kUdp);  // the Service has no port of that protocol
  EXPECT_TRUE(FromPod(Vip(16), 80).ok());
  EXPECT_FALSE(ping(network_->pod(0)));
  // Only cluster IPs belong to Services alone.
  for (const int ip : {1, 2}) {
    EXPECT_TRUE(FromPod(PublicIp(ip), 80).ok());
    ExpectDropped(FromPod(PublicIp(ip), 81, Briefly()));
  }
  // An address that this node has answers by itself (NodeLocal DNSCache; ipvs mode's).
  const std::string device =
      fmt::format("addr {{}} {}/{} dev lo{}", Vip(16), v4() ? 32 : 128, v4() ? "" : " nodad");
  IpTool(fmt::format(fmt::runtime(device), "add"));
  // The kernel makes the route of an IPv6 address a moment after ip(8) has its answer.
  EXPECT_TRUE(Eventually([&] { return ping(network_->pod(0)); }));
  EXPECT_EQ(FromPod(Vip(16), 8080).server, "node");
  IpTool(fmt::format("addr del {}/{} dev lo", Vip(16), v4() ? 32 : 128));
  refused(8080, Transport::kTcp);
  // Another Service port of the same address comes, and goes; then the Service goes.
  ServicePortEntry second = Entry("web", 16, {2});
  second.id.port_name = "second";
  second.port = 81;
  Put(second);
  EXPECT_EQ(FromPod(Vip(16), 81).server, "pod2");
  EXPECT_SYNCED(dataplane_->Sync(maker_.model, maker_.Remove(second.id)));
  refused(81, Transport::kTcp);
  EXPECT_SYNCED(dataplane_->Sync(maker_.model, maker_.Remove(entry.id)));
  EXPECT_VERIFIED(dataplane_->Verify(maker_.model));
  ExpectDropped(FromPod(Vip(16), 81, Briefly()));
}

TEST_P(Traffic, AFlowThatAnotherModeCarriesIsNotRefused) {
  // A datagram that nothing translates, to a port that is a Service's: as ipvs' are while it is
  // being drained, and its client never gets an answer.
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  const auto send = [&] {
    return FromPod(Vip(17), 80,
                   {.transport = Transport::kUdp,
                    .timeout = std::chrono::milliseconds(400),
                    .source_port = 4700});
  };
  ExpectDropped(send());
  ServicePortEntry entry = Entry("logs", 17, {1}, Protocol::kUdp);
  Put(entry);
  ExpectDropped(send());
}

TEST_P(Traffic, NothingFailsWhileEndpointsChange) {
  AddBoth(Entry("web", 18, {0, 1, 2}));
  FullSync();
  // Neighbours know each other: IPv6 asks again only a second after a question that was lost.
  for (int pod = 0; pod < 3; ++pod)
    EXPECT_TRUE(FromNode(PodIp(pod), 8080).ok());
  EXPECT_TRUE(FromOutside(Vip(18), 80).ok());
  const uint64_t clashes_before = ConntrackClashes();
  std::atomic<bool> stop{false};
  std::atomic<int> connections{0};
  std::atomic<int> failures{0};
  std::vector<std::thread> clients;
  std::mutex mutex;
  std::vector<std::string> failed;
  const auto run = [&](const NetNamespace& from, Transport transport) {
    clients.emplace_back([&, transport, who = clients.size()] {
      while (!stop) {
        // Slowly enough that the client's 28,000 ports are not used up: a port that comes again
        // meets conntrack's memory of the connection that had it.
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        const Reply reply = Ask(from, Vip(18), 80, {.transport = transport});
        ++connections;
        // A SYN or datagram that went nowhere is a failure too, even if its repetition is answered.
        if (reply.ok() && reply.resent == 0) continue;
        ++failures;
        const std::lock_guard lock(mutex);
        failed.push_back(fmt::format("client {} at connection {}, {} sent again: {} {}", who,
                                     connections.load(), reply.resent, reply.server,
                                     std::generic_category().message(reply.error)));
      }
    });
  };
  for (const Transport transport : kTransports) {
    run(network_->pod(0), transport);
    run(network_->outside(), transport);
    run(network_->node(), transport);
  }
  // All answer all the time, so that only the rules can lose a connection.
  const std::vector<std::vector<int>> choices{{0, 1, 2}, {1}, {0, 2}, {2}, {1, 2}, {0}};
  int changes = 0;
  while (changes < 60 || connections < 2000) {
    const std::vector<int>& pods = choices[static_cast<size_t>(changes) % choices.size()];
    Put(Entry("web", 18, pods));
    Put(Entry("web", 18, pods, Protocol::kUdp));
    if (++changes % 20 == 0) FullSync();
  }
  stop = true;
  for (std::thread& client : clients)
    client.join();
  // Two packets at once that masquerade to the same port: conntrack drops the one that comes
  // second, in any mode (nf_conntrack_core.c, insert_failed). Nothing else may be lost.
  const uint64_t clashes = ConntrackClashes() - clashes_before;
  EXPECT_LE(static_cast<uint64_t>(failures), clashes) << fmt::format("{}", fmt::join(failed, "\n"));
  RecordProperty("clashes", static_cast<int>(clashes));
  RecordProperty("connections", connections);
  RecordProperty("changes", changes);
  EXPECT_VERIFIED(dataplane_->Verify(maker_.model));
}

TEST_P(Traffic, DamageIsRepairedWithoutAGapForAffinity) {
  ServicePortEntry entry = Entry("sticky", 20, {0, 1, 2});
  entry.affinity_timeout = std::chrono::seconds(100);
  maker_.Put(entry);
  FullSync();
  const std::string first = FromOutside(Vip(20), 80).server;
  nft::Connection connection;
  nft::Transaction damage(GetParam().family, nft::kTable);
  damage.FlushSet("endpoints");
  damage.FlushSet("affinity-endpoints");
  damage.FlushChain(nft::kPrerouting);
  ASSERT_TRUE(connection.Commit(damage).empty());
  EXPECT_FALSE(FromOutside(Vip(20), 80, Briefly()).ok());
  FullSync();
  for (int i = 0; i < 10; ++i)
    EXPECT_EQ(FromOutside(Vip(20), 80).server, first);
}

TEST_P(Traffic, HandoverFromAndToIptablesLosesNothing) {
  AddBoth(Entry("web", 21, {0, 1, 2}));
  ServicePortEntry entry = Entry("outside", 22, {1, 2});
  entry.node_port = 30220;
  AddBoth(entry);
  xtables::IptablesTool tool4(Family::kIPv4);
  xtables::IptablesTool tool6(Family::kIPv6);
  IptablesDataplane iptables(Settings(), std::vector{&tool4, &tool6});
  EXPECT_SYNCED(iptables.FullSync(maker_.model));
  std::vector<std::unique_ptr<Stream>> streams;
  const auto open = [&] {
    streams.push_back(std::make_unique<Stream>(network_->pod(0), Vip(21), 80));
    streams.push_back(std::make_unique<Stream>(network_->outside(), NodeIp(), 30220));
  };
  std::atomic<bool> stop{false};
  std::atomic<int> connections{0};
  std::atomic<int> failures{0};
  std::vector<std::thread> clients;
  std::mutex mutex;
  std::vector<std::string> failed;
  std::atomic<const char*> stage{"iptables alone"};
  for (const Transport transport : kTransports) {
    clients.emplace_back([&, transport] {
      while (!stop) {
        for (const Reply& reply :
             {FromPod(Vip(21), 80, Over(transport)), FromOutside(NodeIp(), 30220, Over(transport)),
              FromNode(Vip(21), 80, Over(transport))}) {
          ++connections;
          if (reply.ok() && reply.resent == 0) continue;
          ++failures;
          const std::lock_guard lock(mutex);
          failed.push_back(fmt::format("{} at connection {}, {} sent again: {} {}", stage.load(),
                                       connections.load(), reply.resent, reply.server,
                                       std::generic_category().message(reply.error)));
        }
      }
    });
  }
  const auto settle = [&] {
    const int enough = connections + 60;
    while (connections < enough)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
  };
  for (int round = 0; round < 2; ++round) {
    settle();
    open();
    stage = "both";
    EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
    EXPECT_VERIFIED(dataplane_->Verify(maker_.model));
    settle();
    stage = "iptables drained";
    iptables.Drain(maker_.model);
    settle();
    stage = "iptables removed";
    EXPECT_SYNCED(iptables.Remove());
    settle();
    open();
    stage = "both again";
    EXPECT_SYNCED(iptables.FullSync(maker_.model));
    settle();
    stage = "nftables drained";
    EXPECT_GE(dataplane_->Drain(maker_.model).connections, 2U);
    settle();
    stage = "nftables removed";
    EXPECT_SYNCED(dataplane_->Remove());
  }
  settle();
  stop = true;
  for (std::thread& client : clients)
    client.join();
  EXPECT_EQ(failures, 0) << "of " << connections << "\n"
                         << fmt::format("{}", fmt::join(failed, "\n"));
  for (const auto& stream : streams)
    EXPECT_TRUE(stream->Ask().ok());
}

INSTANTIATE_TEST_SUITE_P(Families, Traffic,
                         ::testing::ValuesIn(testing::InBothFamilies({{"nftables",
                                                                       kube::Mode::kNftables}})),
                         testing::NameOf);

// Rules alone, in an empty namespace.
class Rules : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!EnterFreshNetns()) GTEST_SKIP() << "needs root to make a network namespace";
    for (const Family family : kFamilies) {
      if (!nft::MissingFeatures(family).empty())
        GTEST_SKIP() << "this kernel cannot run mode nftables";
    }
  }
  static NftablesDataplane Make() { return {Settings(), {Family::kIPv4, Family::kIPv6}, {}}; }
};

// Each pair is written from the one to the other, and back: by a change, and by a full sync that
// finds the older ones.
TEST_F(Rules, SourceRangesTakeThePlaceOfThoseThatTheyLieIn) {
  const std::vector<std::vector<std::vector<const char*>>> pairs{
      {{"0.0.0.0/0"}, {"192.161.0.0/16"}},
      {{"10.0.0.0/8"}, {"10.1.0.0/16", "10.2.0.0/16"}},
      {{"10.0.0.0/8", "192.168.0.0/16"}, {"10.0.0.0/9"}},
      {{"10.1.0.0/16"}, {"10.1.2.0/24", "172.16.0.0/12"}},
  };
  const auto entry = [](const std::vector<const char*>& ranges) {
    ServicePortEntry web =
        MakeEntry("web", kube::Protocol::kTcp, "10.96.0.10", 80, {MakeBackend("10.244.0.2", 8080)});
    web.load_balancer_ips = {Ip("203.0.113.10")};
    for (const char* range : ranges)
      web.source_ranges.push_back(net::IpPrefix::Parse(range).value());
    return web;
  };
  for (const auto& pair : pairs) {
    SCOPED_TRACE(fmt::format("{} and {}", pair[0][0], pair[1][0]));
    ModelMaker maker;
    NftablesDataplane dataplane = Make();
    maker.Put(entry(pair[0]));
    EXPECT_SYNCED(dataplane.FullSync(maker.model));
    for (const size_t to : {1, 0}) {
      const SyncResult changed = dataplane.Sync(maker.model, maker.Put(entry(pair[to])));
      EXPECT_SYNCED(changed);
      EXPECT_EQ(changed.repaired, 0U);
      EXPECT_VERIFIED(Make().Verify(maker.model));
    }
    for (const size_t to : {1, 0}) {
      maker.Put(entry(pair[to]));
      EXPECT_SYNCED(Make().FullSync(maker.model));
      EXPECT_VERIFIED(Make().Verify(maker.model));
    }
    EXPECT_SYNCED(dataplane.Remove());
  }
}

TEST_F(Rules, ChangesWriteOnlyWhatTheyNeed) {
  ModelMaker maker;
  RandomModel random(5);
  for (int i = 0; i < 60; ++i)
    random.Step(maker);
  NftablesDataplane dataplane = Make();
  EXPECT_SYNCED(dataplane.FullSync(maker.model));
  ServicePortEntry entry = MakeEntry("web", Protocol::kTcp, "10.97.0.1", 80, {});
  for (int i = 1; i <= 9; ++i)
    entry.internal.backends.push_back({Ip(fmt::format("10.245.0.{}", i * 10)), 8080, false});
  entry.external = entry.internal;
  EXPECT_SYNCED(dataplane.Sync(maker.model, maker.Put(entry)));
  // One backend in place of another: one element out, one in.
  entry.internal.backends.back().ip = Ip("10.245.0.99");
  entry.external = entry.internal;
  SyncResult result = dataplane.Sync(maker.model, maker.Put(entry));
  EXPECT_SYNCED(result);
  EXPECT_EQ(result.kernel_writes, 2U);
  // One that is, or may be, on this node is written as one that may reach itself, too.
  entry.internal.backends.back() = {Ip("10.245.0.100"), 8080, true};
  entry.external = entry.internal;
  result = dataplane.Sync(maker.model, maker.Put(entry));
  EXPECT_SYNCED(result);
  EXPECT_EQ(result.kernel_writes, 3U);
  // Nothing that this mode sees.
  entry.ipvs_scheduler = "wrr";
  result = dataplane.Sync(maker.model, maker.Put(entry));
  EXPECT_EQ(result.kernel_writes, 0U);
  EXPECT_VERIFIED(dataplane.Verify(maker.model));
}

TEST_F(Rules, AClassThatGoesOutOfUseStaysAWhileSinceANewOneIsDear) {
  ModelMaker maker;
  NftablesDataplane dataplane = Make();
  EXPECT_SYNCED(dataplane.FullSync(maker.model));
  ServicePortEntry entry = MakeEntry("web", Protocol::kTcp, "10.97.0.1", 80, {});
  const auto with_backends = [&](int count) {
    entry.internal.backends.clear();
    for (int i = 1; i <= count; ++i)
      entry.internal.backends.push_back({Ip(fmt::format("10.245.0.{}", i)), 8080, false});
    const SyncResult result = dataplane.Sync(maker.model, maker.Put(entry));
    EXPECT_SYNCED(result);
    return result.kernel_writes;
  };
  const auto chains = [] {
    const std::string text = Snapshot();
    size_t count = 0;
    for (size_t at = 0; (at = text.find("chain class-", at)) != std::string::npos; ++at)
      ++count;
    return count;
  };
  with_backends(100);
  const uint64_t first = with_backends(99);
  EXPECT_EQ(with_backends(100), 3U) << "where the Service leads, out and in, and one backend";
  EXPECT_EQ(with_backends(99), 3U);
  EXPECT_LT(3U, first) << "a chain and its rules";
  EXPECT_EQ(chains(), 2U);
  EXPECT_VERIFIED(Make().Verify(maker.model));
  // Not for ever: the next full sync clears them away, which is no repair, and so does their
  // number.
  const SyncResult full = dataplane.FullSync(maker.model);
  EXPECT_EQ(full.repaired, 0U);
  EXPECT_EQ(chains(), 1U);
  for (int count = 98; count > 20; --count) {
    with_backends(count);
    EXPECT_LE(chains(), 66U);
  }
  EXPECT_LT(chains(), 30U);
  EXPECT_VERIFIED(Make().Verify(maker.model));
  EXPECT_SYNCED(dataplane.Remove());
}

TEST_F(Rules, AChangeThatMeetsDamageRepairsIt) {
  ModelMaker maker;
  ServicePortEntry entry =
      MakeEntry("web", Protocol::kTcp, "10.97.0.1", 80, {MakeBackend("10.245.0.1", 8080)});
  maker.Put(entry);
  NftablesDataplane dataplane = Make();
  EXPECT_SYNCED(dataplane.FullSync(maker.model));
  nft::Connection connection;
  nft::Transaction damage(Family::kIPv4, nft::kTable);
  damage.FlushSet("endpoints");
  ASSERT_TRUE(connection.Commit(damage).empty());
  // The kernel refuses to delete what is not there.
  entry.internal.backends = {{Ip("10.245.0.2"), 8080, true}};
  const SyncResult result = dataplane.Sync(maker.model, maker.Put(entry));
  EXPECT_SYNCED(result);
  EXPECT_GT(result.repaired, 0U);
  EXPECT_VERIFIED(dataplane.Verify(maker.model));
}

TEST_F(Rules, AFamilyThatIsNoLongerServedIsRemoved) {
  ModelMaker maker;
  EXPECT_SYNCED(Make().FullSync(maker.model));
  NftablesDataplane only_v4(Settings(), {Family::kIPv4}, {});
  EXPECT_SYNCED(only_v4.FullSync(maker.model));
  EXPECT_NE(NftablesSnapshot(Family::kIPv4), "no table\n");
  EXPECT_EQ(NftablesSnapshot(Family::kIPv6), "no table\n");
}

TEST_F(Rules, ADormantTableIsWoken) {
  ModelMaker maker;
  NftablesDataplane dataplane = Make();
  EXPECT_SYNCED(dataplane.FullSync(maker.model));
  nft::Connection connection;
  nft::Transaction sleep(Family::kIPv4, nft::kTable);
  sleep.AddTable(NFT_TABLE_F_DORMANT);
  ASSERT_TRUE(connection.Commit(sleep).empty());
  EXPECT_EQ(dataplane.Verify(maker.model).difference_count, 1U);
  EXPECT_SYNCED(dataplane.FullSync(maker.model));
  EXPECT_VERIFIED(dataplane.Verify(maker.model));
}

TEST(NftablesSettings, BadOnesAreRefusedByName) {
  const auto refusal = [](const kube::ProxySettings& settings) -> std::string {
    try {
      const NftablesDataplane refused(settings, {Family::kIPv4}, {});
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "accepted";
  };
  kube::ProxySettings settings = Settings();
  settings.nftables.masquerade_bit = 32;
  EXPECT_THAT(refusal(settings), HasSubstr("nftables.masqueradeBit"));
  settings = Settings();
  settings.detect_local_mode = kube::DetectLocalMode::kBridgeInterface;
  settings.detect_local.bridge_interface = "a-name-that-is-too-long";
  EXPECT_THAT(refusal(settings), HasSubstr("detectLocal.bridgeInterface"));
}

}  // namespace
}  // namespace pointsman::agent

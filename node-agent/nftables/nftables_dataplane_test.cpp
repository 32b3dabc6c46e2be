#include "node-agent/nftables/nftables_dataplane.h"

#include <atomic>
#include <cerrno>
#include <fstream>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <map>
#include <mutex>
#include <set>
#include <sstream>
#include <system_error>
#include <thread>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "kube/testing/eventually.h"
#include "node-agent/iptables/iptables_dataplane.h"
#include "node-agent/nftables/kernel_support.h"
#include "node-agent/nftables/kernel_table.h"
#include "node-agent/nftables/layout.h"
#include "node-agent/sysctl/sysctl.h"
#include "node-agent/testing/dual_stack_network.h"
#include "node-agent/testing/fresh_netns.h"
#include "node-agent/testing/random_model.h"
#include "node-agent/testing/results.h"
#include "node-agent/xtables/base_rules.h"

namespace pointsman::agent {
namespace {

using net::Family;
using ::testing::AnyOf;
using testing::Ask;
using testing::Attempt;
using testing::DualStackNetwork;
using ::testing::HasSubstr;
using testing::Ip;
using testing::IpTool;
using testing::MakeBackend;
using testing::MakeEntry;
using testing::ModelMaker;
using testing::NetNamespace;
using testing::OpenStream;
using testing::RandomModel;
using testing::Reply;
using testing::Transport;

constexpr Transport kTransports[] = {Transport::kTcp, Transport::kUdp};
constexpr Family kFamilies[] = {Family::kIPv4, Family::kIPv6};

kube::ProxySettings Settings() {
  kube::ProxySettings settings;
  settings.mode = kube::Mode::kNftables;
  settings.cluster_cidrs = {net::IpPrefix::Parse("10.244.0.0/16").value(),
                            net::IpPrefix::Parse("fd00:244::/32").value()};
  return settings;
}

// Everything that a table of ours has but the clients of `affinity`, as text. Of rules the bytes
// that the kernel gives.
std::string Snapshot(Family family) {
  nft::Connection connection;
  const nft::KernelTable table = nft::ReadTable(connection, family, nft::kTable);
  if (!table.present) return "no table\n";
  const auto hex = [](std::string_view bytes) {
    std::string text;
    for (const char byte : bytes)
      text += fmt::format("{:02x}", static_cast<uint8_t>(byte));
    return text;
  };
  std::string text;
  for (const auto& [name, chain] : table.chains) {
    text += fmt::format("chain {} {} {} {} {} {}\n", name, chain.base, chain.type, chain.hook,
                        chain.priority, chain.policy);
    for (const nft::KernelRule& rule : chain.rules)
      text += fmt::format("  {} {}\n", hex(rule.expressions), rule.comment);
  }
  for (const auto& [name, set] : table.sets) {
    text += fmt::format("set {} {} {} {} {}\n", name, set.flags, set.key_size, set.data_type,
                        set.data_size);
    if (name == "affinity") continue;
    std::multiset<std::string> elements;
    nft::ReadElements(
        connection, family, nft::kTable, name, [&] { elements.clear(); },
        [&](const nft::KernelElement& element) {
          elements.insert(
              fmt::format("  {} {} {}\n", hex(element.key), hex(element.data), element.plain));
          return true;
        });
    for (const std::string& element : elements)
      text += element;
  }
  return text;
}

std::string Snapshot() {
  return Snapshot(Family::kIPv4) + Snapshot(Family::kIPv6);
}

// "" when they are the same, else the first line that differs.
std::string Difference(const std::string& a, const std::string& b) {
  std::istringstream lines_of_a(a);
  std::istringstream lines_of_b(b);
  std::string line_of_a;
  std::string line_of_b;
  while (true) {
    const bool more_a = static_cast<bool>(std::getline(lines_of_a, line_of_a));
    const bool more_b = static_cast<bool>(std::getline(lines_of_b, line_of_b));
    if (!more_a && !more_b) return {};
    if (more_a != more_b || line_of_a != line_of_b)
      return fmt::format("{}\nand\n{}", line_of_a, line_of_b);
  }
}

bool ModeCanRun() {
  return nft::MissingFeatures(Family::kIPv4).empty() && nft::MissingFeatures(Family::kIPv6).empty();
}

// A kernel without what this mode needs is what preflight is for.
#define SKIP_WITHOUT_NFTABLES()                                                    \
  do {                                                                             \
    if (::geteuid() != 0) GTEST_SKIP() << "needs root to make network namespaces"; \
    if (!ModeCanRun()) GTEST_SKIP() << "this kernel cannot run mode nftables";     \
  } while (false)

// Real traffic, in one family.
class Traffic : public ::testing::TestWithParam<Family> {
 protected:
  void SetUp() override {
    SKIP_WITHOUT_NFTABLES();
    network_ = std::make_unique<DualStackNetwork>(3);
    Make(Settings());
  }
  void Make(const kube::ProxySettings& settings) {
    OnNode([&] {
      dataplane_ = std::make_unique<NftablesDataplane>(settings, std::vector<Family>{GetParam()});
    });
  }
  bool v4() const { return GetParam() == Family::kIPv4; }
  // The address with that number in the cluster's Service network.
  std::string Vip(int number) const {
    return fmt::format("{}{}", v4() ? "10.96.0." : "fd00:96::", number);
  }
  std::string PublicIp(int number) const {
    return fmt::format("{}{}", v4() ? "198.51.100." : "2001:db8::", number);
  }
  std::string NodeIp() const { return v4() ? "192.168.77.1" : "fd00:77::1"; }
  std::string OutsideIp() const { return v4() ? "192.168.77.2" : "fd00:77::2"; }
  std::string PodIp(int k) const { return DualStackNetwork::PodIp(k, GetParam()).ToString(); }
  // The node's address that pod k sees as its gateway.
  std::string Gateway(int k) const {
    return Ip(v4() ? fmt::format("10.244.{}.1", k) : fmt::format("fd00:244:{:x}::1", k)).ToString();
  }
  std::string Loopback() const { return v4() ? "127.0.0.1" : "::1"; }

  BackendChoice Pods(const std::vector<int>& pods) const {
    BackendChoice choice;
    for (const int k : pods)
      choice.backends.push_back({DualStackNetwork::PodIp(k, GetParam()), 8080, true});
    return choice;
  }
  ServicePortEntry Entry(const std::string& name, int number, const std::vector<int>& pods,
                         Protocol protocol = Protocol::kTcp) const {
    ServicePortEntry entry;
    entry.id = {"default", name, "http", protocol, GetParam()};
    entry.cluster_ip = Ip(Vip(number));
    entry.port = 80;
    entry.internal = Pods(pods);
    entry.external = entry.internal;
    return entry;
  }
  // The same for TCP and UDP.
  void PutBoth(ServicePortEntry entry) {
    for (const Protocol protocol : {Protocol::kTcp, Protocol::kUdp}) {
      entry.id.protocol = protocol;
      maker_.Put(entry);
    }
  }

  void OnNode(const std::function<void()>& work) { network_->node().Run(work); }
  void FullSync() {
    OnNode([&] {
      EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
      EXPECT_VERIFIED(dataplane_->Verify(maker_.model));
    });
  }
  void Sync(const ServicePortEntry& entry) {
    OnNode([&] {
      const SyncResult result = dataplane_->Sync(maker_.model, maker_.Put(entry));
      EXPECT_SYNCED(result);
      EXPECT_EQ(result.repaired, 0U);
    });
  }
  // First packets that the node's conntrack has dropped because another one had just taken the
  // addresses and ports that they were given: the column `insert_failed`, a line for each CPU.
  uint64_t ConntrackClashes() {
    uint64_t clashes = 0;
    OnNode([&] {
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
    });
    return clashes;
  }
  Reply FromPod(const std::string& ip, uint16_t port, const Attempt& attempt = {}, int pod = 0) {
    return Ask(network_->pod(pod), ip, port, attempt);
  }
  Reply FromOutside(const std::string& ip, uint16_t port, const Attempt& attempt = {}) {
    return Ask(network_->outside(), ip, port, attempt);
  }
  Reply FromNode(const std::string& ip, uint16_t port, const Attempt& attempt = {}) {
    return Ask(network_->node(), ip, port, attempt);
  }
  static Attempt Over(Transport transport) { return {.transport = transport}; }
  static Attempt Briefly(Transport transport = Transport::kTcp) {
    return {.transport = transport, .timeout = std::chrono::milliseconds(400)};
  }
  static void ExpectDropped(const Reply& reply) {
    // connect(2) that ran into SO_SNDTIMEO, recv(2) that ran into SO_RCVTIMEO, or a datagram that
    // the node's own rules did not let out.
    EXPECT_THAT(reply.error, AnyOf(EINPROGRESS, EAGAIN, EPERM));
  }
  static void ExpectRefused(const Reply& reply, Transport transport) {
    // A datagram of the node's own does not even leave: send(2) fails.
    EXPECT_THAT(reply.error,
                AnyOf(ECONNREFUSED, transport == Transport::kUdp ? EPERM : ECONNREFUSED));
    // A SYN that was dropped would be sent again after a second.
    EXPECT_LT(reply.took.count(), 900);
  }

  std::unique_ptr<DualStackNetwork> network_;
  std::unique_ptr<NftablesDataplane> dataplane_;
  ModelMaker maker_;
};

TEST_P(Traffic, ClusterIpReachesEveryBackend) {
  PutBoth(Entry("web", 10, {0, 1, 2}));
  FullSync();
  for (const Transport transport : kTransports) {
    std::map<std::string, int> seen;
    for (int i = 0; i < 60; ++i) {
      const Reply reply = FromPod(Vip(10), 80, Over(transport));
      ASSERT_TRUE(reply.ok()) << std::generic_category().message(reply.error);
      ++seen[reply.server];
      // A pod's address is kept, unless it reached itself.
      EXPECT_EQ(reply.peer, reply.server == "pod0" ? Gateway(0) : PodIp(0));
    }
    // 60 draws of 3: fewer than 5 of one has a probability of about 10^-6.
    EXPECT_EQ(seen.size(), 3U);
    for (const auto& [server, count] : seen)
      EXPECT_GE(count, 5) << server;
    EXPECT_TRUE(FromNode(Vip(10), 80, Over(transport)).ok());
  }
}

TEST_P(Traffic, AnEndpointReachesItself) {
  PutBoth(Entry("self", 11, {0}));
  FullSync();
  for (const Transport transport : kTransports) {
    const Reply reply = FromPod(Vip(11), 80, Over(transport));
    EXPECT_TRUE(reply.ok()) << std::generic_category().message(reply.error);
    EXPECT_EQ(reply.peer, Gateway(0));
    EXPECT_EQ(FromPod(Vip(11), 80, Over(transport), 1).peer, PodIp(1));
  }
  // Its successor, learnt by a change.
  Sync(Entry("self", 11, {2}));
  EXPECT_EQ(FromPod(Vip(11), 80, {}, 2).peer, Gateway(2));
  OnNode([&] { EXPECT_VERIFIED(dataplane_->Verify(maker_.model)); });
}

TEST_P(Traffic, AnEndpointOfASliceWithoutNodeNameReachesItself) {
  const auto at_nowhere = [&](int pod) {
    ServicePortEntry entry = Entry("leader", 15, {pod});
    for (BackendChoice* choice : {&entry.internal, &entry.external}) {
      choice->backends[0].local = false;
      choice->backends[0].unplaced = true;
    }
    return entry;
  };
  PutBoth(at_nowhere(0));
  FullSync();
  for (const Transport transport : kTransports) {
    const Reply reply = FromPod(Vip(15), 80, Over(transport));
    EXPECT_TRUE(reply.ok()) << std::generic_category().message(reply.error);
    EXPECT_EQ(reply.peer, Gateway(0));
    // Others keep their address.
    EXPECT_EQ(FromPod(Vip(15), 80, Over(transport), 1).peer, PodIp(1));
  }
  // The next leader, learnt by a change; and the slice is given a node's name.
  Sync(at_nowhere(2));
  EXPECT_EQ(FromPod(Vip(15), 80, {}, 2).peer, Gateway(2));
  Sync(Entry("leader", 15, {2}));
  EXPECT_EQ(FromPod(Vip(15), 80, {}, 2).peer, Gateway(2));
  OnNode([&] { EXPECT_VERIFIED(dataplane_->Verify(maker_.model)); });
}

TEST_P(Traffic, SourcesAreMasqueradedAsTheSettingsSay) {
  maker_.Put(Entry("web", 12, {1}));
  FullSync();
  EXPECT_EQ(FromOutside(Vip(12), 80).peer, Gateway(1));
  EXPECT_EQ(FromPod(Vip(12), 80).peer, PodIp(0));

  kube::ProxySettings settings = Settings();
  settings.nftables.masquerade_all = true;
  settings.nftables.masquerade_bit = 3;
  Make(settings);
  FullSync();
  EXPECT_EQ(FromPod(Vip(12), 80).peer, Gateway(1));

  settings = Settings();
  settings.cluster_cidrs.clear();  // nothing says what is in the cluster
  Make(settings);
  FullSync();
  EXPECT_EQ(FromOutside(Vip(12), 80).peer, OutsideIp());
  EXPECT_EQ(FromPod(Vip(12), 80).peer, PodIp(0));

  settings.detect_local_mode = kube::DetectLocalMode::kInterfaceNamePrefix;
  settings.detect_local.interface_name_prefix = "pod";
  Make(settings);
  FullSync();
  EXPECT_EQ(FromOutside(Vip(12), 80).peer, Gateway(1));
  EXPECT_EQ(FromPod(Vip(12), 80).peer, PodIp(0));

  settings.detect_local_mode = kube::DetectLocalMode::kBridgeInterface;
  settings.detect_local.bridge_interface = "pod2";
  Make(settings);
  FullSync();
  EXPECT_EQ(FromPod(Vip(12), 80).peer, Gateway(1));
  EXPECT_EQ(FromPod(Vip(12), 80, {}, 2).peer, PodIp(2));
}

TEST_P(Traffic, NodePortsAnswerOnEveryAddress) {
  ServicePortEntry entry = Entry("web", 13, {1});
  entry.node_port = 30080;
  PutBoth(entry);
  FullSync();
  for (const Transport transport : kTransports) {
    const Reply reply = FromOutside(NodeIp(), 30080, Over(transport));
    EXPECT_TRUE(reply.ok()) << std::generic_category().message(reply.error);
    EXPECT_EQ(reply.peer, Gateway(1));
    EXPECT_TRUE(FromOutside(Gateway(0), 30080, Over(transport)).ok());
    EXPECT_TRUE(FromPod(NodeIp(), 30080, Over(transport)).ok());
    EXPECT_TRUE(FromNode(NodeIp(), 30080, Over(transport)).ok());
    const Reply local = FromNode(Loopback(), 30080, Over(transport));
    if (v4()) {
      EXPECT_EQ(local.server, "pod1");
    } else {
      // There is no way back to ::1: refused at once, instead of a time-out (kubernetes#67730).
      ExpectRefused(local, transport);
    }
    ExpectRefused(FromOutside(NodeIp(), 30081, Over(transport)), transport);
  }
  // An address that the node gets later.
  const std::string later = v4() ? "192.168.77.7" : "fd00:77::7";
  OnNode([&] {
    IpTool(fmt::format("addr add {} dev outside{}", later + (v4() ? "/32" : "/128"),
                       v4() ? "" : " nodad"));
  });
  EXPECT_TRUE(FromOutside(later, 30080).ok());
  // It is the node's port and not that of whatever is behind it.
  EXPECT_FALSE(FromOutside(PodIp(2), 30080, Briefly()).ok());
}

TEST_P(Traffic, NodePortAddressesAreRespected) {
  maker_.model.node.every_address = false;
  maker_.model.node.node_port_addresses = {Ip(NodeIp())};
  maker_.model.node.localhost_node_ports = false;
  ServicePortEntry entry = Entry("web", 13, {1});
  entry.node_port = 30080;
  PutBoth(entry);
  FullSync();
  for (const Transport transport : kTransports) {
    EXPECT_TRUE(FromOutside(NodeIp(), 30080, Over(transport)).ok());
    ExpectRefused(FromOutside(Gateway(0), 30080, Over(transport)), transport);
    ExpectRefused(FromNode(Loopback(), 30080, Over(transport)), transport);
  }
  maker_.model.node.localhost_node_ports = true;
  ModelDelta delta;
  delta.node_changed = true;
  OnNode([&] { EXPECT_SYNCED(dataplane_->Sync(maker_.model, delta)); });
  EXPECT_EQ(FromNode(Loopback(), 30080).ok(), v4());
  EXPECT_EQ(FromOutside(Gateway(0), 30080).error, ECONNREFUSED);
}

TEST_P(Traffic, LoopbackStaysClosedToTheOutside) {
  if (!v4()) GTEST_SKIP() << "IPv6 has nothing like route_localnet";
  const auto route_localnet = [&] {
    std::optional<std::string> value;
    OnNode([&] { value = ReadSysctl("net.ipv4.conf.all.route_localnet"); });
    return value;
  };
  // The client is told that this address is to be found at the node.
  network_->outside().Run([] {
    WriteSysctl("net.ipv4.conf.all.route_localnet", "1");
    IpTool("route add 127.0.0.5/32 via 192.168.77.1 table local src 192.168.77.2");
  });
  const auto ask = [&] { return FromOutside("127.0.0.5", 8080, Briefly()); };
  // Without us the kernel keeps it out.
  ASSERT_FALSE(ask().ok());
  // The hole that the guard closes is there.
  OnNode([] { WriteSysctl("net.ipv4.conf.all.route_localnet", "1"); });
  ASSERT_TRUE(ask().ok());
  OnNode([] { WriteSysctl("net.ipv4.conf.all.route_localnet", "0"); });

  maker_.model.node.localhost_node_ports = true;
  FullSync();
  EXPECT_EQ(route_localnet(), "1");
  EXPECT_THAT(dataplane_->Sysctls(),
              ::testing::IsSupersetOf({"net.ipv4.ip_forward", "net.ipv4.conf.all.route_localnet"}));
  ExpectDropped(ask());
  OnNode([&] { EXPECT_SYNCED(dataplane_->Remove()); });
  EXPECT_EQ(route_localnet(), "0");

  // Not ours: it stays.
  OnNode([] { WriteSysctl("net.ipv4.conf.all.route_localnet", "1"); });
  FullSync();
  ExpectDropped(ask());
  // Also by another process.
  Make(Settings());
  OnNode([&] { EXPECT_SYNCED(dataplane_->Remove()); });
  EXPECT_EQ(route_localnet(), "1");
}

TEST_P(Traffic, WithoutEndpointsItIsRefusedAtOnce) {
  ServicePortEntry entry = Entry("empty", 14, {});
  entry.node_port = 30090;
  entry.external_ips = {Ip(PublicIp(1))};
  entry.load_balancer_ips = {Ip(PublicIp(2))};
  PutBoth(entry);
  FullSync();
  for (const Transport transport : kTransports) {
    for (const std::string& vip : {Vip(14), PublicIp(1), PublicIp(2)}) {
      SCOPED_TRACE(vip + (transport == Transport::kUdp ? " udp" : " tcp"));
      ExpectRefused(FromPod(vip, 80, Over(transport)), transport);
      ExpectRefused(FromNode(vip, 80, Over(transport)), transport);
      ExpectRefused(FromOutside(vip, 80, Over(transport)), transport);
    }
    ExpectRefused(FromOutside(NodeIp(), 30090, Over(transport)), transport);
    ExpectRefused(FromPod(NodeIp(), 30090, Over(transport)), transport);
    ExpectRefused(FromNode(NodeIp(), 30090, Over(transport)), transport);
    ExpectRefused(FromNode(Loopback(), 30090, Over(transport)), transport);
  }
  // Whatever listens there on the node does not answer for the Service.
  entry.node_port = 8080;
  Sync(entry);
  EXPECT_EQ(FromOutside(NodeIp(), 8080).error, ECONNREFUSED);
  // The first endpoint opens it again.
  entry.internal = entry.external = Pods({1});
  Sync(entry);
  EXPECT_TRUE(FromPod(Vip(14), 80).ok());
  EXPECT_EQ(FromOutside(NodeIp(), 8080).server, "pod1");
  EXPECT_TRUE(FromOutside(PublicIp(1), 80).ok());
  EXPECT_TRUE(FromOutside(PublicIp(2), 80).ok());
  EXPECT_EQ(FromOutside(PublicIp(2), 80).peer, Gateway(1));
}

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
    ExpectRefused(FromPod(Vip(16), port, Over(transport)), transport);
    ExpectRefused(FromNode(Vip(16), port, Over(transport)), transport);
    ExpectRefused(FromOutside(Vip(16), port, Over(transport)), transport);
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
  OnNode([&] { IpTool(fmt::format(fmt::runtime(device), "add")); });
  EXPECT_TRUE(ping(network_->pod(0)));
  EXPECT_EQ(FromPod(Vip(16), 8080).server, "node");
  OnNode([&] { IpTool(fmt::format("addr del {}/{} dev lo", Vip(16), v4() ? 32 : 128)); });
  refused(8080, Transport::kTcp);
  // Another Service port of the same address comes, and goes; then the Service goes.
  ServicePortEntry second = Entry("web", 16, {2});
  second.id.port_name = "second";
  second.port = 81;
  Sync(second);
  EXPECT_EQ(FromPod(Vip(16), 81).server, "pod2");
  OnNode([&] { EXPECT_SYNCED(dataplane_->Sync(maker_.model, maker_.Remove(second.id))); });
  refused(81, Transport::kTcp);
  OnNode([&] {
    EXPECT_SYNCED(dataplane_->Sync(maker_.model, maker_.Remove(entry.id)));
    EXPECT_VERIFIED(dataplane_->Verify(maker_.model));
  });
  ExpectDropped(FromPod(Vip(16), 81, Briefly()));
}

TEST_P(Traffic, AFlowThatAnotherModeCarriesIsNotRefused) {
  // A datagram that nothing translates, to a port that is a Service's: as ipvs' are while it is
  // being drained, and its client never gets an answer.
  OnNode([&] { EXPECT_SYNCED(dataplane_->FullSync(maker_.model)); });
  const auto send = [&] {
    return FromPod(Vip(17), 80,
                   {.transport = Transport::kUdp,
                    .timeout = std::chrono::milliseconds(400),
                    .source_port = 4700});
  };
  ExpectDropped(send());
  ServicePortEntry entry = Entry("logs", 17, {1}, Protocol::kUdp);
  Sync(entry);
  ExpectDropped(send());
}

TEST_P(Traffic, OnlyAnswersOfEndpointsAreHeldUpWhenTheyAreInvalid) {
  network_->AddPathPastNode(2);
  const auto ask = [&] { return FromOutside(PodIp(2), 8080, Briefly()); };
  ASSERT_TRUE(Eventually([&] { return ask().ok(); })) << "the path is not there";
  // An endpoint of another network, and one of this pod's with another port and protocol.
  maker_.Put(Entry("web", 18, {0}));
  ServicePortEntry near = Entry("near", 19, {2});
  near.internal.backends[0].port = near.external.backends[0].port = 8081;
  maker_.Put(near);
  maker_.Put(Entry("udp", 19, {2}, Protocol::kUdp));
  FullSync();
  // The node saw no SYN, so to its conntrack the answer is invalid; but it is no Service's.
  EXPECT_TRUE(ask().ok());
  // This might be an answer whose NAT is to be undone.
  const ServicePortEntry entry = Entry("direct", 20, {2});
  Sync(entry);
  ExpectDropped(ask());
  ServicePortEntry draining = entry;
  draining.draining = draining.internal.backends;
  draining.internal = draining.external = {};
  Sync(draining);
  ExpectDropped(ask());
  OnNode([&] {
    EXPECT_SYNCED(dataplane_->Sync(maker_.model, maker_.Remove(entry.id)));
    EXPECT_VERIFIED(dataplane_->Verify(maker_.model));
  });
  EXPECT_TRUE(ask().ok());
  // conntrack is told to take them for valid.
  Sync(entry);
  kube::ProxySettings settings = Settings();
  settings.conntrack.tcp_be_liberal = true;
  Make(settings);
  FullSync();
  EXPECT_TRUE(ask().ok());
}

TEST_P(Traffic, AffinityKeepsAClientAtItsBackend) {
  ServicePortEntry entry = Entry("sticky", 15, {0, 1, 2});
  entry.node_port = 30150;
  entry.affinity_timeout = std::chrono::seconds(100);
  PutBoth(entry);
  FullSync();
  for (const Transport transport : kTransports) {
    const std::string first = FromOutside(Vip(15), 80, Over(transport)).server;
    for (int i = 0; i < 12; ++i)
      EXPECT_EQ(FromOutside(Vip(15), 80, Over(transport)).server, first);
    // Also on another of its addresses, since the backends are the same.
    EXPECT_EQ(FromOutside(NodeIp(), 30150, Over(transport)).server, first);
  }
  // Clients are not all sent to the same: 16 addresses of one, and 3 backends.
  std::set<std::string> seen;
  std::map<std::string, std::string> backend_of;
  network_->outside().Run([&] {
    for (int i = 10; i < 26; ++i) {
      IpTool(v4() ? fmt::format("addr add 192.168.77.{}/24 dev eth0", i)
                  : fmt::format("addr add fd00:77::{}/64 dev eth0 nodad", i));
    }
  });
  const auto of = [&](int i) {
    const std::string source = fmt::format("{}{}", v4() ? "192.168.77." : "fd00:77::", i);
    return FromOutside(Vip(15), 80, {.source = source}).server;
  };
  for (int i = 10; i < 26; ++i) {
    backend_of[std::to_string(i)] = of(i);
    seen.insert(of(i));
  }
  EXPECT_EQ(seen.size(), 3U);
  // Another backend's change leaves them alone, a full sync and a restarted agent too; only those
  // of the one that went are sent elsewhere, and stay there.
  entry.internal = entry.external = Pods({1, 2});
  Sync(entry);
  FullSync();
  Make(Settings());
  FullSync();
  for (int i = 10; i < 26; ++i) {
    const std::string before = backend_of[std::to_string(i)];
    const std::string now = of(i);
    if (before == "pod0") {
      EXPECT_NE(now, "pod0");
      for (int again = 0; again < 6; ++again)
        EXPECT_EQ(of(i), now);
    } else {
      EXPECT_EQ(now, before);
    }
  }
}

TEST_P(Traffic, AffinityEndsAfterItsTimeout) {
  ServicePortEntry entry = Entry("sticky", 15, {0, 1, 2});
  entry.affinity_timeout = std::chrono::seconds(1);
  maker_.Put(entry);
  FullSync();
  // Each connection renews it; after more than the timeout without one the choice is made anew.
  std::set<std::string> seen;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (seen.size() < 2 && std::chrono::steady_clock::now() < deadline) {
    const std::string first = FromOutside(Vip(15), 80).server;
    EXPECT_EQ(FromOutside(Vip(15), 80).server, first);
    seen.insert(first);
    std::this_thread::sleep_for(std::chrono::milliseconds(1100));  // the timeout itself
  }
  EXPECT_GE(seen.size(), 2U);
}

TEST_P(Traffic, LocalPolicyKeepsTheClientsAddress) {
  ServicePortEntry entry = Entry("local", 16, {1, 2});
  entry.node_port = 30100;
  entry.external_ips = {Ip(PublicIp(6))};
  entry.load_balancer_ips = {Ip(PublicIp(7))};
  entry.external_local = true;
  entry.external_from_node = entry.internal;
  entry.external = Pods({1});
  entry.external.when_empty = BackendChoice::WhenEmpty::kDrop;
  PutBoth(entry);
  FullSync();
  const std::vector<std::pair<std::string, uint16_t>> ways{
      {NodeIp(), 30100}, {PublicIp(6), 80}, {PublicIp(7), 80}};
  const auto reaches_both = [&](const std::function<Reply()>& ask) {
    std::set<std::string> seen;
    for (int i = 0; i < 40 && seen.size() < 2; ++i) {
      const Reply reply = ask();
      EXPECT_TRUE(reply.ok()) << std::generic_category().message(reply.error);
      seen.insert(reply.server);
    }
    return seen.size() == 2;
  };
  for (const Transport transport : kTransports) {
    for (const auto& [ip, port] : ways) {
      SCOPED_TRACE(ip);
      for (int i = 0; i < 6; ++i) {
        const Reply reply = FromOutside(ip, port, Over(transport));
        EXPECT_EQ(reply.server, "pod1");
        EXPECT_EQ(reply.peer, OutsideIp());
      }
      EXPECT_TRUE(reaches_both([&, to = ip, at = port] {
        Reply reply = FromPod(to, at, Over(transport));
        EXPECT_EQ(reply.peer, PodIp(0));  // a pod's address is kept too
        return reply;
      }));
      EXPECT_TRUE(
          reaches_both([&, to = ip, at = port] { return FromNode(to, at, Over(transport)); }));
    }
    if (v4()) {
      EXPECT_TRUE(reaches_both([&] { return FromNode(Loopback(), 30100, Over(transport)); }));
    }
  }
  // No local endpoint: outside is dropped, the node and its pods are served.
  entry.external.backends.clear();
  Sync(entry);
  for (const auto& [ip, port] : ways) {
    SCOPED_TRACE(ip);
    ExpectDropped(FromOutside(ip, port, Briefly()));
    EXPECT_TRUE(FromNode(ip, port).ok());
    EXPECT_TRUE(FromPod(ip, port).ok());
  }
  // None anywhere: refused.
  entry.internal = entry.external = entry.external_from_node = {};
  Sync(entry);
  for (const auto& [ip, port] : ways) {
    SCOPED_TRACE(ip);
    ExpectRefused(FromOutside(ip, port), Transport::kTcp);
    ExpectRefused(FromNode(ip, port), Transport::kTcp);
  }
}

TEST_P(Traffic, InternalLocalPolicyDropsWithoutALocalEndpoint) {
  ServicePortEntry entry = Entry("local", 16, {});
  entry.internal.when_empty = BackendChoice::WhenEmpty::kDrop;
  PutBoth(entry);
  FullSync();
  for (const Transport transport : kTransports) {
    ExpectDropped(FromPod(Vip(16), 80, Briefly(transport)));
    ExpectDropped(FromNode(Vip(16), 80, Briefly(transport)));
  }
}

TEST_P(Traffic, SourceRangesAreEnforced) {
  ServicePortEntry entry = Entry("lb", 17, {1});
  entry.node_port = 30170;
  entry.load_balancer_ips = {Ip(PublicIp(7))};
  entry.source_ranges = {net::IpPrefix::Parse(v4() ? "10.244.0.0/24" : "fd00:244:0::/48").value()};
  PutBoth(entry);
  FullSync();
  for (const Transport transport : kTransports) {
    EXPECT_TRUE(FromPod(PublicIp(7), 80, Over(transport)).ok());
    ExpectDropped(FromPod(PublicIp(7), 80, Briefly(transport), 2));
    ExpectDropped(FromOutside(PublicIp(7), 80, Briefly(transport)));
    ExpectDropped(FromNode(PublicIp(7), 80, Briefly(transport)));
    // They are for the load balancer's addresses only.
    EXPECT_TRUE(FromOutside(NodeIp(), 30170, Over(transport)).ok());
    EXPECT_TRUE(FromOutside(Vip(17), 80, Over(transport)).ok());
  }
  entry.source_ranges.push_back(
      net::IpPrefix::Parse(OutsideIp() + (v4() ? "/32" : "/128")).value());
  Sync(entry);
  EXPECT_TRUE(FromOutside(PublicIp(7), 80).ok());
  EXPECT_TRUE(FromPod(PublicIp(7), 80).ok());
  ExpectDropped(FromPod(PublicIp(7), 80, Briefly(), 2));
  // Under a Local policy the short cut of the node's pods is behind the ranges too.
  entry.external_local = true;
  entry.external_from_node = entry.internal;
  Sync(entry);
  EXPECT_EQ(FromOutside(PublicIp(7), 80).peer, OutsideIp());
  EXPECT_TRUE(FromPod(PublicIp(7), 80).ok());
  ExpectDropped(FromPod(PublicIp(7), 80, Briefly(), 2));
  // Ranges of the other family only: nobody.
  entry.source_ranges.clear();
  entry.source_ranges_deny_all = true;
  Sync(entry);
  ExpectDropped(FromPod(PublicIp(7), 80, Briefly()));
  ExpectDropped(FromOutside(PublicIp(7), 80, Briefly()));
  entry.source_ranges_deny_all = false;
  Sync(entry);
  EXPECT_TRUE(FromOutside(PublicIp(7), 80).ok());
  OnNode([&] { EXPECT_VERIFIED(dataplane_->Verify(maker_.model)); });
}

TEST_P(Traffic, TheNodeMayComeByItsLoadBalancersAddress) {
  // As MetalLB and cloud controllers do it, the address is bound on the node.
  OnNode([&] {
    IpTool(fmt::format("addr add {} dev lo", PublicIp(8) + (v4() ? "/32" : "/128 nodad")));
  });
  ServicePortEntry entry = Entry("lb", 17, {1});
  entry.load_balancer_ips = {Ip(PublicIp(8))};
  entry.source_ranges = {net::IpPrefix::Parse(NodeIp() + (v4() ? "/32" : "/128")).value()};
  maker_.Put(entry);
  FullSync();
  ExpectDropped(FromNode(PublicIp(8), 80, Briefly()));
  entry.node_in_source_ranges = true;
  Sync(entry);
  EXPECT_TRUE(FromNode(PublicIp(8), 80).ok());
  ExpectDropped(FromPod(PublicIp(8), 80, Briefly()));
}

TEST_P(Traffic, NothingFailsWhileEndpointsChange) {
  PutBoth(Entry("web", 18, {0, 1, 2}));
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
        if (reply.ok() && reply.took < std::chrono::milliseconds(900)) continue;
        ++failures;
        const std::lock_guard lock(mutex);
        failed.push_back(fmt::format("client {} at connection {} after {} ms: {} {}", who,
                                     connections.load(), reply.took.count(), reply.server,
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
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(4);
  int changes = 0;
  while (changes < 60 || std::chrono::steady_clock::now() < end) {
    const std::vector<int>& pods = choices[static_cast<size_t>(changes) % choices.size()];
    Sync(Entry("web", 18, pods));
    Sync(Entry("web", 18, pods, Protocol::kUdp));
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
  EXPECT_GT(connections, 200);
  RecordProperty("connections", connections);
  RecordProperty("changes", changes);
  OnNode([&] { EXPECT_VERIFIED(dataplane_->Verify(maker_.model)); });
}

TEST_P(Traffic, StreamsSurviveChangeDrainAndRemoval) {
  maker_.Put(Entry("web", 19, {1}));
  FullSync();
  OpenStream pod(network_->pod(0), Vip(19), 80);
  OpenStream outside(network_->outside(), Vip(19), 80);
  EXPECT_EQ(pod.server(), "pod1");
  Sync(Entry("web", 19, {2}));
  EXPECT_TRUE(pod.Echo());
  EXPECT_TRUE(outside.Echo());
  EXPECT_EQ(FromPod(Vip(19), 80).server, "pod2");
  OnNode([&] {
    // The last connection, which is closed, may still be on its way out of the kernel's table.
    EXPECT_TRUE(Eventually([&] { return dataplane_->Drain(maker_.model).connections == 2; }));
    EXPECT_EQ(dataplane_->Drain(maker_.model).connections, 2U);
    EXPECT_TRUE(dataplane_->Present());
  });
  EXPECT_FALSE(FromPod(Vip(19), 80, Briefly()).ok());
  EXPECT_TRUE(pod.Echo());
  EXPECT_TRUE(outside.Echo());
  // A restarted agent finds the drain under way.
  Make(Settings());
  OnNode([&] {
    EXPECT_TRUE(dataplane_->Present());
    EXPECT_EQ(dataplane_->Drain(maker_.model).connections, 2U);
  });
  // Back: a drain that was broken off.
  FullSync();
  EXPECT_TRUE(FromPod(Vip(19), 80).ok());
  // Something else uses conntrack, as the base rules of the other modes do.
  OnNode([&] {
    xtables::IptablesTool tool(GetParam());
    EXPECT_SYNCED(xtables::BaseRules(tool, 14).Ensure());
    EXPECT_SYNCED(dataplane_->Remove());
    EXPECT_FALSE(dataplane_->Present());
  });
  EXPECT_TRUE(pod.Echo());
  EXPECT_TRUE(outside.Echo());
}

TEST_P(Traffic, DrainCountsDownAsConnectionsEnd) {
  maker_.Put(Entry("web", 19, {1}));
  FullSync();
  auto stream = std::make_unique<OpenStream>(network_->pod(0), Vip(19), 80);
  OnNode([&] { EXPECT_EQ(dataplane_->Drain(maker_.model).connections, 1U); });
  stream.reset();
  uint64_t left = 1;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  while (left != 0 && std::chrono::steady_clock::now() < deadline)
    OnNode([&] { left = dataplane_->Drain(maker_.model).connections; });
  EXPECT_EQ(left, 0U);
}

TEST_P(Traffic, DamageIsRepairedWithoutAGapForAffinity) {
  ServicePortEntry entry = Entry("sticky", 20, {0, 1, 2});
  entry.affinity_timeout = std::chrono::seconds(100);
  maker_.Put(entry);
  FullSync();
  const std::string first = FromOutside(Vip(20), 80).server;
  OnNode([&] {
    nft::Connection connection;
    nft::Transaction damage(GetParam(), nft::kTable);
    damage.FlushSet("endpoints");
    damage.FlushSet("affinity-endpoints");
    damage.FlushChain(nft::kPrerouting);
    ASSERT_TRUE(connection.Commit(damage).empty());
  });
  EXPECT_FALSE(FromOutside(Vip(20), 80, Briefly()).ok());
  FullSync();
  for (int i = 0; i < 10; ++i)
    EXPECT_EQ(FromOutside(Vip(20), 80).server, first);
}

TEST_P(Traffic, HandoverFromAndToIptablesLosesNothing) {
  PutBoth(Entry("web", 21, {0, 1, 2}));
  ServicePortEntry entry = Entry("outside", 22, {1, 2});
  entry.node_port = 30220;
  PutBoth(entry);
  std::unique_ptr<xtables::IptablesTool> tool4;
  std::unique_ptr<xtables::IptablesTool> tool6;
  std::unique_ptr<IptablesDataplane> iptables;
  OnNode([&] {
    tool4 = std::make_unique<xtables::IptablesTool>(Family::kIPv4);
    tool6 = std::make_unique<xtables::IptablesTool>(Family::kIPv6);
    iptables =
        std::make_unique<IptablesDataplane>(Settings(), std::vector{tool4.get(), tool6.get()});
    EXPECT_SYNCED(iptables->FullSync(maker_.model));
  });
  std::vector<std::unique_ptr<OpenStream>> streams;
  const auto open = [&] {
    streams.push_back(std::make_unique<OpenStream>(network_->pod(0), Vip(21), 80));
    streams.push_back(std::make_unique<OpenStream>(network_->outside(), NodeIp(), 30220));
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
          if (reply.ok() && reply.took < std::chrono::milliseconds(900)) continue;
          ++failures;
          const std::lock_guard lock(mutex);
          failed.push_back(fmt::format("{} at connection {} after {} ms: {} {}", stage.load(),
                                       connections.load(), reply.took.count(), reply.server,
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
    OnNode([&] {
      EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
      EXPECT_VERIFIED(dataplane_->Verify(maker_.model));
    });
    settle();
    stage = "iptables drained";
    OnNode([&] { iptables->Drain(maker_.model); });
    settle();
    stage = "iptables removed";
    OnNode([&] { EXPECT_SYNCED(iptables->Remove()); });
    settle();
    open();
    stage = "both again";
    OnNode([&] { EXPECT_SYNCED(iptables->FullSync(maker_.model)); });
    settle();
    stage = "nftables drained";
    OnNode([&] { EXPECT_GE(dataplane_->Drain(maker_.model).connections, 2U); });
    settle();
    stage = "nftables removed";
    OnNode([&] { EXPECT_SYNCED(dataplane_->Remove()); });
  }
  settle();
  stop = true;
  for (std::thread& client : clients)
    client.join();
  EXPECT_EQ(failures, 0) << "of " << connections << "\n"
                         << fmt::format("{}", fmt::join(failed, "\n"));
  for (const auto& stream : streams)
    EXPECT_TRUE(stream->Echo());
}

std::string FamilyName(const ::testing::TestParamInfo<Family>& family) {
  return std::string(net::ToString(family.param));
}
INSTANTIATE_TEST_SUITE_P(Families, Traffic, ::testing::ValuesIn(kFamilies), FamilyName);

// Rules alone, in an empty namespace.
class Rules : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!EnterFreshNetns()) GTEST_SKIP() << "needs root to make a network namespace";
    SKIP_WITHOUT_NFTABLES();
  }
  static NftablesDataplane Make() { return {Settings(), {Family::kIPv4, Family::kIPv6}}; }
};

TEST_F(Rules, IncrementalEqualsFull) {
  const std::string untouched = Snapshot();
  for (const uint32_t seed : {20261124U, 1U, 2U}) {
    RandomModel random(seed);
    ModelMaker maker;
    NftablesDataplane dataplane = Make();
    EXPECT_SYNCED(dataplane.FullSync(maker.model));
    for (int step = 0; step < 120; ++step) {
      SCOPED_TRACE(step);
      const SyncResult result = dataplane.Sync(maker.model, random.Step(maker));
      ASSERT_TRUE(result.ok()) << result.problems[0].object << " " << result.problems[0].message;
      ASSERT_EQ(result.repaired, 0U);  // the kernel took it as it was
      const VerifyResult verified = Make().Verify(maker.model);
      EXPECT_VERIFIED(verified);
      EXPECT_GT(verified.objects_checked, 10U);
      if (step % 10 != 9) continue;
      // Takes the traffic classes away that went out of use, and has nothing else to do.
      const SyncResult periodic = dataplane.FullSync(maker.model);
      EXPECT_SYNCED(periodic);
      EXPECT_EQ(periodic.repaired, 0U);
      const std::string incremental = Snapshot();
      // Another process finds nothing to write.
      EXPECT_EQ(Make().FullSync(maker.model).kernel_writes, 0U);
      // Written from nothing it is the same, byte for byte.
      EXPECT_SYNCED(Make().Remove());
      ASSERT_EQ(Difference(Snapshot(), untouched), "");
      EXPECT_SYNCED(dataplane.FullSync(maker.model));
      ASSERT_EQ(Difference(Snapshot(), incremental), "");
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

TEST_F(Rules, DamageIsSeenAndRepaired) {
  ModelMaker maker;
  RandomModel random(7);
  for (int i = 0; i < 30; ++i)
    random.Step(maker);
  ServicePortEntry entry =
      MakeEntry("web", Protocol::kTcp, "10.97.0.1", 80, {MakeBackend("10.245.0.1", 8080)});
  entry.external = entry.internal;
  entry.load_balancer_ips = {Ip("203.0.99.1")};
  entry.source_ranges = {net::IpPrefix::Parse("192.168.0.0/16").value()};
  maker.Put(entry);
  maker.model.node.localhost_node_ports = true;
  NftablesDataplane dataplane = Make();
  EXPECT_SYNCED(dataplane.FullSync(maker.model));
  const std::string good = Snapshot();
  const auto& sets = nft::SetsOf(Family::kIPv4);
  const auto set = [&](nft::SetId id) -> const nft::SetDefinition& {
    return sets[static_cast<size_t>(id)];
  };
  using Damage = std::function<void(nft::Transaction&)>;
  const std::map<std::string, Damage> damages{
      {"an entrance is empty", [](auto& t) { t.FlushChain(nft::kPrerouting); }},
      {"the Services' rules are gone", [](auto& t) { t.FlushChain(nft::kServicesChain); }},
      {"a rule more",
       [](auto& t) {
         t.AppendRule("postrouting", nft::RuleBuilder(Family::kIPv4).Accept().Build());
       }},
      {"another rule in its place",
       [](auto& t) {
         t.FlushChain("forward");
         t.AppendRule("forward", nft::RuleBuilder(Family::kIPv4).CtState(2).Drop().Build());
       }},
      {"a chain of nobody's",
       [](auto& t) {
         t.AddChain({"stranger", nft::Hook{"filter", NF_INET_FORWARD, 5}, {}});
         t.AppendRule("stranger", nft::RuleBuilder(Family::kIPv4).Drop().Build());
       }},
      {"chains that name one another",
       [](auto& t) {
         t.AddChain({"one", {}, {}});
         t.AddChain({"two", {}, {}});
         t.AppendRule("one", nft::RuleBuilder(Family::kIPv4).Jump("two").Build());
       }},
      {"an element of nobody's",
       [&](auto& t) {
         t.AddElement(set(nft::SetId::kEndpoints), {std::string(12, 'x'), std::string(8, 'y')});
       }},
      {"endpoints are gone", [](auto& t) { t.FlushSet("endpoints"); }},
      {"Services are gone", [](auto& t) { t.FlushSet("services"); }},
      {"ranges are gone", [](auto& t) { t.FlushSet("source-ranges"); }},
      {"a set of nobody's",
       [&](auto& t) {
         nft::SetDefinition stranger = set(nft::SetId::kNodeAddresses);
         stranger.name = "stranger";
         t.AddSet(stranger);
       }},
      {"the table is gone", [](auto& t) { t.DeleteTable(); }},
      {"it is all of another kind",
       [&](auto& t) {
         t.DeleteTable();
         t.AddTable();
         nft::SetDefinition other = set(nft::SetId::kEndpoints);
         other.key_size = 8;
         t.AddSet(other);
         t.AddChain(
             {std::string(nft::kPrerouting), nft::Hook{"nat", NF_INET_PRE_ROUTING, -100}, {}});
       }},
  };
  for (const auto& [what, damage] : damages) {
    SCOPED_TRACE(what);
    nft::Connection connection;
    nft::Transaction transaction(Family::kIPv4, nft::kTable);
    damage(transaction);
    for (const nft::Refusal& refusal : connection.Commit(transaction))
      ADD_FAILURE() << refusal.object << " " << refusal.message;
    EXPECT_NE(Difference(Snapshot(), good), "");
    EXPECT_GT(dataplane.Verify(maker.model).difference_count, 0U);
    const SyncResult result = dataplane.FullSync(maker.model);
    EXPECT_SYNCED(result);
    EXPECT_GT(result.repaired, 0U);
    EXPECT_EQ(Difference(Snapshot(), good), "");
    EXPECT_VERIFIED(dataplane.Verify(maker.model));
  }
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

TEST_F(Rules, RemovalLeavesOthersAlone) {
  nft::Connection connection;
  for (const Family family : kFamilies) {
    nft::Transaction others(family, "kube-proxy");
    others.AddTable();
    for (const nft::SetDefinition& set : nft::SetsOf(family))
      others.AddSet(set);
    others.AddChain({"nat-prerouting", nft::Hook{"nat", NF_INET_PRE_ROUTING, -100}, {}});
    others.AppendRule("nat-prerouting", nft::RuleBuilder(family).Accept().Build("theirs"));
    ASSERT_TRUE(connection.Commit(others).empty());
  }
  const auto theirs = [&] {
    std::string text;
    for (const Family family : kFamilies) {
      const nft::KernelTable table = nft::ReadTable(connection, family, "kube-proxy");
      text += fmt::format("{} {} {} {}\n", table.present, table.sets.size(), table.chains.size(),
                          table.chains.empty() ? 0 : table.chains.begin()->second.rules.size());
    }
    return text;
  };
  const std::string before = theirs();
  const std::string untouched = Snapshot();
  ModelMaker maker;
  maker.model.node.localhost_node_ports = true;
  RandomModel random(3);
  for (int i = 0; i < 10; ++i)
    random.Step(maker);
  NftablesDataplane dataplane = Make();
  EXPECT_FALSE(dataplane.Present());
  EXPECT_SYNCED(dataplane.FullSync(maker.model));
  EXPECT_TRUE(Make().Present());
  EXPECT_EQ(theirs(), before);
  // By another process, which remembers nothing.
  EXPECT_SYNCED(Make().Remove());
  EXPECT_FALSE(dataplane.Present());
  EXPECT_EQ(Difference(Snapshot(), untouched), "");
  EXPECT_EQ(theirs(), before);
  EXPECT_EQ(Make().Remove().kernel_writes, 0U);
}

TEST_F(Rules, AFamilyThatIsNoLongerServedIsRemoved) {
  ModelMaker maker;
  EXPECT_SYNCED(Make().FullSync(maker.model));
  NftablesDataplane only_v4(Settings(), {Family::kIPv4});
  EXPECT_SYNCED(only_v4.FullSync(maker.model));
  EXPECT_NE(Snapshot(Family::kIPv4), "no table\n");
  EXPECT_EQ(Snapshot(Family::kIPv6), "no table\n");
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
      const NftablesDataplane refused(settings, {Family::kIPv4});
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

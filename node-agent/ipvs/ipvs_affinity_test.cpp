// sessionAffinity in a handover: which clients IPVS has bound, and binding clients of another mode.
#include <linux/ip_vs.h>
#include <map>

#include <fmt/format.h>

#include "base/unique_fd.h"
#include "kube/net/socket_address.h"
#include "kube/testing/eventually.h"
#include "node-agent/ipvs/internal_addresses.h"
#include "node-agent/ipvs/testing/dual_stack_node.h"
#include "node-agent/netlink/ipvs_templates.h"
#include "node-agent/testing/test_address.h"

namespace pointsman::agent {
namespace {

using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

constexpr seconds kTimeout{10800};
constexpr int kBackends = 5;

struct Addresses {
  net::Family family;
  const char* pod_gateway;
  const char* node;
  const char* client;
  const char* clients;  // with a number behind it: what else the client's host is
  const char* clients_prefix;
  const char* vip;
  const char* pod;  // with a number behind it
  const char* caller;
  const char* load_balancer;
  const char* elsewhere;
};
constexpr Addresses kV4{net::Family::kIPv4, kPodGateway,     kNodeIp,       kClientIp,
                        "10.250.",          "10.250.0.0/16", kVip,          "10.244.0.1",
                        "10.244.0.4",       "198.51.100.8",  "192.0.2.0/24"};
constexpr Addresses kV6{net::Family::kIPv6, "fd00:10:244::1", "fd00:50::1",        "fd00:50::2",
                        "fd00:250::",       "fd00:250::/64",  "fd00:10:96::10",    "fd00:10:244::1",
                        "fd00:10:244::4",   "2001:db8::8",    "2001:db8:ffff::/64"};

std::string Pod(int number) {
  return "pod-" + std::to_string(number);
}

class IpvsAffinityTest : public ::testing::TestWithParam<const Addresses*>,
                         protected DualStackNode {
 protected:
  static void SetUpTestSuite() {
    LoadModules();
    network_ = std::make_unique<TestNetwork>();
    for (int i = 0; i <= kBackends; ++i) {
      // The last one is a client.
      const std::string host = i == 0 ? "caller" : Pod(i);
      const auto ip = [&](const Addresses& at) {
        return i == 0 ? at.caller : at.pod + std::to_string(i);
      };
      network_->AddHost(host, ip(kV4), kV4.pod_gateway);
      network_->AddAddress(host, ip(kV6), kV6.pod_gateway);
      if (i == 0) continue;
      network_->Serve(host, ip(kV4), 8080);
      network_->Serve(host, ip(kV6), 8080);
    }
    network_->AddHost("client", kV4.client, kV4.node);
    network_->AddAddress("client", kV6.client, kV6.node);
    for (const Addresses* at : {&kV4, &kV6}) {
      const char* family = at->family == net::Family::kIPv4 ? "-4" : "-6";
      RunTool(
          {"ip", family, "route", "add", at->clients_prefix, "via", at->client, "dev", "vclient"});
      RunTool(
          {"ip", "-n", "client", family, "route", "add", "local", at->clients_prefix, "dev", "lo"});
      for (const char* to : {at->elsewhere, at->load_balancer})
        RunTool({"ip", family, "route", "add", to, "via", at->client, "dev", "vclient"});
    }
  }
  static void TearDownTestSuite() { network_.reset(); }

  void SetUp() override {
    for (const char* module : {"ip_vs", "ip_vs_rr"})
      RunTool({"modprobe", module});
    SetUpNode(Ip(kV4.node), Ip(kV6.node));
  }
  void TearDown() override {
    TearDownNode();
    // With the module go the templates of this test. It stays where a daemon runs.
    std::string output;
    EXPECT_EQ(TryTool({"modprobe", "-r", "ip_vs_rr", "ip_vs"}, &output), 0) << output;
  }

  net::IpAddress PodIp(int number) const { return Ip(at_.pod + std::to_string(number)); }
  std::string HostOf(const net::IpAddress& ip) const {
    for (int i = 1; i <= kBackends; ++i) {
      if (PodIp(i) == ip) return Pod(i);
    }
    return ip.ToString();
  }
  net::IpAddress ClientIp(int number) const {
    if (at_.family == net::Family::kIPv6) return Ip(fmt::format("{}{:x}", at_.clients, number + 1));
    return Ip(fmt::format("{}{}.{}", at_.clients, number / 200, number % 200 + 1));
  }
  std::vector<Backend> All() const {
    std::vector<Backend> backends;
    for (int i = 1; i <= kBackends; ++i)
      backends.push_back({PodIp(i), 8080, true});
    return backends;
  }
  ServicePortEntry Web(Protocol protocol = Protocol::kTcp) const {
    ServicePortEntry entry =
        MakeEntry(protocol == Protocol::kTcp ? "web" : "dns", protocol, at_.vip, 80, All());
    entry.node_port = 30080;
    entry.load_balancer_ips = {Ip(at_.load_balancer)};
    entry.affinity_timeout = kTimeout;
    return entry;
  }
  EntryPtr Entry(const ServicePortEntry& entry) const { return maker_.model.entries.at(entry.id); }
  void Serve(const ServicePortEntry& entry) {
    maker_.Put(entry);
    EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  }
  ClientBinding To(int pod, const net::IpAddress& client, const ServicePortEntry& entry,
                   seconds left = kTimeout) const {
    return {Entry(entry), client, PodIp(pod), 8080, left};
  }
  SyncResult Bind(const std::vector<ClientBinding>& bindings) {
    SyncResult result;
    EXPECT_TRUE(AtOnce([&] { result = dataplane_->Bind(maker_.model, bindings); }));
    EXPECT_THAT(Daemons(), IsEmpty());
    return result;
  }

  // Who answers `host` ("" is the node) at `ip`:`port`; with another source address than usual when
  // that is given.
  static Reply Ask(const std::string& host, const std::string& ip, uint16_t port,
                   Protocol protocol = Protocol::kTcp,
                   const std::optional<net::IpAddress>& source = std::nullopt) {
    return testing::Ask(
        TestNetwork::At(host), ip, port,
        {.transport = protocol == Protocol::kTcp ? Transport::kTcp : Transport::kUdp,
         .timeout = seconds(2),
         .source = source ? source->ToString() : ""});
  }
  // The source address of this node's own connections to `ip`.
  net::IpAddress NodeSource(const std::string& ip) {
    const sockaddr_storage to = net::ToSocketAddress(Ip(ip), 9);
    const UniqueFd fd = testing::SocketIn(TestNetwork::At(""), to.ss_family, SOCK_DGRAM);
    sockaddr_storage own{};
    socklen_t size = sizeof own;
    EXPECT_EQ(connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to), 0);
    EXPECT_EQ(getsockname(fd.get(), reinterpret_cast<sockaddr*>(&own), &size), 0);
    return net::FromSocketAddress(own).ip;
  }
  static std::vector<netlink::IpvsTemplate> Templates() {
    std::vector<netlink::IpvsTemplate> templates;
    EXPECT_TRUE(netlink::ReadIpvsTemplates(
        std::chrono::steady_clock::now() + seconds(20),
        [&](const netlink::IpvsTemplate& t) { templates.push_back(t); }));
    return templates;
  }
  // "10.96.0.10 80 10.244.0.11 8080" of a client's templates.
  static std::set<std::string> TemplatesOf(const net::IpAddress& client) {
    std::set<std::string> of_client;
    for (const netlink::IpvsTemplate& t : Templates()) {
      if (t.client == client) {
        of_client.insert(fmt::format("{} {} {} {}", t.address.ToString(), t.port,
                                     t.destination.ToString(), t.destination_port));
      }
    }
    return of_client;
  }
  // As people's tool prints them.
  static std::string Daemons() { return RunTool({"ipvsadm", "--list", "--daemon"}); }

  const Addresses& at_ = *GetParam();
  static inline std::unique_ptr<TestNetwork> network_;
};

TEST_P(IpvsAffinityTest, BindingsSayWhichBackendReallyAnswered) {
  for (const Protocol protocol : {Protocol::kTcp, Protocol::kUdp})
    Serve(Web(protocol));
  ServicePortEntry other = MakeEntry("other", Protocol::kTcp, at_.vip, 81, All());
  Serve(other);
  // Who the client is in the bindings, and who answered it.
  std::map<std::pair<std::string, std::string>, std::string> expected;
  for (const Protocol protocol : {Protocol::kTcp, Protocol::kUdp}) {
    const auto ask = [&](const std::string& host, const char* ip, uint16_t port,
                         const net::IpAddress& client,
                         const std::optional<net::IpAddress>& source = std::nullopt) {
      const Reply answer = Ask(host, ip, port, protocol, source);
      EXPECT_TRUE(answer.ok()) << host << " to " << ip << ": " << answer.error;
      expected[{Web(protocol).id.name, client.ToString()}] = answer.server;
    };
    ask("caller", at_.vip, 80, Ip(at_.caller));
    ask("client", at_.node, 30080, Ip(at_.client));
    for (int i = 0; i < 12; ++i)
      ask("client", i % 2 == 0 ? at_.vip : at_.load_balancer, 80, ClientIp(i), ClientIp(i));
    // In IPv4 the node comes from the VIP to it, as it does in no other mode.
    const net::IpAddress node = NodeSource(at_.vip);
    EXPECT_EQ(node == Ip(at_.vip), at_.family == net::Family::kIPv4);
    ask("", at_.vip, 80, node == Ip(at_.vip) ? Ip(at_.node) : node);
  }
  EXPECT_TRUE(Ask("caller", at_.vip, 81).ok());  // without affinity
  std::set<std::string> answered;
  for (const auto& [client, host] : expected)
    answered.insert(host);
  EXPECT_THAT(answered, SizeIs(kBackends));

  const auto read = [&] {
    std::map<std::pair<std::string, std::string>, std::string> bound;
    for (const ClientBinding& binding : dataplane_->Bindings(maker_.model)) {
      EXPECT_EQ(binding.entry, maker_.model.entries.at(binding.entry->id));
      EXPECT_EQ(binding.backend_port, 8080);
      EXPECT_LE(binding.left, kTimeout);
      EXPECT_GT(binding.left, kTimeout - seconds(100));
      const auto [at, fresh] = bound.emplace(
          std::pair(binding.entry->id.name, binding.client.ToString()), HostOf(binding.backend_ip));
      EXPECT_TRUE(fresh) << at->first.second;
    }
    return bound;
  };
  EXPECT_EQ(read(), expected);
  Start();
  EXPECT_EQ(read(), expected) << "a process that has not synced yet";

  // A backend that is gone, and a Service, bind nobody.
  ServicePortEntry web = Web();
  web.internal.backends.erase(web.internal.backends.begin());
  web.external.backends = web.internal.backends;
  maker_.Put(web);
  maker_.Remove(Web(Protocol::kUdp).id);
  std::erase_if(expected, [&](const auto& item) {
    return item.first.first == "dns" || item.second == Pod(1);
  });
  EXPECT_EQ(read(), expected);
}

TEST_P(IpvsAffinityTest, OneClientOfSeveralFrontendsIsBoundOnce) {
  Serve(Web());
  for (const char* ip : {at_.vip, at_.load_balancer, at_.node}) {
    const Reply answer = Ask("caller", ip, ip == at_.node ? 30080 : 80);
    ASSERT_TRUE(answer.ok()) << ip;
  }
  ASSERT_THAT(TemplatesOf(Ip(at_.caller)), SizeIs(3));
  EXPECT_THAT(dataplane_->Bindings(maker_.model), SizeIs(1));
  // The one whose time is newest counts.
  const std::string chosen = Ask("caller", at_.node, 30080).server;
  const auto newest = [&] {
    std::map<net::IpAddress, seconds> left;
    for (const netlink::IpvsTemplate& t : Templates())
      left[t.address] = t.left;
    const net::IpAddress node_port = ipvs::NodePortAddress(at_.family);
    return left[node_port] > left[Ip(at_.vip)] &&
           left[node_port] > left[ipvs::MappedAddress(Ip(at_.load_balancer))];
  };
  ASSERT_TRUE(
      Eventually([&] { return Ask("caller", at_.node, 30080).server == chosen && newest(); }));
  const auto bindings = dataplane_->Bindings(maker_.model);
  ASSERT_THAT(bindings, SizeIs(1));
  EXPECT_EQ(HostOf(bindings[0].backend_ip), chosen);
}

TEST_P(IpvsAffinityTest, ABoundClientGoesToItsBackendByEveryFrontend) {
  for (const Protocol protocol : {Protocol::kTcp, Protocol::kUdp})
    Serve(Web(protocol));
  for (const Protocol protocol : {Protocol::kTcp, Protocol::kUdp}) {
    // The first ones of round robin would be pod 1 and 2.
    EXPECT_SYNCED(Bind({To(4, Ip(at_.caller), Web(protocol)), To(3, Ip(at_.node), Web(protocol)),
                        To(5, Ip(at_.client), Web(protocol))}));
    for (int i = 0; i < 3; ++i) {
      for (const char* ip : {at_.vip, at_.load_balancer, at_.node}) {
        SCOPED_TRACE(ip);
        const uint16_t port = ip == at_.node ? 30080 : 80;
        EXPECT_EQ(Ask("caller", ip, port, protocol).server, Pod(4));
        EXPECT_EQ(Ask("client", ip, port, protocol).server, Pod(5));
        EXPECT_EQ(Ask("", ip, port, protocol).server, Pod(3));
      }
    }
  }
  EXPECT_THAT(dataplane_->Verify(maker_.model).differences, IsEmpty());
}

TEST_P(IpvsAffinityTest, ManyClientsAreBoundAndKeepTheTimeTheyHave) {
  Serve(Web());
  constexpr int kClients = 500;
  const auto pod_of = [](int client) { return (client * client + 2) % kBackends + 1; };
  std::vector<ClientBinding> bindings;
  bindings.reserve(kClients);
  for (int i = 0; i < kClients; ++i)
    bindings.push_back(To(pod_of(i), ClientIp(i), Web(), seconds(1000 + i)));
  const auto start = std::chrono::steady_clock::now();
  EXPECT_SYNCED(Bind(bindings));
  const std::vector<netlink::IpvsTemplate> templates = Templates();
  EXPECT_THAT(templates, SizeIs(kClients * 3)) << "cluster IP, load balancer IP, node port";
  const seconds passed = std::chrono::ceil<seconds>(std::chrono::steady_clock::now() - start);
  for (const netlink::IpvsTemplate& t : templates) {
    EXPECT_LE(t.left, kTimeout);
    EXPECT_GE(t.left, kTimeout - passed - seconds(1)) << "the whole time, which each renewal gives";
  }
  EXPECT_THAT(RunTool({"ipvsadm", "-Lnc", "--persistent-conn"}), HasSubstr(at_.vip));
  // What Bindings() says of them is what they were.
  Start();
  EXPECT_THAT(dataplane_->Bindings(maker_.model), SizeIs(kClients));
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  int wrong = 0;
  for (int i = 0; i < kClients; ++i) {
    const bool node_port = i % 2 == 0;
    const Reply answer = Ask("client", node_port ? at_.node : at_.vip, node_port ? 30080 : 80,
                             Protocol::kTcp, ClientIp(i));
    if (answer.server != Pod(pod_of(i))) ++wrong;
  }
  EXPECT_EQ(wrong, 0) << "of " << kClients;
}

TEST_P(IpvsAffinityTest, ABoundClientsTimeBeginsAnewWithItsNextConnection) {
  Serve(Web());
  EXPECT_SYNCED(Bind({To(4, Ip(at_.caller), Web(), seconds(60))}));
  const auto left = [&] {
    for (const netlink::IpvsTemplate& t : Templates()) {
      if (t.address == Ip(at_.vip)) return t.left;
    }
    return seconds(0);
  };
  seconds before{};
  ASSERT_TRUE(Eventually([&] {
    before = left();
    return before <= kTimeout - seconds(3);
  }));
  EXPECT_EQ(Ask("caller", at_.vip, 80).server, Pod(4));
  EXPECT_GT(left(), before) << "it only falls by itself";
}

TEST_P(IpvsAffinityTest, OnlyToBackendsThatTheFrontendHas) {
  ServicePortEntry web = Web();
  MakeLocal(web, {{PodIp(1), 8080, true}}, All());
  Serve(web);
  const auto line = [&](const net::IpAddress& ip, uint16_t port, int pod) {
    return fmt::format("{} {} {} 8080", ip.ToString(), port, PodIp(pod).ToString());
  };
  ClientBinding gone = To(1, ClientIp(0), web);
  gone.backend_ip = PodIp(kBackends + 1);
  ClientBinding other_port = To(1, ClientIp(1), web);
  other_port.backend_port = 8081;
  EXPECT_SYNCED(Bind({gone, other_port, To(2, ClientIp(2), web), To(1, ClientIp(3), web)}));
  EXPECT_THAT(TemplatesOf(ClientIp(0)), IsEmpty());
  EXPECT_THAT(TemplatesOf(ClientIp(1)), IsEmpty());
  const std::set<std::string> two{line(Ip(at_.vip), 80, 2),
                                  line(ipvs::NearMappedAddress(Ip(at_.load_balancer)), 80, 2),
                                  line(ipvs::NearNodePortAddress(at_.family), 30080, 2)};
  EXPECT_EQ(TemplatesOf(ClientIp(2)), two);
  EXPECT_THAT(TemplatesOf(ClientIp(3)), SizeIs(5))
      << "and from outside the load balancer IP, node port";

  // A backend that drains takes no one, neither those that are bound already.
  EXPECT_EQ(Ask("client", at_.vip, 80, Protocol::kTcp, ClientIp(2)).server, Pod(2));
  Stream open(TestNetwork::At("caller"), at_.vip, 80);
  ASSERT_TRUE(open.Ask().ok());
  web.internal.backends.erase(web.internal.backends.begin() + 1);
  web.external_from_node = web.internal;
  const ClientBinding late = To(2, ClientIp(4), web);
  Serve(web);
  EXPECT_SYNCED(Bind({late}));
  EXPECT_THAT(TemplatesOf(ClientIp(4)), IsEmpty());
  const Reply next = Ask("client", at_.vip, 80, Protocol::kTcp, ClientIp(2));
  EXPECT_TRUE(next.ok());
  EXPECT_NE(next.server, Pod(2));
}

TEST_P(IpvsAffinityTest, WhoIsBoundStaysWhereHeIs) {
  Serve(Web());
  const std::string chosen = Ask("caller", at_.vip, 80).server;
  const int other = chosen == Pod(3) ? 4 : 3;
  EXPECT_SYNCED(Bind({To(other, Ip(at_.caller), Web(), seconds(50))}));
  EXPECT_EQ(Ask("caller", at_.vip, 80).server, chosen);
  EXPECT_EQ(Ask("caller", at_.node, 30080).server, Pod(other)) << "there it was not yet";
  for (const netlink::IpvsTemplate& t : Templates()) {
    EXPECT_EQ(t.destination == PodIp(other), t.address != Ip(at_.vip)) << t.address.ToString();
  }
}

// As from ipvs mode to another one and back: with the virtual servers the kernel forgets their
// templates (since Linux 5.9, where expire_nodest_conn is set).
TEST_P(IpvsAffinityTest, WhatBindingsSaysCanBeBoundAgain) {
  Serve(Web());
  std::map<int, std::string> chosen;
  for (int i = 0; i < 13; ++i)
    chosen[i] = Ask("client", at_.vip, 80, Protocol::kTcp, ClientIp(i)).server;
  const std::vector<ClientBinding> bindings = dataplane_->Bindings(maker_.model);
  EXPECT_THAT(bindings, SizeIs(chosen.size()));
  EXPECT_SYNCED(dataplane_->Remove());
  ASSERT_TRUE(Eventually([] { return Templates().empty(); }));
  Start();
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_SYNCED(Bind(bindings));
  for (const auto& [i, host] : chosen) {
    EXPECT_EQ(Ask("client", at_.vip, 80, Protocol::kTcp, ClientIp(i)).server, host);
    EXPECT_EQ(Ask("client", at_.node, 30080, Protocol::kTcp, ClientIp(i)).server, host);
  }
}

TEST_P(IpvsAffinityTest, PortOfFtpCanBeReadButNotBound) {
  ServicePortEntry ftp = MakeEntry("ftp", Protocol::kTcp, at_.vip, 21, All());
  ftp.affinity_timeout = kTimeout;
  Serve(ftp);
  const std::string chosen = Ask("caller", at_.vip, 21).server;
  const auto bindings = dataplane_->Bindings(maker_.model);
  ASSERT_THAT(bindings, SizeIs(1));
  EXPECT_EQ(bindings[0].client, Ip(at_.caller));
  EXPECT_EQ(bindings[0].backend_port, 8080);
  EXPECT_EQ(HostOf(bindings[0].backend_ip), chosen);
  const SyncResult result = Bind({To(4, Ip(at_.client), ftp)});
  ASSERT_THAT(result.problems, SizeIs(1));
  EXPECT_THAT(Text(result), HasSubstr("port 21"));
  EXPECT_TRUE(Ask("client", at_.vip, 21).ok());
}

TEST_P(IpvsAffinityTest, AForeignDaemonIsLeftAloneAndSaid) {
  Serve(Web());
  RunTool({"ipvsadm", "--start-daemon", "backup", "--mcast-interface", "lo", "--syncid", "7"});
  const SyncResult result = dataplane_->Bind(maker_.model, {To(4, Ip(at_.caller), Web())});
  ASSERT_THAT(result.problems, SizeIs(1));
  EXPECT_THAT(Text(result), HasSubstr("3 of 3 templates"));
  EXPECT_THAT(Text(result),
              HasSubstr("backup daemon of connection synchronisation on interface lo"));
  EXPECT_THAT(Templates(), IsEmpty());
  EXPECT_SYNCED(dataplane_->Remove());
  EXPECT_THAT(Daemons(), HasSubstr("syncid=7"));
  RunTool({"ipvsadm", "--stop-daemon", "backup"});
}

TEST_P(IpvsAffinityTest, ADaemonThatAKilledProcessLeftIsStopped) {
  Serve(Web());
  const auto leave = [] {
    netlink::IpvsDaemon daemon;
    daemon.state = IP_VS_STATE_BACKUP;
    daemon.interface = "lo";
    daemon.sync_id = 9;
    daemon.group = Ip("239.112.3.4");
    daemon.port = 23456;
    EXPECT_EQ(netlink::Ipvs().StartDaemon(daemon), 0);
    EXPECT_THAT(Daemons(), HasSubstr("syncid=9"));
  };
  leave();
  EXPECT_SYNCED(Bind({To(4, Ip(at_.caller), Web())}));
  EXPECT_EQ(Ask("caller", at_.vip, 80).server, Pod(4));
  leave();
  Start();
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_THAT(Daemons(), IsEmpty());
  leave();
  EXPECT_SYNCED(dataplane_->Remove());
  EXPECT_THAT(Daemons(), IsEmpty());
}

// A master daemon is of no concern: it sends what IPVS has to other machines.
TEST_P(IpvsAffinityTest, AMasterDaemonRunsBesideIt) {
  Serve(Web());
  RunTool({"ipvsadm", "--start-daemon", "master", "--mcast-interface", "vclient", "--syncid", "7"});
  EXPECT_SYNCED(dataplane_->Bind(maker_.model, {To(4, Ip(at_.caller), Web())}));
  EXPECT_EQ(Ask("caller", at_.vip, 80).server, Pod(4));
  EXPECT_THAT(Daemons(), AllOf(HasSubstr("master"), Not(HasSubstr("backup"))));
  RunTool({"ipvsadm", "--stop-daemon", "master"});
}

TEST_P(IpvsAffinityTest, WhatAFirewallDropsIsAProblemAndNothingWorse) {
  Serve(Web());
  for (const char* chain : {"INPUT", "OUTPUT"}) {
    SCOPED_TRACE(chain);
    RunTool({"iptables-legacy", "-I", chain, "1", "-d", "239.112.0.0/16", "-j", "DROP"});
    const SyncResult result = Bind({To(4, Ip(at_.caller), Web())});
    ASSERT_THAT(result.problems, SizeIs(1));
    EXPECT_THAT(Text(result), HasSubstr("3 of 3 templates are not made"));
    EXPECT_THAT(Templates(), IsEmpty());
    RunTool({"iptables-legacy", "-D", chain, "1"});
  }
  EXPECT_TRUE(Ask("caller", at_.vip, 80).ok());
}

INSTANTIATE_TEST_SUITE_P(Families, IpvsAffinityTest, ::testing::Values(&kV4, &kV6),
                         [](const auto& test) {
                           return std::string(net::ToString(test.param->family));
                         });

}  // namespace
}  // namespace pointsman::agent

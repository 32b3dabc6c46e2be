// Real rules, a real forwarder, real packets: in a network namespace on this machine's kernel, and
// in a kernel of its own (cmake/KernelTest.cmake).
#include "node-agent/userspace/userspace_dataplane.h"

#include <cerrno>
#include <filesystem>
#include <sys/stat.h>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include "node-agent/conntrack/stale_flows.h"
#include "node-agent/iptables/iptables_dataplane.h"
#include "node-agent/sysctl/sysctl.h"
#include "node-agent/testing/fresh_netns.h"
#include "node-agent/testing/iptables_rules.h"
#include "node-agent/testing/random_model.h"
#include "node-agent/testing/results.h"
#include "node-agent/testing/run_tool.h"
#include "node-agent/testing/test_network.h"
#include "node-agent/userspace/forwarder/address_plan.h"
#include "node-agent/userspace/testing/sockets.h"
#include "node-agent/xtables/base_rules.h"

namespace pointsman::agent {
namespace {

using kube::Protocol;
using testing::Answer;
using ::testing::AnyOf;
using testing::AskTcp;
using testing::AskUdp;
using ::testing::HasSubstr;
using testing::Ip;
using testing::MakeBackend;
using testing::MakeEntry;
using testing::ModelMaker;
using testing::RandomModel;
using testing::RulesOf;
using testing::RunTool;
using testing::Stream;
using testing::TestNetwork;
using testing::Text;
using testing::TryTool;

class UserspaceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!EnterFreshNetns()) GTEST_SKIP() << "needs root to make a network namespace";
    RunTool({"ip", "link", "set", "lo", "up"});
    // User-Mode Linux loads what nobody asks for by name only when told.
    for (const char* module : {"veth", "nf_conntrack_netlink"})
      TryTool({"modprobe", module});
    char name[] = "/tmp/pointsman-usp.XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    directory_ = name;
    tool4_ = std::make_unique<xtables::IptablesTool>(net::Family::kIPv4);
    tool6_ = std::make_unique<xtables::IptablesTool>(net::Family::kIPv6);
    settings_.mode = kube::Mode::kUserspace;
    settings_.userspace.udp_idle_timeout = std::chrono::seconds(1);
    maker_.model.node.node_name = "node";
    for (xtables::IptablesTool* tool : {tool4_.get(), tool6_.get()})
      ASSERT_TRUE(xtables::BaseRules(*tool, settings_.iptables.masquerade_bit).Ensure().ok());
    Restart();
  }
  void TearDown() override {
    if (directory_.empty()) return;
    if (dataplane_ == nullptr) Restart();
    EXPECT_SYNCED(dataplane_->Remove());
    EXPECT_FALSE(dataplane_->Present());
    dataplane_.reset();
    EXPECT_FALSE(std::filesystem::exists(directory_ + "/run"));
    std::filesystem::remove_all(directory_);
  }

  // A new agent takes over.
  void Restart() {
    dataplane_.reset();
    dataplane_ = Make();
  }
  std::unique_ptr<UserspaceDataplane> Make(const std::string& version = "test") {
    return std::make_unique<UserspaceDataplane>(
        settings_,
        UserspaceDataplane::Options{.forwarder_program = POINTSMAN_FORWARDER,
                                    .run_directory = directory_ + "/run",
                                    .version = version},
        std::vector<xtables::IptablesTool*>{tool4_.get(), tool6_.get()});
  }
  void FullSync() { EXPECT_SYNCED(dataplane_->FullSync(maker_.model)); }
  void Put(const ServicePortEntry& entry) {
    const ModelDelta delta = maker_.Put(entry);
    EXPECT_SYNCED(dataplane_->Sync(maker_.model, delta));
  }
  void ExpectVerified() {
    const auto another = Make();
    for (UserspaceDataplane* dataplane : {dataplane_.get(), another.get()}) {
      const VerifyResult result = dataplane->Verify(maker_.model);
      EXPECT_TRUE(result.ok()) << Text(result);
      EXPECT_GT(result.objects_checked, 5U);
    }
  }
  std::string Kernel() {
    return RulesOf(*tool4_) + RulesOf(*tool6_) +
           RunTool({"ip", "route", "show", "table", "local"}) +
           RunTool({"ip", "-6", "route", "show", "table", "local"});
  }

  std::string directory_;
  kube::ProxySettings settings_;
  std::unique_ptr<xtables::IptablesTool> tool4_;
  std::unique_ptr<xtables::IptablesTool> tool6_;
  ModelMaker maker_;
  std::unique_ptr<UserspaceDataplane> dataplane_;
};

struct Addresses {
  const char* name;
  net::Family family;
  const char* pod_gateway;
  const char* pods[3];
  const char* node;
  const char* client;
  const char* cluster_ip;
  const char* other_cluster_ip;
  const char* external_ip;
  const char* load_balancer_ip;
  const char* loopback;
  const char* cluster_cidr;
  const char* client_range;
};

void PrintTo(const Addresses& addresses, std::ostream* out) {
  *out << addresses.name;
}

class Traffic : public UserspaceTest, public ::testing::WithParamInterface<Addresses> {
 protected:
  void SetUp() override {
    settings_.cluster_cidrs = {net::IpPrefix::Parse(GetParam().cluster_cidr).value()};
    UserspaceTest::SetUp();
    if (IsSkipped()) return;
    // Router redirects and ICMP errors use up the same allowance.
    WriteSysctl("net.ipv4.conf.all.send_redirects", "0");
    WriteSysctl("net.ipv4.conf.default.send_redirects", "0");
    WriteSysctl("net.ipv4.ip_forward", "1");
    WriteSysctl("net.ipv6.conf.all.forwarding", "1");
    network_ = std::make_unique<TestNetwork>();
    for (int i = 0; i < 3; ++i) {
      pods_[i] = fmt::format("u{}{}", ::getpid(), "abc"[i]);
      network_->AddHost(pods_[i], GetParam().pods[i], GetParam().pod_gateway);
      network_->Serve(pods_[i], GetParam().pods[i], 8080);
    }
    client_ = fmt::format("u{}x", ::getpid());
    network_->AddHost(client_, GetParam().client, GetParam().node);
    // Without a route the node itself could not send to a Service's address at all.
    RunTool({"ip", v4() ? "-4" : "-6", "route", "add", "default", "via", GetParam().client, "dev",
             "v" + client_});
    maker_.model.node.node_port_addresses = {Ip(GetParam().node)};
  }
  void TearDown() override {
    UserspaceTest::TearDown();
    network_.reset();
  }

  bool v4() const { return GetParam().family == net::Family::kIPv4; }
  Backend Pod(int i, uint16_t port = 8080) const { return MakeBackend(GetParam().pods[i], port); }
  ServicePortEntry Web(std::vector<Backend> backends, Protocol protocol = Protocol::kTcp) const {
    return MakeEntry(protocol == Protocol::kTcp ? "web" : "dns", protocol, GetParam().cluster_ip,
                     80, std::move(backends));
  }
  Answer Ask(bool udp, const std::string& from, const std::string& ip, uint16_t port) {
    return udp ? AskUdp(*network_, from, ip, port) : AskTcp(*network_, from, ip, port);
  }
  void ExpectRefused(bool udp, const std::string& from, const std::string& ip, uint16_t port) {
    const auto start = std::chrono::steady_clock::now();
    const int error = Ask(udp, from, ip, port).error;
    // A datagram of the node's own does not even leave: send(2) fails.
    EXPECT_THAT(error, AnyOf(ECONNREFUSED, udp ? EPERM : ECONNREFUSED, udp ? EACCES : ECONNREFUSED))
        << "from '" << from << "' to " << ip << " port " << port << (udp ? " udp" : " tcp");
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(900));
  }
  void ExpectDropped(const std::string& from, const std::string& ip, uint16_t port) {
    Stream stream(*network_, from, ip, port, std::chrono::milliseconds(400));
    EXPECT_EQ(stream.Ask().error, ETIMEDOUT) << from << " to " << ip;
  }

  std::unique_ptr<TestNetwork> network_;
  std::string pods_[3];
  std::string client_;
};

TEST_P(Traffic, EveryAddressOfAServiceIsServedFromEverywhere) {
  for (Protocol protocol : {Protocol::kTcp, Protocol::kUdp}) {
    ServicePortEntry entry = Web({Pod(0), Pod(1)}, protocol);
    entry.node_port = 30080;
    entry.external_ips = {Ip(GetParam().external_ip)};
    entry.load_balancer_ips = {Ip(GetParam().load_balancer_ip)};
    maker_.Put(entry);
  }
  FullSync();
  ExpectVerified();
  for (bool udp : {false, true}) {
    for (const std::string& from : {pods_[2], std::string(), client_}) {
      std::set<std::string> hosts;
      auto ask = [&](const char* ip, uint16_t port) {
        const Answer answer = Ask(udp, from, ip, port);
        EXPECT_TRUE(answer.ok()) << "from '" << from << "' to " << ip << (udp ? " udp: " : " tcp: ")
                                 << std::generic_category().message(answer.error);
        hosts.insert(answer.host);
        // The node's address in the place of the client's.
        EXPECT_EQ(answer.source, GetParam().pod_gateway);
      };
      ask(GetParam().cluster_ip, 80);
      ask(GetParam().cluster_ip, 80);
      ask(GetParam().external_ip, 80);
      ask(GetParam().load_balancer_ip, 80);
      ask(GetParam().node, 30080);
      ask(GetParam().node, 30080);
      EXPECT_EQ(hosts, (std::set<std::string>{pods_[0], pods_[1]})) << from;
    }
    if (GetParam().family == net::Family::kIPv4) {
      EXPECT_TRUE(Ask(udp, "", GetParam().loopback, 30080).ok());
    } else {
      // As in the other modes, whose kernels could not serve it.
      ExpectRefused(udp, "", GetParam().loopback, 30080);
    }
    // Only its own ports.
    EXPECT_FALSE(Ask(udp, pods_[2], GetParam().cluster_ip, 81).ok());
    ExpectRefused(udp, client_, GetParam().node, 30081);
  }
  // A pod that reaches itself.
  std::set<std::string> self;
  for (int i = 0; i < 4; ++i)
    self.insert(AskTcp(*network_, pods_[0], GetParam().cluster_ip, 80).host);
  EXPECT_TRUE(self.contains(pods_[0]));
  // Node ports claim no socket.
  EXPECT_NO_THROW(testing::ListenTcp({Ip(GetParam().node), 30080}));
  EXPECT_NO_THROW(testing::BindUdp({Ip(GetParam().node), 30080}));
}

TEST_P(Traffic, TheForwarderItselfIsNotReachable) {
  maker_.Put(Web({Pod(0)}));
  FullSync();
  const std::string rules = RunTool({v4() ? "iptables-legacy-save" : "ip6tables-legacy-save"}) +
                            tool4_->Save("filter") + tool6_->Save("filter");
  const size_t at = rules.find("-A POINTSMAN-USP-INPUT -p tcp -m tcp --dport ");
  ASSERT_NE(at, std::string::npos);
  const auto port = static_cast<uint16_t>(std::stoi(rules.substr(at + 45)));
  for (bool udp : {false, true})
    ExpectRefused(udp, client_, GetParam().node, port);
  // Nor a slot's address, for somebody on the same wire.
  const std::string slot = forwarder::SlotAddress(GetParam().family, 1).ToString();
  ExpectDropped(client_, slot, port);
}

TEST_P(Traffic, WithoutEndpointsItIsRefusedAtOnce) {
  for (Protocol protocol : {Protocol::kTcp, Protocol::kUdp}) {
    ServicePortEntry entry = Web({}, protocol);
    entry.node_port = 30090;
    entry.external_ips = {Ip(GetParam().external_ip)};
    entry.load_balancer_ips = {Ip(GetParam().load_balancer_ip)};
    maker_.Put(entry);
  }
  FullSync();
  ExpectVerified();
  // The kernel sends one ICMPv6 error a second to each destination (net.ipv6.icmp.ratelimit).
  WriteSysctl("net.ipv6.icmp.ratelimit", "0");
  WriteSysctl("net.ipv4.icmp_ratelimit", "0");
  for (bool udp : {false, true}) {
    for (const char* ip :
         {GetParam().cluster_ip, GetParam().external_ip, GetParam().load_balancer_ip}) {
      for (const std::string& from : {pods_[0], std::string(), client_})
        ExpectRefused(udp, from, ip, 80);
    }
    ExpectRefused(udp, client_, GetParam().node, 30090);
  }
  // The first endpoint opens it, the last one's end closes it.
  ServicePortEntry entry = Web({Pod(1)});
  entry.node_port = 30090;
  Put(entry);
  EXPECT_EQ(AskTcp(*network_, pods_[0], GetParam().cluster_ip, 80).host, pods_[1]);
  EXPECT_EQ(AskTcp(*network_, client_, GetParam().node, 30090).host, pods_[1]);
  entry.internal.backends.clear();
  entry.external.backends.clear();
  Put(entry);
  ExpectRefused(false, pods_[0], GetParam().cluster_ip, 80);
  ExpectRefused(false, client_, GetParam().node, 30090);
  ExpectVerified();
}

TEST_P(Traffic, ADeadBackendIsNotSeenByClients) {
  // Nobody listens on that port; kube-proxy's other modes would let every other client fail.
  maker_.Put(Web({Pod(0, 9), Pod(1)}));
  maker_.Put(Web({Pod(0, 9), Pod(1)}, Protocol::kUdp));
  FullSync();
  for (int i = 0; i < 6; ++i) {
    for (bool udp : {false, true})
      EXPECT_EQ(Ask(udp, client_, GetParam().cluster_ip, 80).host, pods_[1]) << udp;
  }
}

TEST_P(Traffic, LocalPolicyIsKept) {
  ServicePortEntry entry = Web({Pod(0), Pod(1), Pod(2)});
  entry.node_port = 30100;
  entry.load_balancer_ips = {Ip(GetParam().load_balancer_ip)};
  entry.external_local = true;
  entry.external_from_node.backends = {Pod(1), Pod(2)};
  entry.external.backends = {Pod(0)};
  entry.external.when_empty = BackendChoice::WhenEmpty::kDrop;
  maker_.Put(entry);
  FullSync();
  ExpectVerified();
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(AskTcp(*network_, client_, GetParam().node, 30100).host, pods_[0]);
    EXPECT_EQ(AskTcp(*network_, client_, GetParam().load_balancer_ip, 80).host, pods_[0]);
    // The node and its pods are served as by the Cluster policy.
    EXPECT_NE(AskTcp(*network_, "", GetParam().node, 30100).host, pods_[0]);
    EXPECT_NE(AskTcp(*network_, pods_[0], GetParam().load_balancer_ip, 80).host, pods_[0]);
  }
  entry.external.backends.clear();
  Put(entry);
  ExpectVerified();
  ExpectDropped(client_, GetParam().node, 30100);
  ExpectDropped(client_, GetParam().load_balancer_ip, 80);
  EXPECT_TRUE(AskTcp(*network_, "", GetParam().node, 30100).ok());
  EXPECT_TRUE(AskTcp(*network_, pods_[0], GetParam().load_balancer_ip, 80).ok());
}

TEST_P(Traffic, SourceRangesAreEnforced) {
  ServicePortEntry entry = Web({Pod(1)});
  entry.load_balancer_ips = {Ip(GetParam().load_balancer_ip)};
  entry.source_ranges = {net::IpPrefix::Parse(GetParam().cluster_cidr).value()};
  maker_.Put(entry);
  FullSync();
  EXPECT_TRUE(AskTcp(*network_, pods_[0], GetParam().load_balancer_ip, 80).ok());
  ExpectDropped(client_, GetParam().load_balancer_ip, 80);
  entry.source_ranges.push_back(net::IpPrefix::Parse(GetParam().client_range).value());
  Put(entry);
  EXPECT_TRUE(AskTcp(*network_, client_, GetParam().load_balancer_ip, 80).ok());
  ExpectVerified();
}

TEST_P(Traffic, AffinityKeepsAClient) {
  ServicePortEntry entry = Web({Pod(0), Pod(1), Pod(2)});
  entry.affinity_timeout = std::chrono::hours(3);
  entry.node_port = 30110;
  maker_.Put(entry);
  FullSync();
  const std::string host = AskTcp(*network_, client_, GetParam().cluster_ip, 80).host;
  ASSERT_FALSE(host.empty());
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(AskTcp(*network_, client_, GetParam().cluster_ip, 80).host, host);
    EXPECT_EQ(AskTcp(*network_, client_, GetParam().node, 30110).host, host);
  }
  // Across an agent's restart, and a change of another backend.
  Restart();
  FullSync();
  std::vector<Backend>& backends = entry.internal.backends;
  const int kept = static_cast<int>(std::find(pods_, pods_ + 3, host) - pods_);
  std::erase(backends, Pod((kept + 1) % 3));
  entry.external = entry.internal;
  Put(entry);
  for (int i = 0; i < 4; ++i)
    EXPECT_EQ(AskTcp(*network_, client_, GetParam().cluster_ip, 80).host, host);
}

// Five backends with affinity, in TCP and UDP.
class Bound : public Traffic {
 protected:
  void SetUp() override {
    Traffic::SetUp();
    if (IsSkipped()) return;
    for (int i = 0; i < 3; ++i)
      ip_of_[pods_[i]] = GetParam().pods[i];
    for (const char* last : {"5", "6"}) {
      const std::string ip = (v4() ? "10.244.0." : "fd00:244::") + std::string(last);
      const std::string host = fmt::format("u{}p{}", ::getpid(), last);
      network_->AddHost(host, ip, GetParam().pod_gateway);
      network_->Serve(host, ip, 8080);
      ip_of_[host] = ip;
    }
    for (const auto& [host, ip] : ip_of_)
      clients_[host] = ip;
    clients_[client_] = GetParam().client;
    for (bool udp : {false, true})
      maker_.Put(Affine(udp, ip_of_));
    FullSync();
  }
  static Protocol ProtocolOf(bool udp) { return udp ? Protocol::kUdp : Protocol::kTcp; }
  ServicePortEntry Affine(bool udp, const std::map<std::string, std::string>& hosts) const {
    std::vector<Backend> backends;
    backends.reserve(hosts.size());
    for (const auto& [host, ip] : hosts)
      backends.push_back(MakeBackend(ip, 8080));
    ServicePortEntry entry = Web(std::move(backends), ProtocolOf(udp));
    entry.affinity_timeout = std::chrono::hours(1);
    return entry;
  }
  EntryPtr Entry(bool udp) const { return maker_.model.entries.at(Affine(udp, ip_of_).id); }
  // Of the mode, by protocol and client.
  std::map<std::pair<bool, net::IpAddress>, ClientBinding> Bindings() {
    std::map<std::pair<bool, net::IpAddress>, ClientBinding> all;
    for (const ClientBinding& binding : dataplane_->Bindings(maker_.model)) {
      const bool udp = binding.entry->id.protocol == Protocol::kUdp;
      EXPECT_EQ(binding.entry, Entry(udp));
      EXPECT_EQ(binding.backend_port, 8080);
      EXPECT_TRUE(all.emplace(std::pair(udp, binding.client), binding).second);
    }
    return all;
  }
  std::string Ask(bool udp, const std::string& from) {
    return Traffic::Ask(udp, from, GetParam().cluster_ip, 80).host;
  }

  std::map<std::string, std::string> ip_of_;    // of the backends
  std::map<std::string, std::string> clients_;  // these and one outside
};

TEST_P(Bound, BindingsSayWhoReallyAnswered) {
  EXPECT_TRUE(Bindings().empty());
  std::map<std::pair<bool, net::IpAddress>, std::string> answered;
  std::set<std::string> hosts;
  for (bool udp : {false, true}) {
    for (const auto& [client, ip] : clients_) {
      const std::string host = Ask(udp, client);
      ASSERT_TRUE(ip_of_.contains(host)) << client << udp;
      answered[{udp, Ip(ip)}] = ip_of_[host];
      hosts.insert(host);
    }
  }
  EXPECT_EQ(hosts.size(), 5U);
  const auto told = Bindings();
  ASSERT_EQ(told.size(), answered.size());
  for (const auto& [client, ip] : answered) {
    const ClientBinding& binding = told.at(client);
    EXPECT_EQ(binding.backend_ip, Ip(ip));
    EXPECT_LE(binding.left, std::chrono::hours(1));
    EXPECT_GT(binding.left, std::chrono::minutes(57));
  }
  // Another process is told the same, before it has synced.
  Restart();
  EXPECT_EQ(Bindings().size(), told.size());
  // A backend goes, and its clients with it; the other Service has no affinity any more.
  std::map<std::string, std::string> fewer = ip_of_;
  fewer.erase(pods_[1]);
  FullSync();
  Put(Affine(/*udp=*/false, fewer));
  ServicePortEntry plain = Affine(/*udp=*/true, ip_of_);
  plain.affinity_timeout = std::chrono::seconds(0);
  Put(plain);
  size_t left = 0;
  for (const auto& [client, ip] : answered)
    left += !client.first && ip != GetParam().pods[1] ? 1 : 0;
  const auto rest = Bindings();
  EXPECT_EQ(rest.size(), left);
  for (const auto& [client, binding] : rest)
    EXPECT_EQ(binding.backend_ip, Ip(answered.at(client)));
}

TEST_P(Bound, ClientsGoWhereTheyAreBound) {
  Stream stream(*network_, pods_[2], GetParam().cluster_ip, 80);
  const std::string stays = stream.Ask().host;
  ASSERT_FALSE(stays.empty());
  ASSERT_EQ(Ask(/*udp=*/true, pods_[2]).empty(), false);
  const auto before = Bindings();
  // Everyone else to a backend that is not the next one of round robin: all to the same.
  const std::string chosen = stays == pods_[0] ? pods_[1] : pods_[0];
  std::vector<ClientBinding> bindings;
  for (bool udp : {false, true}) {
    for (const auto& [client, ip] : clients_)
      bindings.push_back({Entry(udp), Ip(ip), Ip(ip_of_[chosen]), 8080, std::chrono::minutes(20)});
  }
  EXPECT_SYNCED(dataplane_->Bind(maker_.model, bindings));
  const auto told = Bindings();
  ASSERT_EQ(told.size(), bindings.size());
  for (const auto& [client, binding] : told) {
    const bool bound_before = before.contains(client);
    EXPECT_EQ(binding.backend_ip, bound_before ? before.at(client).backend_ip : Ip(ip_of_[chosen]));
    const std::chrono::minutes full(bound_before ? 60 : 20);
    EXPECT_LE(binding.left, full);
    EXPECT_GT(binding.left, full - std::chrono::minutes(3));
  }
  for (int round = 0; round < 2; ++round) {
    for (const auto& [client, ip] : clients_) {
      for (bool udp : {false, true}) {
        const auto was = before.find({udp, Ip(ip)});
        const std::string host = Ask(udp, client);
        ASSERT_TRUE(ip_of_.contains(host)) << client << udp;
        EXPECT_EQ(Ip(ip_of_[host]),
                  was == before.end() ? Ip(ip_of_[chosen]) : was->second.backend_ip);
      }
    }
  }
  EXPECT_EQ(stream.Ask().host, stays);
  // They have connected: their time begins anew.
  for (const auto& [client, binding] : Bindings())
    EXPECT_GT(binding.left, std::chrono::minutes(57));
  ExpectVerified();
}

TEST_P(Bound, ABackendThatIsGoneIsNotBoundTo) {
  const EntryPtr full = Entry(/*udp=*/false);
  std::map<std::string, std::string> fewer = ip_of_;
  fewer.erase(pods_[1]);
  Put(Affine(/*udp=*/false, fewer));
  const auto bind = [&](const std::string& host) {
    return dataplane_->Bind(maker_.model, {{full, Ip(GetParam().client), Ip(ip_of_[host]), 8080,
                                            std::chrono::hours(1)}});
  };
  EXPECT_THAT(Text(bind(pods_[1])), HasSubstr("1 of 1 are placed afresh"));
  EXPECT_TRUE(Bindings().empty());
  // Of a model that the forwarder has not got yet: it looks for itself.
  const ModelDelta back = maker_.Put(*full);
  EXPECT_THAT(Text(bind(pods_[1])), HasSubstr("1 of 1 are placed afresh"));
  EXPECT_TRUE(Bindings().empty());
  EXPECT_SYNCED(dataplane_->Sync(maker_.model, back));
  EXPECT_SYNCED(bind(pods_[1]));
  EXPECT_EQ(Ask(/*udp=*/false, client_), pods_[1]);
  // Without a forwarder the reason is said, and nothing else happens.
  EXPECT_SYNCED(dataplane_->Remove());
  EXPECT_THAT(Text(bind(pods_[1])), HasSubstr("there is no forwarder"));
  EXPECT_THROW(Bindings(), std::runtime_error);
  FullSync();
}

TEST_P(Traffic, DatagramsFollowTheirEndpointsAtOnce) {
  ServicePortEntry entry = Web({Pod(0)}, Protocol::kUdp);
  maker_.Put(entry);
  FullSync();
  constexpr uint16_t kPort = 45678;  // the client keeps its port, as a resolver does
  const auto ask = [&] { return AskUdp(*network_, client_, GetParam().cluster_ip, 80, kPort); };
  // As the agent does after each change.
  StaleFlows stale([](const net::IpAddress& ip) { return forwarder::SlotOf(ip).has_value(); });
  const auto change = [&](const ModelDelta& delta) {
    EXPECT_SYNCED(dataplane_->Sync(maker_.model, delta));
    EXPECT_SYNCED(stale.Clean(maker_.model, delta).sync);
  };
  EXPECT_EQ(ask().host, pods_[0]);
  change(maker_.Put(Web({Pod(1)}, Protocol::kUdp)));
  EXPECT_EQ(ask().host, pods_[1]);
  // The Service goes, and another one gets its address.
  change(maker_.Remove(entry.id));
  EXPECT_FALSE(ask().ok());
  ServicePortEntry other = Web({Pod(2)}, Protocol::kUdp);
  other.id.name = "other";
  change(maker_.Put(other));
  EXPECT_EQ(ask().host, pods_[2]);
  // No endpoint, then one again.
  other.internal.backends.clear();
  other.external.backends.clear();
  change(maker_.Put(other));
  EXPECT_FALSE(ask().ok());
  other.internal.backends = other.external.backends = {Pod(0)};
  change(maker_.Put(other));
  EXPECT_EQ(ask().host, pods_[0]);
}

TEST_P(Traffic, StreamsSurviveChangesRestartsAndDraining) {
  maker_.Put(Web({Pod(0)}));
  FullSync();
  Stream pod(*network_, pods_[2], GetParam().cluster_ip, 80);
  Stream outside(*network_, client_, GetParam().cluster_ip, 80);
  ASSERT_EQ(pod.Ask().host, pods_[0]);
  ASSERT_EQ(outside.Ask().host, pods_[0]);
  const auto alive = [&] { return pod.Ask().host == pods_[0] && outside.Ask().host == pods_[0]; };
  // Its endpoint goes.
  Put(Web({Pod(1)}));
  EXPECT_TRUE(alive());
  EXPECT_EQ(AskTcp(*network_, client_, GetParam().cluster_ip, 80).host, pods_[1]);
  // The agent restarts.
  const pid_t forwarder = dataplane_->forwarder_pid();
  Restart();
  EXPECT_TRUE(alive());
  EXPECT_EQ(dataplane_->FullSync(maker_.model).kernel_writes, 0U);
  EXPECT_EQ(dataplane_->forwarder_pid(), forwarder);
  EXPECT_TRUE(alive());
  // The mode drains, by an agent that has just started too.
  Restart();
  EXPECT_EQ(dataplane_->Drain(maker_.model).connections, 2U);
  EXPECT_TRUE(alive());
  EXPECT_FALSE(AskTcp(*network_, client_, GetParam().cluster_ip, 80).ok());
  // And is taken back.
  FullSync();
  EXPECT_EQ(AskTcp(*network_, client_, GetParam().cluster_ip, 80).host, pods_[1]);
  ExpectVerified();
  EXPECT_TRUE(alive());
  // A new version of the agent.
  dataplane_.reset();
  dataplane_ = Make("next");
  FullSync();
  EXPECT_NE(dataplane_->forwarder_pid(), forwarder);
  EXPECT_TRUE(alive());
  EXPECT_EQ(AskTcp(*network_, client_, GetParam().cluster_ip, 80).host, pods_[1]);
}

TEST_P(Traffic, AKilledForwarderComesBackWithoutTheAgentsSync) {
  maker_.Put(Web({Pod(0)}));
  FullSync();
  const pid_t before = dataplane_->forwarder_pid();
  ASSERT_GT(before, 0);
  ASSERT_EQ(::kill(before, SIGKILL), 0);
  EXPECT_TRUE(Eventually(
      [&] { return AskTcp(*network_, client_, GetParam().cluster_ip, 80).host == pods_[0]; }));
  EXPECT_NE(dataplane_->forwarder_pid(), before);
  ExpectVerified();
  Put(Web({Pod(1)}));
  EXPECT_EQ(AskTcp(*network_, client_, GetParam().cluster_ip, 80).host, pods_[1]);
}

// An endpoint that is the Service's own address would go round for ever.
TEST_P(Traffic, AServiceThatPointsToItselfDoesNotGoRound) {
  maker_.Put(Web({MakeBackend(GetParam().cluster_ip, 80)}));
  ServicePortEntry other = MakeEntry("other", Protocol::kTcp, GetParam().other_cluster_ip, 80,
                                     {MakeBackend(GetParam().cluster_ip, 80)});
  maker_.Put(other);
  FullSync();
  for (const char* ip : {GetParam().cluster_ip, GetParam().other_cluster_ip}) {
    const uint64_t before = dataplane_->Statistics().accepted;
    Stream stream(*network_, client_, ip, 80, std::chrono::milliseconds(300));
    EXPECT_FALSE(stream.Ask().ok());
    EXPECT_EQ(dataplane_->Statistics().accepted, before + 1);
  }
}

// Make before break, there and back, with streams open across.
TEST_P(Traffic, HandoverToAndFromIptablesMode) {
  std::unique_ptr<IptablesDataplane> iptables =
      std::make_unique<IptablesDataplane>(settings_, std::vector{tool4_.get(), tool6_.get()});
  maker_.Put(Web({Pod(0)}));
  maker_.Put(Web({Pod(0)}, Protocol::kUdp));
  FullSync();
  Stream forwarded(*network_, pods_[2], GetParam().cluster_ip, 80);
  ASSERT_EQ(forwarded.Ask().source, GetParam().pod_gateway);
  const auto udp = [&] { return AskUdp(*network_, pods_[2], GetParam().cluster_ip, 80, 45000); };
  ASSERT_EQ(udp().source, GetParam().pod_gateway);

  EXPECT_SYNCED(iptables->FullSync(maker_.model));
  EXPECT_GE(dataplane_->Drain(maker_.model).connections, 1U);
  Stream direct(*network_, pods_[2], GetParam().cluster_ip, 80);
  EXPECT_EQ(direct.Ask().source, GetParam().pods[2]);
  EXPECT_EQ(forwarded.Ask().source, GetParam().pod_gateway);
  EXPECT_TRUE(udp().ok());
  // Endpoints that go while it drains: its UDP clients are told too.
  maker_.Put(Web({Pod(1)}, Protocol::kUdp));
  dataplane_->Drain(maker_.model);
  EXPECT_EQ(udp().host, pods_[1]);
  // And back, before the drain is over.
  FullSync();
  iptables->Drain(maker_.model);
  EXPECT_EQ(AskTcp(*network_, pods_[2], GetParam().cluster_ip, 80).source, GetParam().pod_gateway);
  EXPECT_TRUE(direct.Ask().ok());
  EXPECT_TRUE(forwarded.Ask().ok());
  EXPECT_SYNCED(iptables->Remove());
  EXPECT_TRUE(direct.Ask().ok());
  EXPECT_TRUE(forwarded.Ask().ok());
  // To the end this time: what is left is the client's next datagram, which nobody may swallow.
  EXPECT_TRUE(udp().ok());
  EXPECT_SYNCED(iptables->FullSync(maker_.model));
  dataplane_->Drain(maker_.model);
  EXPECT_SYNCED(dataplane_->Remove());
  EXPECT_FALSE(forwarded.Ask().ok());  // cut at the drain's end
  EXPECT_EQ(udp().source, GetParam().pods[2]);
  EXPECT_TRUE(direct.Ask().ok());
  EXPECT_SYNCED(iptables->Remove());
}

const auto kFamilies = ::testing::Values(Addresses{"IPv4",
                                                   net::Family::kIPv4,
                                                   "10.244.0.1",
                                                   {"10.244.0.2", "10.244.0.3", "10.244.0.4"},
                                                   "192.168.50.1",
                                                   "192.168.50.2",
                                                   "10.96.0.10",
                                                   "10.96.0.11",
                                                   "198.51.100.1",
                                                   "198.51.100.2",
                                                   "127.0.0.1",
                                                   "10.244.0.0/16",
                                                   "192.168.50.0/24"},
                                         Addresses{"IPv6",
                                                   net::Family::kIPv6,
                                                   "fd00:244::1",
                                                   {"fd00:244::2", "fd00:244::3", "fd00:244::4"},
                                                   "fd00:50::1",
                                                   "fd00:50::2",
                                                   "fd00:96::10",
                                                   "fd00:96::11",
                                                   "2001:db8::1",
                                                   "2001:db8::2",
                                                   "::1",
                                                   "fd00:244::/64",
                                                   "fd00:50::/64"});

const auto kFamilyName = [](const auto& family) { return std::string(family.param.name); };
INSTANTIATE_TEST_SUITE_P(Families, Traffic, kFamilies, kFamilyName);
INSTANTIATE_TEST_SUITE_P(Families, Bound, kFamilies, kFamilyName);

// Rules alone; both variants of iptables.
class RulesTest : public UserspaceTest, public ::testing::WithParamInterface<std::string> {
 protected:
  void SetUp() override {
    ::setenv("POINTSMAN_IPTABLES", GetParam().c_str(), 1);  // NOLINT(concurrency-mt-unsafe)
    if (!EnterFreshNetns()) GTEST_SKIP() << "needs root to make a network namespace";
    try {
      xtables::IptablesTool v4(net::Family::kIPv4);
      xtables::IptablesTool v6(net::Family::kIPv6);
    } catch (const std::runtime_error& error) {
      GTEST_SKIP() << error.what();
    }
    UserspaceTest::SetUp();
  }
  void TearDown() override {
    UserspaceTest::TearDown();
    ::unsetenv("POINTSMAN_IPTABLES");  // NOLINT(concurrency-mt-unsafe)
  }
};

TEST_P(RulesTest, IncrementalEqualsFull) {
  const std::string untouched = Kernel();
  RandomModel random(20261124);
  FullSync();
  for (int step = 0; step < 60; ++step) {
    const SyncResult result = dataplane_->Sync(maker_.model, random.Step(maker_));
    ASSERT_TRUE(result.ok()) << "step " << step << ": " << Text(result);
    ASSERT_NO_FATAL_FAILURE(ExpectVerified()) << "step " << step;
    if (step % 6 != 5) continue;
    // Another process finds nothing to write: kernel and forwarder have what a full sync makes.
    EXPECT_EQ(Make()->FullSync(maker_.model).kernel_writes, 0U) << "step " << step;
  }
  const std::string incremental = Kernel();
  // And so does one that begins with nothing. Slot numbers are its own.
  EXPECT_SYNCED(Make()->Remove());
  EXPECT_EQ(Kernel(), untouched);
  Restart();
  FullSync();
  ASSERT_NO_FATAL_FAILURE(ExpectVerified());
  const auto without_slots = [](const std::string& text) {
    std::string kept;
    for (size_t at = 0; at < text.size();) {
      const size_t end = text.find('\n', at) + 1;
      const std::string line = text.substr(at, end - at);
      const size_t slot = line.find("--to-destination ");
      const size_t port = line.find("-A POINTSMAN-USP-INPUT -p ");
      if (port == std::string::npos) kept += line.substr(0, slot) + "\n";
      at = end;
    }
    return kept;
  };
  EXPECT_EQ(without_slots(Kernel()), without_slots(incremental));
}

TEST_P(RulesTest, DamageIsSeenAndRepaired) {
  RandomModel random(7);
  for (int i = 0; i < 10; ++i)
    random.Step(maker_);
  ServicePortEntry entry =
      MakeEntry("web", Protocol::kTcp, "10.96.9.9", 80, {MakeBackend("10.244.0.2", 80)});
  maker_.Put(entry);
  FullSync();
  const std::string good = Kernel();
  const std::function<void()> damages[] = {
      [&] { tool4_->Restore("*nat\n-F POINTSMAN-USP-SERVICES\nCOMMIT\n"); },
      [&] { tool4_->Restore("*nat\n-F POINTSMAN-USP-OWN\nCOMMIT\n"); },
      [&] { tool4_->Restore("*filter\n-F POINTSMAN-USP-INPUT\nCOMMIT\n"); },
      [&] { tool6_->Restore("*filter\n-F POINTSMAN-USP-GUARD\nCOMMIT\n"); },
      [&] { tool4_->Restore("*filter\n-F OUTPUT\nCOMMIT\n"); },
      [&] {
        RunTool({"ip", "route", "del", "local", "240.112.0.0/14", "dev", "lo"});
      },
      [&] {
        RunTool({"ip", "-6", "route", "del", "local", "fd70:6f69:6e74:736d::/110", "dev", "lo",
                 "table", "local"});
      }};
  for (const std::function<void()>& damage : damages) {
    damage();
    EXPECT_NE(Kernel(), good);
    EXPECT_EQ(dataplane_->Verify(maker_.model).difference_count, 1U);
    const SyncResult repaired = dataplane_->FullSync(maker_.model);
    EXPECT_TRUE(repaired.ok()) << Text(repaired);
    EXPECT_EQ(repaired.kernel_writes > 0, true);
    EXPECT_EQ(Kernel(), good);
    EXPECT_TRUE(dataplane_->Verify(maker_.model).ok());
  }
}

TEST_P(RulesTest, EndpointsAloneChangeNoRule) {
  ServicePortEntry entry =
      MakeEntry("web", Protocol::kTcp, "10.96.9.9", 80, {MakeBackend("10.244.0.2", 80)});
  maker_.Put(entry);
  FullSync();
  const std::string rules = Kernel();
  entry.internal.backends.push_back(MakeBackend("10.244.0.3", 80));
  const ModelDelta delta = maker_.Put(entry);
  const SyncResult result = dataplane_->Sync(maker_.model, delta);
  EXPECT_TRUE(result.ok());
  EXPECT_EQ(result.kernel_writes, 1U);  // the message to the forwarder
  EXPECT_EQ(Kernel(), rules);
  ExpectVerified();
}

// What one Service asks too much of is its own matter: the node is well and serves the others.
TEST_P(RulesTest, EndpointsBeyondTheForwardersBoundAreAWarningOfTheirService) {
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
    ExpectVerified();
  }
}

TEST_P(RulesTest, RemovalLeavesOthersAlone) {
  tool4_->Restore(
      "*nat\n:KUBE-SERVICES - [0:0]\n-A PREROUTING -j KUBE-SERVICES\n-A KUBE-SERVICES -d "
      "10.0.0.1/32 -j RETURN\nCOMMIT\n*filter\n:MINE - [0:0]\n-A INPUT -p tcp -m tcp --dport 22 -j "
      "ACCEPT\n-A MINE -j RETURN\nCOMMIT\n");
  RunTool({"ip", "route", "add", "local", "198.18.0.0/24", "dev", "lo"});
  const std::string before = Kernel();
  RandomModel random(3);
  for (int i = 0; i < 10; ++i)
    random.Step(maker_);
  EXPECT_FALSE(dataplane_->Present());
  FullSync();
  EXPECT_TRUE(Make()->Present());
  // By another process, which remembers nothing; an agent that runs would make it anew.
  dataplane_.reset();
  EXPECT_SYNCED(Make()->Remove());
  EXPECT_FALSE(Make()->Present());
  EXPECT_EQ(Kernel(), before);
  EXPECT_EQ(Make()->Remove().kernel_writes, 0U);
}

TEST_P(RulesTest, AForwarderThatDoesNotStartIsReported) {
  UserspaceDataplane::Options options{.forwarder_program = "/nonexistent/pointsman-forwarder",
                                      .run_directory = directory_ + "/run",
                                      .version = "test"};
  UserspaceDataplane broken(settings_, options, {tool4_.get()});
  try {
    broken.FullSync(maker_.model);
    FAIL() << "synced";
  } catch (const std::exception& error) {
    EXPECT_THAT(error.what(), HasSubstr("/nonexistent/pointsman-forwarder"));
  }
  EXPECT_SYNCED(broken.Remove());
}

INSTANTIATE_TEST_SUITE_P(Variants, RulesTest, ::testing::Values("legacy", "nft"),
                         [](const auto& variant) { return variant.param; });

}  // namespace
}  // namespace pointsman::agent

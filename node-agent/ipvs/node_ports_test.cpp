// Node ports and external addresses in a real kernel. The numbers in the names are issues of
// kubernetes/kubernetes.
#include "node-agent/ipvs/internal_addresses.h"
#include "node-agent/ipvs/testing/dataplane_fixture.h"

namespace pointsman::agent {
namespace {

using ::testing::ElementsAre;

constexpr const char* kLoadBalancer = "203.0.113.8";
constexpr const char* kExternal = "203.0.113.7";

class NodePortTest : public IpvsDataplaneTest {
 protected:
  static size_t VirtualServers() {
    size_t count = 0;
    const std::string table = RunTool({"ipvsadm", "-Sn"});
    for (size_t at = table.find("-A "); at != std::string::npos; at = table.find("-A ", at + 1))
      ++count;
    return count;
  }
  void KnowPods() {
    settings_.cluster_cidrs = {net::IpPrefix::Parse("10.244.0.0/16").value()};
    Start();
  }
};

TEST_F(NodePortTest, K79444VirtualServersDoNotGrowWithTheNodesAddresses) {
  maker_.Put(Web({MakeBackend(kPodA, 8080)}));
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_EQ(VirtualServers(), 2U);
  // Without a word to the agent, a new address answers.
  for (int i = 1; i <= 5; ++i)
    RunTool({"ip", "addr", "add", "192.168.60." + std::to_string(i) + "/24", "dev", "vclient"});
  for (int i = 1; i <= 5; ++i)
    EXPECT_EQ(AskTcp("client", "192.168.60." + std::to_string(i), 30080).server, "pod-a");
  EXPECT_EQ(AskTcp("", "192.168.60.3", 30080).server, "pod-a");
  maker_.model.node.node_port_addresses.push_back(Ip("192.168.60.1"));
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_EQ(VirtualServers(), 2U);
  ExpectVerified();
  // The others are secondary addresses of it and go with it.
  RunTool({"ip", "addr", "del", "192.168.60.1/24", "dev", "vclient"});
}

TEST_F(NodePortTest, NodePortAddressesSayWhichAddressesAnswer) {
  RunTool({"ip", "addr", "add", "192.168.60.1/24", "dev", "vclient"});
  maker_.model.node.every_address = false;
  maker_.Put(Web({MakeBackend(kPodA, 8080)}));
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_EQ(AskTcp("client", kNodeIp, 30080).server, "pod-a");
  EXPECT_EQ(AskTcp("client", "192.168.60.1", 30080).error, ECONNREFUSED);
  // An address of the asked kind that comes later.
  RunTool({"ip", "addr", "add", "192.168.50.9/24", "dev", "vclient"});
  maker_.model.node.node_port_addresses = {Ip(kNodeIp), Ip("192.168.50.9")};
  ModelDelta delta;
  delta.node_changed = true;
  Apply(delta);
  EXPECT_EQ(AskTcp("client", "192.168.50.9", 30080).server, "pod-a");
  ExpectVerified();
  RunTool({"ip", "addr", "del", "192.168.50.9/24", "dev", "vclient"});
  RunTool({"ip", "addr", "del", "192.168.60.1/24", "dev", "vclient"});
}

TEST_F(NodePortTest, K67730K96879ALocalhostNodePortIsRefusedAtOnce) {
  maker_.Put(Web({MakeBackend(kPodA, 8080)}));
  maker_.Put(Dns({MakeBackend(kPodA, 8080)}));
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_EQ(AskTcp("", "127.0.0.1", 30080).error, ECONNREFUSED);
  EXPECT_EQ(AskUdp("", "127.0.0.1", 30053).error, ECONNREFUSED);
  EXPECT_EQ(AskTcp("", kNodeIp, 30080).server, "pod-a");
}

TEST_F(NodePortTest, TheInternalAddressesAreNoWayIn) {
  KnowPods();
  ServicePortEntry web = Web({});
  MakeLocal(web, {MakeBackend(kPodA, 8080)}, {MakeBackend(kPodA, 8080), MakeBackend(kPodB, 8080)});
  maker_.Put(web);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  for (const net::IpAddress& ip :
       {ipvs::NodePortAddress(net::Family::kIPv4), ipvs::NearNodePortAddress(net::Family::kIPv4)}) {
    for (const char* host : {"client", "pod-c"})
      EXPECT_EQ(AskTcp(host, ip.ToString(), 30080).error, ETIMEDOUT) << host;
  }
}

TEST_F(NodePortTest, K75262K93456K92857LocalPolicyIsForThoseOutsideOnly) {
  KnowPods();
  ServicePortEntry web = Web({});
  MakeLocal(web, {MakeBackend(kPodA, 8080)}, {MakeBackend(kPodA, 8080), MakeBackend(kPodB, 8080)});
  web.load_balancer_ips = {Ip(kLoadBalancer)};
  web.external_ips = {Ip(kExternal)};
  maker_.Put(web);
  // One without a node port: allocateLoadBalancerNodePorts: false.
  ServicePortEntry bare = MakeEntry("bare", Protocol::kTcp, "10.96.0.11", 80, {});
  MakeLocal(bare, {MakeBackend(kPodA, 8080)}, {MakeBackend(kPodA, 8080), MakeBackend(kPodB, 8080)});
  bare.internal = bare.external;  // internalTrafficPolicy: Local
  bare.load_balancer_ips = {Ip("203.0.113.9")};
  maker_.Put(bare);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  ExpectVerified();
  const std::vector<std::pair<std::string, uint16_t>> places{
      {kNodeIp, 30080}, {kLoadBalancer, 80}, {kExternal, 80}, {"203.0.113.9", 80}};
  for (const auto& [ip, port] : places) {
    SCOPED_TRACE(ip);
    std::set<std::string> sources;
    EXPECT_THAT(Hosts("client", ip, port, &sources), ElementsAre("pod-a"));
    EXPECT_THAT(sources, ElementsAre(kClientIp)) << "kept";
    sources.clear();
    EXPECT_THAT(Hosts("pod-c", ip, port, &sources), ElementsAre("pod-a", "pod-b"));
    EXPECT_THAT(sources, ElementsAre(kPodC));
    EXPECT_THAT(Hosts("", ip, port), ElementsAre("pod-a", "pod-b"));
  }
  // A pod that meets itself.
  EXPECT_THAT(Hosts("pod-a", kLoadBalancer, 80), ElementsAre("pod-a", "pod-b"));

  // #97081: no local endpoint left. Those outside are dropped, never sent to another node.
  const std::string rules = NatRules();
  web.external.backends.clear();
  Put(web);
  EXPECT_EQ(NatRules(), rules) << "endpoints are no matter of rules";
  ExpectVerified();
  for (const auto& [ip, port] : {places[0], places[1], places[2]}) {
    SCOPED_TRACE(ip);
    EXPECT_EQ(AskTcp("client", ip, port).error, ETIMEDOUT);
    EXPECT_THAT(Hosts("pod-c", ip, port), ElementsAre("pod-a", "pod-b"));
    EXPECT_THAT(Hosts("", ip, port), ElementsAre("pod-a", "pod-b"));
  }
  // None anywhere: everyone is refused.
  MakeLocal(web, {}, {});
  web.external.when_empty = BackendChoice::WhenEmpty::kReject;
  Put(web);
  for (const auto& [ip, port] : {places[0], places[1], places[2]}) {
    for (const char* host : {"client", "pod-c", ""})
      EXPECT_EQ(AskTcp(host, ip, port).error, ECONNREFUSED) << ip << " from " << host;
  }
  EXPECT_EQ(NatRules(), rules);
  Apply(maker_.Remove(web.id));
  Apply(maker_.Remove(bare.id));
  EXPECT_EQ(NatRules(), rules) << "nor are Services";
  ExpectVerified();
}

TEST_F(NodePortTest, K119656K119791K62638K88698SourceRangesHoldForPodsAndTheNodeToo) {
  KnowPods();
  ServicePortEntry web = Web({});
  MakeLocal(web, {MakeBackend(kPodA, 8080)}, {MakeBackend(kPodA, 8080), MakeBackend(kPodB, 8080)});
  web.load_balancer_ips = {Ip(kLoadBalancer)};
  web.source_ranges = {net::IpPrefix::Parse("10.244.0.0/16").value()};
  maker_.Put(web);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_THAT(Hosts("pod-c", kLoadBalancer, 80), ElementsAre("pod-a", "pod-b"));
  EXPECT_EQ(AskTcp("client", kLoadBalancer, 80).error, ETIMEDOUT);
  // Its pods are, the node is not.
  EXPECT_EQ(AskTcp("", kLoadBalancer, 80).error, ETIMEDOUT);
  web.source_ranges = {net::IpPrefix(Ip(kNodeIp), 32)};
  web.node_in_source_ranges = true;
  Put(web);
  EXPECT_THAT(Hosts("", kLoadBalancer, 80), ElementsAre("pod-a", "pod-b"));
  // Where others bind the address on the node, the node comes from it.
  RunTool({"ip", "route", "add", "local", kLoadBalancer, "dev", "lo"});
  EXPECT_THAT(Hosts("", kLoadBalancer, 80), ElementsAre("pod-a", "pod-b"));
  RunTool({"ip", "route", "del", "local", kLoadBalancer, "dev", "lo"});
  web.source_ranges = {net::IpPrefix::Parse("192.168.50.2/32").value()};
  web.node_in_source_ranges = false;
  Put(web);
  EXPECT_EQ(AskTcp("pod-c", kLoadBalancer, 80).error, ETIMEDOUT);
  EXPECT_EQ(AskTcp("", kLoadBalancer, 80).error, ETIMEDOUT);
  EXPECT_THAT(Hosts("client", kLoadBalancer, 80), ElementsAre("pod-a"));
  EXPECT_THAT(Hosts("client", kNodeIp, 30080), ElementsAre("pod-a")) << "not of node ports";
}

TEST_F(NodePortTest, APolicyOfDropInInputStopsNoServiceAndNoHealthCheck) {
  network_->Serve("", "0.0.0.0", 32000);
  network_->Serve("", "0.0.0.0", 32001);
  ServicePortEntry web = Web({MakeBackend(kPodA, 8080)});
  web.load_balancer_ips = {Ip(kLoadBalancer)};
  web.health_check_node_port = 32000;
  maker_.Put(web);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  ExpectVerified();
  RunTool({"iptables-legacy", "-P", "INPUT", "DROP"});
  EXPECT_EQ(AskTcp("client", kNodeIp, 30080).server, "pod-a");
  EXPECT_EQ(AskTcp("client", kLoadBalancer, 80).server, "pod-a");
  EXPECT_EQ(AskTcp("pod-c", kVip, 80).server, "pod-a");
  EXPECT_TRUE(AskTcp("client", kNodeIp, 32000).ok());
  EXPECT_EQ(AskTcp("client", kNodeIp, 32001).error, ETIMEDOUT);
  web.health_check_node_port = 0;
  Put(web);
  EXPECT_EQ(AskTcp("client", kNodeIp, 32000).error, ETIMEDOUT);
  RunTool({"iptables-legacy", "-P", "INPUT", "ACCEPT"});
  ExpectVerified();
}

TEST_F(NodePortTest, OpenNodePortConnectionsLiveThroughEverySync) {
  maker_.Put(Web({MakeBackend(kPodA, 8080)}));
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  Stream stream(TestNetwork::At("client"), kNodeIp, 30080);
  Stream own(TestNetwork::At(""), kNodeIp, 30080);
  ASSERT_EQ(stream.Ask().server, "pod-a");
  ASSERT_EQ(own.Ask().server, "pod-a");
  Put(Web({MakeBackend(kPodB, 8080)}));
  EXPECT_EQ(AskTcp("client", kNodeIp, 30080).server, "pod-b");
  EXPECT_EQ(stream.Ask().server, "pod-a");
  Start();
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_EQ(stream.Ask().server, "pod-a");
  // The Service goes; and at the last ipvs mode.
  Apply(maker_.Remove(Web({}).id));
  EXPECT_EQ(AskTcp("client", kNodeIp, 30080).error, ECONNREFUSED);
  EXPECT_EQ(stream.Ask().server, "pod-a");
  EXPECT_SYNCED(dataplane_->Remove());
  EXPECT_EQ(stream.Ask().server, "pod-a") << "connection tracking carries it";
  EXPECT_EQ(own.Ask().server, "pod-a");
}

TEST_F(NodePortTest, K76664K71514K105192UdpMovesAtOnceOnEveryKindOfAddress) {
  KnowPods();
  ServicePortEntry dns = Dns({});
  const auto serve = [&](const char* pod) {
    MakeLocal(dns, {MakeBackend(pod, 8080)}, {MakeBackend(pod, 8080)});
  };
  serve(kPodA);
  dns.load_balancer_ips = {Ip(kLoadBalancer)};
  dns.external_ips = {Ip(kExternal)};
  maker_.Put(dns);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  struct Way {
    const char* host;
    const char* ip;
    uint16_t port;
  };
  const std::vector<Way> ways{{"pod-c", kVip, 53},           {"", kVip, 53},
                              {"client", kNodeIp, 30053},    {"pod-c", kNodeIp, 30053},
                              {"client", kLoadBalancer, 53}, {"pod-c", kLoadBalancer, 53},
                              {"client", kExternal, 53},     {"", kLoadBalancer, 53}};
  // The socket of a resolver that lives on: the same source port each time.
  for (size_t i = 0; i < ways.size(); ++i) {
    const auto port = static_cast<uint16_t>(5500 + i);
    EXPECT_EQ(AskUdp(ways[i].host, ways[i].ip, ways[i].port, port).server, "pod-a");
  }
  serve(kPodB);
  Put(dns);
  for (size_t i = 0; i < ways.size(); ++i) {
    SCOPED_TRACE(std::string(ways[i].host) + " to " + ways[i].ip);
    const auto port = static_cast<uint16_t>(5500 + i);
    // One datagram may be lost with the old entry; never more.
    Reply answer = AskUdp(ways[i].host, ways[i].ip, ways[i].port, port);
    if (!answer.ok()) answer = AskUdp(ways[i].host, ways[i].ip, ways[i].port, port);
    EXPECT_EQ(answer.server, "pod-b");
  }
}

}  // namespace
}  // namespace pointsman::agent

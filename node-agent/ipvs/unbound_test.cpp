// External addresses that another machine may have, in a real kernel.
#include "node-agent/ipvs/internal_addresses.h"
#include "node-agent/ipvs/testing/dataplane_fixture.h"

namespace pointsman::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kElsewhere = "198.51.100.9";  // on no subnet of the node

class UnboundTest : public IpvsDataplaneTest {
 protected:
  void SetUp() override {
    settings_.cluster_cidrs = {net::IpPrefix::Parse("10.244.0.0/16").value()};
    IpvsDataplaneTest::SetUp();
    // What the other machine has of its own.
    network_->Serve("client", "0.0.0.0", 22222);
  }
  void TearDown() override {
    network_->StopServing("client");
    IpvsDataplaneTest::TearDown();
  }
  std::set<std::string> Hosts(const std::string& host, const std::string& ip, uint16_t port,
                              std::set<std::string>* sources = nullptr) {
    std::set<std::string> hosts;
    for (int i = 0; i < 4; ++i) {
      const Answer answer = AskTcp(*network_, host, ip, port);
      EXPECT_EQ(answer.error, 0) << host << " to " << ip;
      hosts.insert(answer.host);
      if (sources != nullptr) sources->insert(answer.source);
    }
    return hosts;
  }
  static std::string Bound() {
    return RunTool({"ip", "route", "show", "table", "local", "dev", IpvsDataplane::kDevice});
  }
  static std::string NatRules() { return RunTool({"iptables-legacy", "-t", "nat", "-S"}); }
};

// The list that k3s writes: every node's address, of which one is this node's and one is on
// another subnet.
TEST_F(UnboundTest, AListWithAnAddressOfTheNodeIsNotBound) {
  ServicePortEntry web = Web({MakeBackend(kPodA, 8080)});
  web.load_balancer_ips = {Ip(kNodeIp), Ip(kElsewhere)};
  maker_.Put(web);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  ExpectVerified();
  EXPECT_THAT(Bound(), Not(HasSubstr(kElsewhere)));
  EXPECT_THAT(Bound(), Not(HasSubstr(kNodeIp)));
  EXPECT_EQ(AskTcp(*network_, "client", kNodeIp, 80).host, "pod-a");
  for (const char* host : {"pod-c", ""}) {
    EXPECT_EQ(AskTcp(*network_, host, kNodeIp, 80).host, "pod-a") << host;
    EXPECT_EQ(AskTcp(*network_, host, kElsewhere, 80).host, "pod-a") << host;
  }
}

TEST_F(UnboundTest, OtherPortsOfAnAddressOnTheNodesSubnetAreItsOwners) {
  ServicePortEntry web = Web({MakeBackend(kPodA, 8080), MakeBackend(kPodB, 8080)});
  web.load_balancer_ips = {Ip(kClientIp)};
  maker_.Put(web);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  ExpectVerified();
  for (const char* host : {"pod-c", ""}) {
    EXPECT_THAT(Hosts(host, kClientIp, 80), ElementsAre("pod-a", "pod-b")) << host;
    EXPECT_EQ(AskTcp(*network_, host, kClientIp, 22222).host, "client") << host;
    EXPECT_EQ(AskUdp(*network_, host, kClientIp, 22222).host, "client") << host;
  }
  const std::string rules = NatRules();
  Put(Web({}));  // without the address: its port is its owner's again
  EXPECT_EQ(AskTcp(*network_, "pod-c", kClientIp, 80).error, ECONNREFUSED);
  Put(web);
  EXPECT_EQ(NatRules(), rules);
  web.external.backends.clear();
  web.internal.backends.clear();
  Put(web);
  for (const char* host : {"pod-c", ""})
    EXPECT_EQ(AskTcp(*network_, host, kClientIp, 80).error, ECONNREFUSED) << host;
  EXPECT_EQ(NatRules(), rules) << "endpoints are no matter of rules";
  ExpectVerified();
}

// Neither a node port nor a cluster IP has the endpoints that its external addresses need.
TEST_F(UnboundTest, WithoutNodePortEachKindOfTrafficHasItsOwnEndpoints) {
  const Backend a = MakeBackend(kPodA, 8080);
  const Backend b = MakeBackend(kPodB, 8080, false);
  ServicePortEntry web = MakeEntry("web", Protocol::kTcp, kVip, 80, {a});
  web.external_local = true;
  web.external_from_node.backends = {a, b};
  web.load_balancer_ips = {Ip(kElsewhere)};  // bound
  web.external_ips = {Ip("203.0.113.7")};    // not bound
  maker_.Put(web);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  ExpectVerified();
  EXPECT_THAT(Bound(), HasSubstr(kElsewhere));
  EXPECT_THAT(Bound(), Not(HasSubstr("203.0.113.7")));
  EXPECT_THAT(Hosts("pod-c", kVip, 80), ElementsAre("pod-a"));
  for (const char* ip : {kElsewhere, "203.0.113.7"}) {
    SCOPED_TRACE(ip);
    std::set<std::string> sources;
    EXPECT_THAT(Hosts("client", ip, 80, &sources), ElementsAre("pod-a"));
    EXPECT_THAT(sources, ElementsAre(kClientIp)) << "kept";
    EXPECT_THAT(Hosts("pod-c", ip, 80), ElementsAre("pod-a", "pod-b"));
    EXPECT_THAT(Hosts("", ip, 80), ElementsAre("pod-a", "pod-b"));
  }
  // The policy changes.
  web.external_local = false;
  web.external.backends = {a, b};
  web.external_from_node = {};
  Put(web);
  for (const char* ip : {kElsewhere, "203.0.113.7"}) {
    SCOPED_TRACE(ip);
    std::set<std::string> sources;
    EXPECT_THAT(Hosts("client", ip, 80, &sources), ElementsAre("pod-a", "pod-b"));
    EXPECT_THAT(sources, ElementsAre(kPodGateway)) << "masqueraded";
  }
  EXPECT_THAT(Hosts("pod-c", kVip, 80), ElementsAre("pod-a"));
  ExpectVerified();
  for (const net::IpAddress& ip :
       {ipvs::ExternalAddress(Ip(kVip)), ipvs::NearExternalAddress(Ip(kVip))}) {
    for (const char* host : {"client", "pod-c"})
      EXPECT_FALSE(AskTcp(*network_, host, ip.ToString(), 80).ok()) << "no way in";
  }
  // What has connections lingers.
  settings_.drain_timeout = std::chrono::seconds(0);
  Start();
  maker_.Remove(web.id);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_EQ(Bound(), "") << "nothing is left";
  EXPECT_THAT(NatRules(), Not(HasSubstr("203.0.113.7")));
  ExpectVerified();
}

TEST_F(UnboundTest, FlowsFollowAnAddressThatIsNoLongerBoundAndStreamsOneThatIs) {
  ServicePortEntry dns = Dns({MakeBackend(kPodA, 8080)});
  ServicePortEntry web = Web({MakeBackend(kPodA, 8080)});
  const auto give = [&](std::vector<net::IpAddress> ips) {
    dns.load_balancer_ips = ips;
    web.load_balancer_ips = std::move(ips);
  };
  give({Ip(kElsewhere)});
  maker_.Put(dns);
  maker_.Put(web);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_THAT(Bound(), HasSubstr(kElsewhere));
  for (const char* host : {"pod-c", "client", ""})
    EXPECT_EQ(AskUdp(*network_, host, kElsewhere, 53, 5600).host, "pod-a") << host;
  Stream before(*network_, "pod-c", kElsewhere, 80);
  ASSERT_EQ(before.Ask().host, "pod-a");

  give({Ip(kNodeIp), Ip(kElsewhere)});
  Put(dns);
  Put(web);
  EXPECT_THAT(Bound(), Not(HasSubstr(kElsewhere)));
  ExpectVerified();
  for (const char* host : {"pod-c", "client", ""}) {
    EXPECT_EQ(AskUdp(*network_, host, kElsewhere, 53, 5600).host, "pod-a") << host;
    EXPECT_EQ(AskTcp(*network_, host, kElsewhere, 80).host, "pod-a") << host;
  }
  EXPECT_EQ(before.Ask().error, ECONNRESET) << "and does not hang";
  Stream stream(*network_, "pod-c", kElsewhere, 80);
  Stream own(*network_, "", kElsewhere, 80);
  ASSERT_EQ(stream.Ask().host, "pod-a");
  ASSERT_EQ(own.Ask().host, "pod-a");

  give({Ip(kElsewhere)});
  Put(dns);
  Put(web);
  EXPECT_THAT(Bound(), HasSubstr(kElsewhere));
  ExpectVerified();
  for (const char* host : {"pod-c", "client", ""}) {
    EXPECT_EQ(AskUdp(*network_, host, kElsewhere, 53, 5600).host, "pod-a") << host;
    EXPECT_EQ(AskTcp(*network_, host, kElsewhere, 80).host, "pod-a") << host;
  }
  EXPECT_EQ(stream.Ask().host, "pod-a");
  EXPECT_EQ(own.Ask().host, "pod-a");
}

// An agent of a version that bound it was here before.
TEST_F(UnboundTest, AFullSyncUnbindsWhatAnEarlierProcessBound) {
  ServicePortEntry dns = Dns({MakeBackend(kPodA, 8080)});
  dns.load_balancer_ips = {Ip(kElsewhere)};
  maker_.Put(dns);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_EQ(AskUdp(*network_, "pod-c", kElsewhere, 53, 5601).host, "pod-a");
  RunTool({"ip", "addr", "add", "198.51.100.1/24", "dev", "vclient"});
  Start();
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_THAT(Bound(), Not(HasSubstr(kElsewhere)));
  EXPECT_THAT(RunTool({"ipvsadm", "-Sn"}), Not(HasSubstr(kElsewhere)));
  ExpectVerified();
  EXPECT_EQ(AskUdp(*network_, "pod-c", kElsewhere, 53, 5601).host, "pod-a");
  RunTool({"ip", "addr", "del", "198.51.100.1/24", "dev", "vclient"});
}

// A virtual server that someone else has there stays theirs.
TEST_F(UnboundTest, AVirtualServerOfOthersIsNotTouched) {
  RunTool({"ipvsadm", "-A", "-t", std::string(kClientIp) + ":80", "-s", "rr"});
  ServicePortEntry web = Web({MakeBackend(kPodA, 8080)});
  web.external_ips = {Ip(kClientIp)};
  maker_.Put(web);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  ExpectVerified();
  EXPECT_EQ(AskTcp(*network_, "pod-c", kClientIp, 80).host, "pod-a");
  Apply(maker_.Remove(web.id));
  EXPECT_SYNCED(dataplane_->Remove());
  EXPECT_THAT(RunTool({"ipvsadm", "-Sn"}), HasSubstr(kClientIp));
}

TEST_F(UnboundTest, OpenConnectionsOutliveBackendNodePortAndService) {
  ServicePortEntry web = Web({MakeBackend(kPodA, 8080)});
  web.external_ips = {Ip("203.0.113.7")};
  maker_.Put(web);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  Stream outside(*network_, "client", "203.0.113.7", 80);
  Stream pod(*network_, "pod-c", "203.0.113.7", 80);
  Stream node(*network_, "", "203.0.113.7", 80);
  const auto alive = [&](const char* when) {
    for (Stream* stream : {&outside, &pod, &node})
      EXPECT_EQ(stream->Ask().host, "pod-a") << when;
  };
  alive("at first");
  web.external.backends = web.internal.backends = {MakeBackend(kPodB, 8080)};
  Put(web);
  alive("after its backend");
  EXPECT_THAT(Hosts("client", "203.0.113.7", 80), ElementsAre("pod-b"));
  // The frontend behind it changes, and never is there none.
  std::atomic<bool> stop{false};
  std::atomic<int> failed{0};
  std::atomic<int> made{0};
  std::thread load([&] {
    while (!stop) {
      ++made;
      if (!AskTcp(*network_, "pod-c", "203.0.113.7", 80).ok()) ++failed;
    }
  });
  for (int i = 0; i < 4; ++i) {
    web.node_port = i % 2 == 0 ? 0 : 30080;
    Put(web);
  }
  stop = true;
  load.join();
  EXPECT_GT(made, 4);
  EXPECT_EQ(failed, 0) << "of " << made;
  alive("after its node port");
  ExpectVerified();
  Apply(maker_.Remove(web.id));
  alive("after its Service");
  EXPECT_SYNCED(dataplane_->Remove());
  alive("after ipvs mode");
}

TEST_F(UnboundTest, SourceRangesAndAffinityHold) {
  RunTool({"ip", "route", "add", "192.168.60.0/24", "dev", "vclient"});
  ServicePortEntry web = Web({MakeBackend(kPodA, 8080), MakeBackend(kPodB, 8080)});
  web.load_balancer_ips = {Ip("192.168.60.7")};
  web.source_ranges = {net::IpPrefix::Parse("10.244.0.4/32").value()};
  web.affinity_timeout = std::chrono::seconds(100);
  maker_.Put(web);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  ExpectVerified();
  EXPECT_THAT(Bound(), Not(HasSubstr("192.168.60.7")));
  EXPECT_EQ(Hosts("pod-c", "192.168.60.7", 80).size(), 1U);
  EXPECT_EQ(AskTcp(*network_, "pod-a", "192.168.60.7", 80).error, ETIMEDOUT);
  EXPECT_EQ(AskTcp(*network_, "", "192.168.60.7", 80).error, ETIMEDOUT);
  web.source_ranges = {net::IpPrefix::Parse("192.168.50.1/32").value()};
  Put(web);
  EXPECT_EQ(Hosts("", "192.168.60.7", 80).size(), 1U);
  EXPECT_EQ(AskTcp(*network_, "pod-c", "192.168.60.7", 80).error, ETIMEDOUT);
  RunTool({"ip", "route", "del", "192.168.60.0/24", "dev", "vclient"});
}

// Cluster IPs whose internal address is the same one: nothing goes to the wrong Service.
TEST_F(UnboundTest, TwoServicesWithOneInternalAddressAreKeptApart) {
  const net::IpAddress one = Ip(kVip);
  std::optional<net::IpAddress> two;
  for (uint32_t ip = 0x0b000000; !two; ++ip) {
    if (ipvs::ExternalAddress(net::IpAddress::V4(ip)) == ipvs::ExternalAddress(one))
      two = net::IpAddress::V4(ip);
  }
  ServicePortEntry a = MakeEntry("a", Protocol::kTcp, kVip, 80, {MakeBackend(kPodA, 8080)});
  a.external_ips = {Ip("203.0.113.1")};
  ServicePortEntry b =
      MakeEntry("b", Protocol::kTcp, two->ToString(), 80, {MakeBackend(kPodB, 8080)});
  b.external_ips = {Ip("203.0.113.2")};
  maker_.Put(b);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_EQ(AskTcp(*network_, "pod-c", "203.0.113.2", 80).host, "pod-b");
  const SyncResult result = dataplane_->Sync(maker_.model, maker_.Put(a));
  ASSERT_TRUE(result.ok()) << Text(result);
  ASSERT_EQ(result.warnings.size(), 1U);
  EXPECT_EQ(result.warnings[0].service, "b");
  EXPECT_EQ(AskTcp(*network_, "pod-c", "203.0.113.1", 80).host, "pod-a");
  EXPECT_FALSE(AskTcp(*network_, "pod-c", "203.0.113.2", 80).ok());
  EXPECT_EQ(AskTcp(*network_, "pod-c", two->ToString(), 80).host, "pod-b");
  ExpectVerified();
  Apply(maker_.Remove(a.id));
  EXPECT_EQ(AskTcp(*network_, "pod-c", "203.0.113.2", 80).host, "pod-b");
  ExpectVerified();
}

}  // namespace
}  // namespace pointsman::agent

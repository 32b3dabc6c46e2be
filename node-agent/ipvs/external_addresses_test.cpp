// Load balancer and external IPs, which another machine may have, in a real kernel.
#include "node-agent/ipvs/internal_addresses.h"
#include "node-agent/ipvs/testing/dataplane_fixture.h"

namespace pointsman::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kElsewhere = "198.51.100.9";  // on no subnet of the node

class ExternalAddressesTest : public IpvsDataplaneTest {
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
};

// The list that k3s writes: every node's address, of which one is this node's and one is on
// another subnet.
TEST_F(ExternalAddressesTest, AListWithAnAddressOfTheNodeIsNotBound) {
  ServicePortEntry web = Web({MakeBackend(kPodA, 8080)});
  web.load_balancer_ips = {Ip(kNodeIp), Ip(kElsewhere)};
  maker_.Put(web);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  ExpectVerified();
  EXPECT_THAT(Bound(), Not(HasSubstr(kElsewhere)));
  EXPECT_THAT(Bound(), Not(HasSubstr(kNodeIp)));
  EXPECT_EQ(AskTcp("client", kNodeIp, 80).server, "pod-a");
  for (const char* host : {"pod-c", ""}) {
    EXPECT_EQ(AskTcp(host, kNodeIp, 80).server, "pod-a") << host;
    EXPECT_EQ(AskTcp(host, kElsewhere, 80).server, "pod-a") << host;
  }
}

TEST_F(ExternalAddressesTest, OtherPortsOfAnAddressOnTheNodesSubnetAreItsOwners) {
  ServicePortEntry web = Web({MakeBackend(kPodA, 8080), MakeBackend(kPodB, 8080)});
  web.load_balancer_ips = {Ip(kClientIp)};
  maker_.Put(web);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  ExpectVerified();
  for (const char* host : {"pod-c", ""}) {
    EXPECT_THAT(Hosts(host, kClientIp, 80), ElementsAre("pod-a", "pod-b")) << host;
    EXPECT_EQ(AskTcp(host, kClientIp, 22222).server, "client") << host;
    EXPECT_EQ(AskUdp(host, kClientIp, 22222).server, "client") << host;
  }
  const std::string rules = NatRules();
  Put(Web({}));  // without the address: its port is its owner's again
  EXPECT_EQ(AskTcp("pod-c", kClientIp, 80).error, ECONNREFUSED);
  Put(web);
  EXPECT_EQ(NatRules(), rules);
  web.external.backends.clear();
  web.internal.backends.clear();
  Put(web);
  for (const char* host : {"pod-c", ""})
    EXPECT_EQ(AskTcp(host, kClientIp, 80).error, ECONNREFUSED) << host;
  EXPECT_EQ(NatRules(), rules) << "endpoints are no matter of rules";
  ExpectVerified();
}

// Neither a node port nor a cluster IP has the endpoints that its external addresses need.
TEST_F(ExternalAddressesTest, WithoutNodePortEachKindOfTrafficHasItsOwnEndpoints) {
  const Backend a = MakeBackend(kPodA, 8080);
  const Backend b = MakeBackend(kPodB, 8080, false);
  ServicePortEntry web = MakeEntry("web", Protocol::kTcp, kVip, 80, {a});
  web.external_local = true;
  web.external_from_node.backends = {a, b};
  web.load_balancer_ips = {Ip(kElsewhere)};
  web.external_ips = {Ip("203.0.113.7")};
  maker_.Put(web);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  ExpectVerified();
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
       {ipvs::MappedAddress(Ip(kElsewhere)), ipvs::NearMappedAddress(Ip(kElsewhere))}) {
    for (const char* host : {"client", "pod-c"})
      EXPECT_FALSE(AskTcp(host, ip.ToString(), 80).ok()) << "no way in";
  }
  // What has connections lingers.
  settings_.drain_timeout = std::chrono::seconds(0);
  Start();
  maker_.Remove(web.id);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_EQ(Bound(), "") << "nothing is left";
  ExpectVerified();
}

// The machine that has the address is on no subnet of the node, and in no list with one of the
// node's addresses.
TEST_F(ExternalAddressesTest, K66966K114815AMachineBehindAGatewayIsReached) {
  RunTool({"ip", "-n", "client", "addr", "add", std::string(kElsewhere) + "/32", "dev", "lo"});
  network_->Serve("client", kElsewhere, 22223);
  for (const bool local : {false, true}) {
    const std::vector<Backend> all{MakeBackend(kPodA, 8080), MakeBackend(kPodB, 8080)};
    ServicePortEntry web = Web(all);
    if (local) MakeLocal(web, {}, all);
    web.load_balancer_ips = {Ip(kElsewhere)};
    maker_.Put(web);
    EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
    ExpectVerified();
    EXPECT_THAT(Bound(), Not(HasSubstr(kElsewhere)));
    for (const char* host : {"pod-c", ""}) {
      EXPECT_THAT(Hosts(host, kElsewhere, 80), ElementsAre("pod-a", "pod-b")) << host;
      EXPECT_EQ(AskTcp(host, kElsewhere, 22223).server, "client") << host;
      EXPECT_EQ(AskUdp(host, kElsewhere, 22223).server, "client") << host;
    }
  }
  RunTool({"ip", "-n", "client", "addr", "del", std::string(kElsewhere) + "/32", "dev", "lo"});
}

// An external address of the internal range itself, which NETMAP leaves as it is.
TEST_F(ExternalAddressesTest, AnAddressThatIsItsOwnInternalOneIsServed) {
  ServicePortEntry web = Web({});
  MakeLocal(web, {MakeBackend(kPodA, 8080)}, {MakeBackend(kPodA, 8080), MakeBackend(kPodB, 8080)});
  for (const net::Family family : {net::Family::kIPv4}) {
    web.load_balancer_ips = {ipvs::MapPrefix(family).address(),
                             ipvs::NearMapPrefix(family).address()};
    for (net::IpAddress& ip : web.load_balancer_ips)
      ip = net::IpAddress::V4(ip.v4_host_order() + 7);
  }
  web.load_balancer_ips[1] = net::IpAddress::V4(web.load_balancer_ips[1].v4_host_order() + 1);
  maker_.Put(web);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  ExpectVerified();
  for (const net::IpAddress& ip : web.load_balancer_ips) {
    EXPECT_THAT(Hosts("client", ip.ToString(), 80), ElementsAre("pod-a"));
    EXPECT_THAT(Hosts("pod-c", ip.ToString(), 80), ElementsAre("pod-a", "pod-b"));
    EXPECT_FALSE(AskTcp("client", ip.ToString(), 22222).ok());
  }
}

// An agent of a version that bound load balancer IPs was here before.
TEST_F(ExternalAddressesTest, AFullSyncUnbindsWhatAnEarlierProcessBound) {
  settings_.drain_timeout = std::chrono::seconds(2);
  Start();
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  const std::string server = std::string(kElsewhere) + ":80";
  const std::string element = std::string(kElsewhere) + ",tcp:80";
  RunTool({"ipset", "add", "PM-IPVS-OWNED-4", element});
  RunTool({"ipset", "add", "PM-IPVS-CLUSTER-4", element});
  RunTool({"ipset", "add", "PM-IPVS-VIP-4", kElsewhere});
  RunTool({"ipvsadm", "-A", "-t", server, "-s", "rr"});
  RunTool({"ipvsadm", "-a", "-t", server, "-r", std::string(kPodA) + ":8080", "-m"});
  RunTool(
      {"ip", "route", "add", "local", kElsewhere, "dev", IpvsDataplane::kDevice, "proto", "112"});
  Stream stream(TestNetwork::At("pod-c"), kElsewhere, 80);
  ASSERT_EQ(stream.Ask().server, "pod-a");

  ServicePortEntry web = Web({MakeBackend(kPodB, 8080)});
  web.load_balancer_ips = {Ip(kElsewhere)};
  maker_.Put(web);
  Start();
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  ExpectVerified();
  EXPECT_THAT(Hosts("pod-c", kElsewhere, 80), ElementsAre("pod-b"));
  EXPECT_THAT(Hosts("", kElsewhere, 80), ElementsAre("pod-b"));
  EXPECT_EQ(stream.Ask().server, "pod-a") << "it drains";
  ASSERT_LT(dataplane_->FullSyncDue(), std::chrono::steady_clock::time_point::max());
  std::this_thread::sleep_until(dataplane_->FullSyncDue());
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_THAT(Bound(), Not(HasSubstr(kElsewhere)));
  EXPECT_THAT(RunTool({"ipvsadm", "-Sn"}), Not(HasSubstr(kElsewhere)));
  EXPECT_THAT(Hosts("pod-c", kElsewhere, 80), ElementsAre("pod-b"));
  ExpectVerified();
}

// A virtual server that someone else has there stays theirs.
TEST_F(ExternalAddressesTest, AVirtualServerOfOthersIsNotTouched) {
  RunTool({"ipvsadm", "-A", "-t", std::string(kClientIp) + ":80", "-s", "rr"});
  ServicePortEntry web = Web({MakeBackend(kPodA, 8080)});
  web.external_ips = {Ip(kClientIp)};
  maker_.Put(web);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  ExpectVerified();
  EXPECT_EQ(AskTcp("pod-c", kClientIp, 80).server, "pod-a");
  Apply(maker_.Remove(web.id));
  EXPECT_THAT(RunTool({"ipvsadm", "-Sn"}), HasSubstr(kClientIp));
  // Nor is its traffic, if it is said so.
  settings_.ipvs.exclude_cidrs = {net::IpPrefix(Ip(kClientIp), 32)};
  Start();
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  const auto expect_refused = [&](const SyncResult& result) {
    EXPECT_SYNCED(result);
    const auto warnings = result.refusals.Warnings();
    ASSERT_EQ(warnings.size(), 1U);
    EXPECT_THAT(warnings[0].message, HasSubstr(std::string(kClientIp) + ":80/TCP exists"));
    EXPECT_EQ(AskTcp("pod-c", kClientIp, 80).error, ECONNREFUSED) << "of the machine";
  };
  expect_refused(dataplane_->Sync(maker_.model, maker_.Put(web)));
  ExpectVerified();
  expect_refused(dataplane_->FullSync(maker_.model));
  RunTool({"ipvsadm", "-D", "-t", std::string(kClientIp) + ":80"});
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_EQ(AskTcp("pod-c", kClientIp, 80).server, "pod-a");
  ExpectVerified();
}

TEST_F(ExternalAddressesTest, OpenConnectionsOutliveBackendNodePortAndService) {
  ServicePortEntry web = Web({MakeBackend(kPodA, 8080)});
  web.external_ips = {Ip("203.0.113.7")};
  maker_.Put(web);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  Stream outside(TestNetwork::At("client"), "203.0.113.7", 80);
  Stream pod(TestNetwork::At("pod-c"), "203.0.113.7", 80);
  Stream node(TestNetwork::At(""), "203.0.113.7", 80);
  const auto alive = [&](const char* when) {
    for (Stream* stream : {&outside, &pod, &node})
      EXPECT_EQ(stream->Ask().server, "pod-a") << when;
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
      if (!AskTcp("pod-c", "203.0.113.7", 80).ok()) ++failed;
    }
  });
  for (int i = 0; i < 4 || made < 20; ++i) {
    web.node_port = i % 2 == 0 ? 0 : 30080;
    Put(web);
  }
  stop = true;
  load.join();
  EXPECT_EQ(failed, 0) << "of " << made;
  alive("after its node port");
  ExpectVerified();
  Apply(maker_.Remove(web.id));
  alive("after its Service");
  EXPECT_SYNCED(dataplane_->Remove());
  alive("after ipvs mode");
}

TEST_F(ExternalAddressesTest, SourceRangesAndAffinityHold) {
  RunTool({"ip", "route", "add", "192.168.60.0/24", "dev", "vclient"});
  ServicePortEntry web = Web({MakeBackend(kPodA, 8080), MakeBackend(kPodB, 8080)});
  web.load_balancer_ips = {Ip("192.168.60.7")};
  web.source_ranges = {net::IpPrefix::Parse("10.244.0.4/32").value()};
  web.affinity_timeout = std::chrono::seconds(100);
  maker_.Put(web);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  ExpectVerified();
  EXPECT_EQ(Hosts("pod-c", "192.168.60.7", 80).size(), 1U);
  EXPECT_EQ(AskTcp("pod-a", "192.168.60.7", 80).error, ETIMEDOUT);
  EXPECT_EQ(AskTcp("", "192.168.60.7", 80).error, ETIMEDOUT);
  web.source_ranges = {net::IpPrefix::Parse("192.168.50.1/32").value()};
  Put(web);
  EXPECT_EQ(Hosts("", "192.168.60.7", 80).size(), 1U);
  EXPECT_EQ(AskTcp("pod-c", "192.168.60.7", 80).error, ETIMEDOUT);
  RunTool({"ip", "route", "del", "192.168.60.0/24", "dev", "vclient"});
}

// Addresses whose internal address is the same one. A tenant who may have one of them takes the
// other from nobody.
class SharedInternalAddressTest : public ExternalAddressesTest {
 protected:
  static constexpr const char* kOne = "203.0.113.1";
  static constexpr const char* kTwo = "207.0.113.1";
  static constexpr const char* kThree = "199.0.113.1";

  void SetUp() override {
    ASSERT_EQ(ipvs::MappedAddress(Ip(kOne)), ipvs::MappedAddress(Ip(kTwo)));
    ASSERT_EQ(ipvs::MappedAddress(Ip(kOne)), ipvs::MappedAddress(Ip(kThree)));
    ExternalAddressesTest::SetUp();
  }
  static ServicePortEntry External(const std::string& name, const char* cluster_ip, const char* ip,
                                   int created, std::vector<Backend> backends) {
    ServicePortEntry entry = MakeEntry(name, Protocol::kTcp, cluster_ip, 80, std::move(backends));
    entry.external_ips = {Ip(ip)};
    entry.created = kube::TimePoint(std::chrono::seconds(created));
    return entry;
  }
  ServicePortEntry Thief(int created) {
    return External("a-thief", kVip, kOne, created, {MakeBackend(kPodA, 8080)});
  }
  ServicePortEntry Other(int created) {
    return External("b", "10.96.0.11", kTwo, created, {MakeBackend(kPodB, 8080)});
  }
  Reply Ask(const char* ip) { return AskTcp("pod-c", ip, 80); }
  void ExpectBothServed(const SyncResult& result, const char* when) {
    EXPECT_TRUE(result.ok()) << when << Text(result);
    EXPECT_TRUE(result.warnings.empty()) << when;
    EXPECT_EQ(Ask(kOne).server, "pod-a") << when;
    EXPECT_EQ(Ask(kTwo).server, "pod-b") << when;
    ExpectVerified();
  }
};

TEST_F(SharedInternalAddressTest, BothAreServed) {
  maker_.Put(Other(1));
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  Stream stream(TestNetwork::At("pod-c"), kTwo, 80);
  ASSERT_EQ(stream.Ask().server, "pod-b");
  ExpectBothServed(dataplane_->Sync(maker_.model, maker_.Put(Thief(2))), "the second comes");
  EXPECT_EQ(dataplane_->FullSync(maker_.model).kernel_writes, 0U);
  Start();
  EXPECT_EQ(dataplane_->FullSync(maker_.model).kernel_writes, 0U) << "a restarted agent";
  // One that is older gets the place of the other, which moves.
  ExpectBothServed(dataplane_->Sync(maker_.model, maker_.Put(Thief(0))), "an older one comes");
  EXPECT_EQ(stream.Ask().server, "pod-b");
  // Their endpoints change, and where they are does not.
  ServicePortEntry thief = Thief(0);
  thief.affinity_timeout = std::chrono::seconds(100);
  ServicePortEntry other = Other(1);
  other.affinity_timeout = std::chrono::seconds(100);
  ModelDelta delta = maker_.Put(thief);
  delta.changes.push_back(maker_.Put(other).changes[0]);
  ExpectBothServed(dataplane_->Sync(maker_.model, delta), "both change");
  EXPECT_EQ(dataplane_->FullSync(maker_.model).kernel_writes, 0U);
  const std::vector<ClientBinding> bindings = dataplane_->Bindings(maker_.model);
  EXPECT_EQ(bindings.size(), 2U) << "pod-c at each of the two";
  for (const ClientBinding& binding : bindings) {
    EXPECT_EQ(binding.client, Ip(kPodC));
    EXPECT_EQ(binding.backend_ip, Ip(binding.entry->id.name == "b" ? kPodB : kPodA));
  }
  // Each is alone when the other goes.
  const SyncResult alone = dataplane_->Sync(maker_.model, maker_.Remove(thief.id));
  EXPECT_TRUE(alone.ok()) << Text(alone);
  EXPECT_EQ(Ask(kTwo).server, "pod-b");
  EXPECT_FALSE(Ask(kOne).ok());
  ExpectVerified();
  EXPECT_EQ(stream.Ask().server, "pod-b");
}

// Whatever comes in which order, and whatever the names.
TEST_F(SharedInternalAddressTest, OfThreeTheYoungestWaits) {
  const ServicePortEntry third = External("c", "10.96.0.12", kThree, 2, {MakeBackend(kPodB, 8080)});
  const auto expect_thief_waits = [&](const SyncResult& result, const char* when) {
    EXPECT_TRUE(result.ok()) << when << Text(result);
    ASSERT_EQ(result.warnings.size(), 1U) << when;
    EXPECT_EQ(result.warnings[0].service, "a-thief") << when;
    EXPECT_THAT(result.warnings[0].message, HasSubstr("203.0.113.1 is not served")) << when;
    EXPECT_THAT(result.warnings[0].message, HasSubstr("default/b:p/TCP/IPv4")) << when;
    EXPECT_THAT(result.warnings[0].message, HasSubstr("default/c:p/TCP/IPv4")) << when;
    EXPECT_EQ(Ask(kTwo).server, "pod-b") << when;
    EXPECT_EQ(Ask(kThree).server, "pod-b") << when;
    EXPECT_FALSE(Ask(kOne).ok()) << when;
    EXPECT_EQ(Ask(kVip).server, "pod-a") << when;
    ExpectVerified();
  };
  maker_.Put(Thief(3));
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_EQ(Ask(kOne).server, "pod-a");
  ExpectBothServed(dataplane_->Sync(maker_.model, maker_.Put(Other(1))), "two have room");
  expect_thief_waits(dataplane_->Sync(maker_.model, maker_.Put(third)), "the third comes");
  expect_thief_waits(dataplane_->FullSync(maker_.model), "full sync");
  ServicePortEntry other = Other(1);
  other.affinity_timeout = std::chrono::seconds(1);
  expect_thief_waits(dataplane_->Sync(maker_.model, maker_.Put(other)),
                     "one that is served changes");
  ServicePortEntry thief = Thief(3);
  thief.affinity_timeout = std::chrono::seconds(1);
  expect_thief_waits(dataplane_->Sync(maker_.model, maker_.Put(thief)),
                     "the one that waits changes");
  Start();
  expect_thief_waits(dataplane_->FullSync(maker_.model), "a restarted agent");
  // On another port it is served; and on this one, when another Service is gone.
  thief.port = 81;
  Put(thief);
  EXPECT_EQ(AskTcp("pod-c", kOne, 81).server, "pod-a");
  thief.port = 80;
  Put(thief);
  ExpectBothServed(dataplane_->Sync(maker_.model, maker_.Remove(third.id)), "there is room again");
}

// This node and its pods have internal addresses of their own there.
TEST_F(SharedInternalAddressTest, ALocalPolicyIsKeptAtEachOfThem) {
  const Backend a = MakeBackend(kPodA, 8080);
  const Backend b = MakeBackend(kPodB, 8080);
  ServicePortEntry thief = Thief(2);
  MakeLocal(thief, {a}, {a, b});
  ServicePortEntry other = Other(1);
  MakeLocal(other, {b}, {a, b});
  maker_.Put(thief);
  maker_.Put(other);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  for (const bool restarted : {false, true}) {
    for (const char* ip : {kOne, kTwo}) {
      std::set<std::string> sources;
      EXPECT_THAT(Hosts("client", ip, 80, &sources), ElementsAre(ip == kOne ? "pod-a" : "pod-b"));
      EXPECT_THAT(sources, ElementsAre(kClientIp)) << "kept";
      EXPECT_THAT(Hosts("pod-c", ip, 80), ElementsAre("pod-a", "pod-b"));
    }
    ExpectVerified();
    if (restarted) continue;
    Start();
    EXPECT_EQ(dataplane_->FullSync(maker_.model).kernel_writes, 0U);
  }
}

// Anyone who may write a Service may give it any external IP (CVE-2020-8554).
TEST_F(ExternalAddressesTest, AClusterIpStaysItsServices) {
  ServicePortEntry web = Web({MakeBackend(kPodA, 8080)});
  ServicePortEntry thief =
      MakeEntry("a-thief", Protocol::kTcp, "10.96.0.11", 80, {MakeBackend(kPodB, 8080)});
  thief.external_ips = {Ip(kVip)};
  maker_.Put(thief);
  maker_.Put(web);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  ExpectVerified();
  for (const char* host : {"pod-c", "client", ""})
    EXPECT_THAT(Hosts(host, kVip, 80), ElementsAre("pod-a")) << host;
  Put(Web({}));
  for (const char* host : {"pod-c", "client", ""})
    EXPECT_EQ(AskTcp(host, kVip, 80).error, ECONNREFUSED) << host;
  ExpectVerified();
}

}  // namespace
}  // namespace pointsman::agent

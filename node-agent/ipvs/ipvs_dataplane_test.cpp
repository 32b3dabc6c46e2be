// Real IPVS, real packets: runs in a kernel of its own (cmake/KernelTest.cmake).
#include "node-agent/ipvs/ipvs_dataplane.h"

#include <cerrno>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "node-agent/iptables/base_rules.h"
#include "node-agent/ipvs/testing/model_maker.h"
#include "node-agent/ipvs/testing/test_network.h"
#include "node-agent/netlink/ipvs.h"
#include "node-agent/sysctl/sysctl.h"

namespace pointsman::agent {
namespace {

using kube::Protocol;
using testing::Answer;
using testing::AskTcp;
using testing::AskUdp;
using testing::Ip;
using testing::MakeBackend;
using testing::MakeEntry;
using testing::ModelMaker;
using testing::RunTool;
using testing::Stream;
using testing::TestNetwork;
using testing::TryTool;

constexpr const char* kPodGateway = "10.244.0.1";
constexpr const char* kNodeIp = "192.168.50.1";
constexpr const char* kClientIp = "192.168.50.2";
constexpr const char* kVip = "10.96.0.10";
constexpr const char* kPodA = "10.244.0.2";
constexpr const char* kPodB = "10.244.0.3";
constexpr const char* kPodC = "10.244.0.4";

std::string Text(const SyncResult& result) {
  std::string text;
  for (const SyncProblem& problem : result.problems)
    text += problem.object + ": " + problem.message + "\n";
  return text;
}

std::string Text(const VerifyResult& result) {
  std::string text;
  for (const SyncProblem& problem : result.differences)
    text += problem.object + ": " + problem.message + "\n";
  return text;
}

#define EXPECT_SYNCED(expression)                           \
  do {                                                      \
    const SyncResult synced_result = (expression);          \
    EXPECT_TRUE(synced_result.ok()) << Text(synced_result); \
  } while (false)

class IpvsDataplaneTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    for (const char* module : {"ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_sh", "dummy", "ip_set",
                               "ip_set_hash_ip", "ip_set_hash_ipport", "ip_set_hash_ipportip",
                               "ip_set_hash_ipportnet", "ip_set_hash_netport", "nf_conntrack_netlink", "veth"})
      RunTool({"modprobe", module});
    network_ = std::make_unique<TestNetwork>();
    network_->AddHost("pod-a", kPodA, kPodGateway);
    network_->AddHost("pod-b", kPodB, kPodGateway);
    network_->AddHost("pod-c", kPodC, kPodGateway);
    network_->AddHost("client", kClientIp, kNodeIp);
    for (const auto& [host, ip] : {std::pair{"pod-a", kPodA}, {"pod-b", kPodB}, {"pod-c", kPodC}})
      network_->Serve(host, ip, 8080);
  }

  static void TearDownTestSuite() { network_.reset(); }

  void SetUp() override {
    settings_.mode = kube::Mode::kIpvs;
    settings_.drain_timeout = std::chrono::minutes(5);
    maker_.model.node.node_name = "node";
    maker_.model.node.node_port_addresses = {Ip(kNodeIp)};
    base_ = std::make_unique<BaseRules>(tool_, settings_.iptables.masquerade_bit);
    ASSERT_TRUE(base_->Ensure().ok());
    Start();
  }

  void TearDown() override {
    if (dataplane_ != nullptr) EXPECT_SYNCED(dataplane_->Remove());
    EXPECT_SYNCED(base_->Remove());
    network_->StopServing("");
    TryTool({"ipvsadm", "-C"});
    TryTool({"conntrack", "-F"});
  }

  // A new process takes over.
  void Start() { dataplane_ = std::make_unique<IpvsDataplane>(settings_, tool_); }

  ServicePortEntry Web(std::vector<Backend> backends) {
    ServicePortEntry entry = MakeEntry("web", Protocol::kTcp, kVip, 80, std::move(backends));
    entry.node_port = 30080;
    return entry;
  }
  ServicePortEntry Dns(std::vector<Backend> backends) {
    ServicePortEntry entry = MakeEntry("dns", Protocol::kUdp, kVip, 53, std::move(backends));
    entry.node_port = 30053;
    return entry;
  }
  void Put(const ServicePortEntry& entry) {
    const ModelDelta delta = maker_.Put(entry);
    EXPECT_SYNCED(dataplane_->Sync(maker_.model, delta));
  }
  void ExpectVerified() {
    const VerifyResult result = dataplane_->Verify(maker_.model);
    EXPECT_TRUE(result.ok()) << Text(result);
    EXPECT_GT(result.objects_checked, 0U);
  }
  // What the kernel holds of ipvs mode, as people's tools print it.
  static std::string Dump() {
    return RunTool({"ipvsadm", "-Sn"}) + RunTool({"ipset", "save", "-sorted"}) +
           RunTool({"ip", "route", "show", "table", "local", "dev", IpvsDataplane::kDevice});
  }

  kube::ProxySettings settings_;
  IptablesTool tool_{net::Family::kIPv4};
  static inline std::unique_ptr<TestNetwork> network_;
  std::unique_ptr<BaseRules> base_;
  ModelMaker maker_;
  std::unique_ptr<IpvsDataplane> dataplane_;
};

TEST_F(IpvsDataplaneTest, ClusterIpAndNodePortCarryTcpAndUdp) {
  maker_.Put(Web({MakeBackend(kPodA, 8080), MakeBackend(kPodB, 8080)}));
  maker_.Put(Dns({MakeBackend(kPodA, 8080)}));
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  ExpectVerified();

  std::set<std::string> hosts;
  for (int i = 0; i < 4; ++i) {
    const Answer answer = AskTcp(*network_, "pod-c", kVip, 80);
    EXPECT_EQ(answer.error, 0);
    EXPECT_EQ(answer.source, kPodC) << "a pod keeps its address";
    hosts.insert(answer.host);
  }
  EXPECT_THAT(hosts, ::testing::ElementsAre("pod-a", "pod-b"));
  EXPECT_EQ(AskUdp(*network_, "pod-c", kVip, 53).host, "pod-a");
  // From the node itself.
  EXPECT_TRUE(AskTcp(*network_, "", kVip, 80).ok());
  EXPECT_EQ(AskUdp(*network_, "", kVip, 53).host, "pod-a");
  // From outside, by node port: masqueraded.
  const Answer outside = AskTcp(*network_, "client", kNodeIp, 30080);
  EXPECT_EQ(outside.error, 0);
  EXPECT_EQ(outside.source, kPodGateway);
  EXPECT_EQ(AskUdp(*network_, "client", kNodeIp, 30053).host, "pod-a");
  EXPECT_TRUE(AskTcp(*network_, "", kNodeIp, 30080).ok());
}

TEST_F(IpvsDataplaneTest, NothingButServicePortsAnswersOnAVip) {
  network_->Serve("", "0.0.0.0", 22222);  // a node's own listener
  maker_.Put(Web({MakeBackend(kPodA, 8080)}));
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  for (const char* host : {"pod-c", "client", ""}) {
    EXPECT_EQ(AskTcp(*network_, host, kVip, 22222).error, ECONNREFUSED) << host;
    EXPECT_EQ(AskUdp(*network_, host, kVip, 22222).error, ECONNREFUSED) << host;
  }
  EXPECT_TRUE(AskTcp(*network_, "client", kNodeIp, 22222).ok()) << "on its own address it answers";
}

TEST_F(IpvsDataplaneTest, RefusesWithoutEndpointsAndDropsWithoutLocalOnes) {
  network_->Serve("", "0.0.0.0", 30080);  // must not answer for a Service that has no endpoints
  ServicePortEntry web = Web({});
  web.external_ips = {Ip("203.0.113.7")};
  web.load_balancer_ips = {Ip("203.0.113.8")};
  maker_.Put(web);
  maker_.Put(Dns({}));
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  ExpectVerified();
  EXPECT_EQ(AskTcp(*network_, "pod-c", kVip, 80).error, ECONNREFUSED);
  EXPECT_EQ(AskUdp(*network_, "pod-c", kVip, 53).error, ECONNREFUSED);
  EXPECT_EQ(AskTcp(*network_, "", kVip, 80).error, ECONNREFUSED);
  EXPECT_EQ(AskTcp(*network_, "client", kNodeIp, 30080).error, ECONNREFUSED);
  EXPECT_EQ(AskTcp(*network_, "client", "203.0.113.7", 80).error, ECONNREFUSED);
  EXPECT_EQ(AskTcp(*network_, "client", "203.0.113.8", 80).error, ECONNREFUSED);

  // The first endpoint opens it, by a delta; the last one's going closes it.
  web.internal.backends = web.external.backends = {MakeBackend(kPodA, 8080)};
  Put(web);
  for (const char* ip : {"203.0.113.7", "203.0.113.8", kVip})
    EXPECT_EQ(AskTcp(*network_, "client", ip, 80).host, "pod-a") << ip;
  EXPECT_EQ(AskTcp(*network_, "client", kNodeIp, 30080).host, "pod-a");
  web.internal.backends.clear();
  web.external.backends.clear();
  web.external_local = true;
  web.external.when_empty = BackendChoice::WhenEmpty::kDrop;
  Put(web);
  EXPECT_EQ(AskTcp(*network_, "pod-c", kVip, 80).error, ECONNREFUSED);
  EXPECT_EQ(AskTcp(*network_, "client", kNodeIp, 30080).error, ETIMEDOUT);
  ExpectVerified();
}

TEST_F(IpvsDataplaneTest, APodReachesItselfThroughItsService) {
  maker_.Put(Web({MakeBackend(kPodA, 8080)}));
  maker_.Put(Dns({MakeBackend(kPodA, 8080)}));
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  const Answer answer = AskTcp(*network_, "pod-a", kVip, 80);
  EXPECT_EQ(answer.error, 0);
  EXPECT_EQ(answer.host, "pod-a");
  EXPECT_EQ(answer.source, kPodGateway);
  EXPECT_EQ(AskUdp(*network_, "pod-a", kVip, 53).host, "pod-a");
}

TEST_F(IpvsDataplaneTest, MasqueradesWhatComesFromOutsideTheClusterCidr) {
  settings_.cluster_cidrs = {net::IpPrefix::Parse("10.244.0.0/16").value()};
  Start();
  maker_.Put(Web({MakeBackend(kPodA, 8080)}));
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_EQ(AskTcp(*network_, "client", kVip, 80).source, kPodGateway);
  EXPECT_EQ(AskTcp(*network_, "pod-c", kVip, 80).source, kPodC);
  settings_.iptables.masquerade_all = true;
  Start();
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_EQ(AskTcp(*network_, "pod-c", kVip, 80).source, kPodGateway);
}

TEST_F(IpvsDataplaneTest, LocalPolicyKeepsTheSourceAddress) {
  ServicePortEntry web = Web({MakeBackend(kPodA, 8080)});
  web.external_local = true;
  maker_.Put(web);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_EQ(AskTcp(*network_, "client", kNodeIp, 30080).source, kClientIp);
}

TEST_F(IpvsDataplaneTest, LoadBalancerSourceRangesAreHeldBeforeABackendIsChosen) {
  ServicePortEntry web = Web({MakeBackend(kPodA, 8080)});
  web.load_balancer_ips = {Ip("203.0.113.8")};
  web.source_ranges = {net::IpPrefix::Parse("192.168.50.2/32").value()};
  maker_.Put(web);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_EQ(AskTcp(*network_, "client", "203.0.113.8", 80).host, "pod-a");
  EXPECT_EQ(AskTcp(*network_, "pod-c", "203.0.113.8", 80).error, ETIMEDOUT);
  EXPECT_EQ(AskTcp(*network_, "", "203.0.113.8", 80).error, ETIMEDOUT);
  EXPECT_EQ(AskTcp(*network_, "pod-c", kVip, 80).host, "pod-a");
  // The node's own address is in the ranges: the node may.
  web.source_ranges = {net::IpPrefix::Parse("192.168.50.0/30").value()};
  Put(web);
  EXPECT_EQ(AskTcp(*network_, "", "203.0.113.8", 80).host, "pod-a");
  web.source_ranges = {net::IpPrefix::Parse("0.0.0.0/0").value()};
  Put(web);
  EXPECT_EQ(AskTcp(*network_, "pod-c", "203.0.113.8", 80).host, "pod-a");
  ExpectVerified();
}

TEST_F(IpvsDataplaneTest, AnExternalIpThatIsTheNodesOwnDoesNotCutTheNodeOff) {
  network_->Serve("", "0.0.0.0", 22222);
  ServicePortEntry web = Web({MakeBackend(kPodA, 8080)});
  web.external_ips = {Ip(kNodeIp)};
  maker_.Put(web);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_EQ(AskTcp(*network_, "client", kNodeIp, 80).host, "pod-a");
  EXPECT_TRUE(AskTcp(*network_, "client", kNodeIp, 22222).ok());
  ExpectVerified();
}

TEST_F(IpvsDataplaneTest, AScaleDownKeepsOpenConnections) {
  maker_.Put(Web({MakeBackend(kPodA, 8080), MakeBackend(kPodB, 8080)}));
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  Stream first(*network_, "pod-c", kVip, 80);
  Stream second(*network_, "pod-c", kVip, 80);
  const std::string on_first = first.Ask().host;
  const std::string on_second = second.Ask().host;
  ASSERT_NE(on_first, on_second);

  Put(Web({MakeBackend(on_first == "pod-a" ? kPodA : kPodB, 8080)}));
  for (int i = 0; i < 4; ++i)
    EXPECT_EQ(AskTcp(*network_, "pod-c", kVip, 80).host, on_first) << "new connections";
  EXPECT_EQ(second.Ask().host, on_second) << "the open one stays where it is";
  ExpectVerified();
  // Down to none: refused, but the open ones live; also over a restart of the agent.
  Put(Web({}));
  EXPECT_EQ(AskTcp(*network_, "pod-c", kVip, 80).error, ECONNREFUSED);
  Start();
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_TRUE(first.Ask().ok());
  EXPECT_EQ(second.Ask().host, on_second);
  ExpectVerified();
  EXPECT_EQ(dataplane_->Drain(maker_.model).connections, 2U) << RunTool({"ipvsadm", "-Lnc"});
  // The Service goes: the same.
  const ModelDelta gone = maker_.Remove(Web({}).id);
  EXPECT_SYNCED(dataplane_->Sync(maker_.model, gone));
  EXPECT_TRUE(first.Ask().ok());
  EXPECT_TRUE(second.Ask().ok());
  ExpectVerified();
}

TEST_F(IpvsDataplaneTest, ADestinationWithoutConnectionsGoesAtOnce) {
  maker_.Put(Web({MakeBackend(kPodA, 8080), MakeBackend(kPodB, 8080)}));
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  Put(Web({MakeBackend(kPodB, 8080)}));
  EXPECT_THAT(RunTool({"ipvsadm", "-Sn"}), ::testing::Not(::testing::HasSubstr("10.244.0.2")));
  const ModelDelta gone = maker_.Remove(Web({}).id);
  EXPECT_SYNCED(dataplane_->Sync(maker_.model, gone));
  EXPECT_EQ(RunTool({"ipvsadm", "-Sn"}), "");
  EXPECT_THAT(Dump(), ::testing::Not(::testing::HasSubstr("10.96.0.10")));
}

TEST_F(IpvsDataplaneTest, ADrainIsBounded) {
  settings_.drain_timeout = std::chrono::milliseconds(1);
  Start();
  maker_.Put(Web({MakeBackend(kPodA, 8080)}));
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  Stream stream(*network_, "pod-c", kVip, 80);
  ASSERT_EQ(stream.Ask().host, "pod-a");
  Put(Web({MakeBackend(kPodB, 8080)}));
  std::this_thread::sleep_for(std::chrono::milliseconds(5));  // the time-out itself
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_THAT(RunTool({"ipvsadm", "-Sn"}), ::testing::Not(::testing::HasSubstr("10.244.0.2")));
}

TEST_F(IpvsDataplaneTest, AUdpClientThatKeepsItsPortMovesToTheNewBackend) {
  maker_.Put(Dns({MakeBackend(kPodA, 8080)}));
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_EQ(AskUdp(*network_, "pod-c", kVip, 53, 5555).host, "pod-a");
  EXPECT_EQ(AskUdp(*network_, "client", kNodeIp, 30053, 5555).host, "pod-a");
  Put(Dns({MakeBackend(kPodB, 8080)}));
  // One datagram may be lost with the old entry; never more.
  Answer answer = AskUdp(*network_, "pod-c", kVip, 53, 5555);
  if (!answer.ok()) answer = AskUdp(*network_, "pod-c", kVip, 53, 5555);
  EXPECT_EQ(answer.host, "pod-b");
  answer = AskUdp(*network_, "client", kNodeIp, 30053, 5555);
  if (!answer.ok()) answer = AskUdp(*network_, "client", kNodeIp, 30053, 5555);
  EXPECT_EQ(answer.host, "pod-b");
}

TEST_F(IpvsDataplaneTest, AffinityHoldsAndLeavesAnEndpointThatIsGone) {
  ServicePortEntry web = Web({MakeBackend(kPodA, 8080), MakeBackend(kPodB, 8080)});
  web.affinity_timeout = std::chrono::seconds(100);
  maker_.Put(web);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  const std::string chosen = AskTcp(*network_, "pod-c", kVip, 80).host;
  for (int i = 0; i < 4; ++i)
    EXPECT_EQ(AskTcp(*network_, "pod-c", kVip, 80).host, chosen);
  Stream open(*network_, "pod-c", kVip, 80);
  ASSERT_EQ(open.Ask().host, chosen);
  web.internal.backends =
      web.external.backends = {MakeBackend(chosen == "pod-a" ? kPodB : kPodA, 8080)};
  Put(web);
  const Answer next = AskTcp(*network_, "pod-c", kVip, 80);
  EXPECT_TRUE(next.ok());
  EXPECT_NE(next.host, chosen);
  EXPECT_EQ(open.Ask().host, chosen);
}

TEST_F(IpvsDataplaneTest, ARestartedAgentTakesOverWithoutAWrite) {
  maker_.Put(Web({MakeBackend(kPodA, 8080), MakeBackend(kPodB, 8080)}));
  maker_.Put(Dns({MakeBackend(kPodA, 8080)}));
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  Stream stream(*network_, "pod-c", kVip, 80);
  ASSERT_TRUE(stream.Ask().ok());
  Start();
  EXPECT_TRUE(dataplane_->Present());
  const SyncResult result = dataplane_->FullSync(maker_.model);
  EXPECT_TRUE(result.ok()) << Text(result);
  EXPECT_EQ(result.kernel_writes, 0U);
  EXPECT_TRUE(stream.Ask().ok());
  ExpectVerified();
}

TEST_F(IpvsDataplaneTest, RepairsWhatOthersDamaged) {
  maker_.Put(Web({MakeBackend(kPodA, 8080), MakeBackend(kPodB, 8080)}));
  maker_.Put(Dns({MakeBackend(kPodA, 8080)}));
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  const std::string whole = Dump();
  const std::vector<std::vector<std::string>> damages{
      {"ipvsadm", "-C"},
      {"ipvsadm", "-d", "-t", "10.96.0.10:80", "-r", "10.244.0.2:8080"},
      {"ipvsadm", "-e", "-t", "10.96.0.10:80", "-r", "10.244.0.2:8080", "-m", "-w", "7"},
      {"ipvsadm", "-E", "-t", "10.96.0.10:80", "-s", "wrr"},
      {"ipset", "flush", "PM-IPVS-VIP-4"},
      {"ipset", "add", "PM-IPVS-CLUSTER-4", "10.96.0.10,tcp:22222"},
      {"ip", "link", "del", IpvsDataplane::kDevice},
      {"ip", "link", "set", IpvsDataplane::kDevice, "down"},
      {"iptables-legacy", "-F", "POINTSMAN-IPVS-INPUT"},
      {"iptables-legacy", "-t", "nat", "-F", "PREROUTING"},
  };
  for (const auto& damage : damages) {
    RunTool(damage);
    EXPECT_FALSE(dataplane_->Verify(maker_.model).ok()) << damage[0] << " " << damage[1];
    const SyncResult result = dataplane_->FullSync(maker_.model);
    EXPECT_TRUE(result.ok()) << Text(result);
    EXPECT_GT(result.kernel_writes, 0U);
    ExpectVerified();
    EXPECT_EQ(Dump(), whole) << damage[0] << " " << damage[1];
    EXPECT_TRUE(AskTcp(*network_, "pod-c", kVip, 80).ok());
  }
}

TEST_F(IpvsDataplaneTest, RemoveLeavesNothingOfOursAndAllOfOthers) {
  RunTool({"ipvsadm", "-A", "-t", "198.51.100.1:99", "-s", "rr"});
  RunTool({"ipvsadm", "-a", "-t", "198.51.100.1:99", "-r", "10.244.0.9:99", "-m"});
  RunTool({"ipset", "create", "OTHERS", "hash:ip"});
  const std::string before = RunTool({"ipvsadm", "-Sn"}) + RunTool({"ipset", "save"}) +
                             RunTool({"ip", "-4", "route", "show", "table", "0"});
  maker_.Put(Web({MakeBackend(kPodA, 8080)}));
  maker_.Put(Dns({MakeBackend(kPodA, 8080)}));
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_THAT(RunTool({"ipvsadm", "-Sn"}), ::testing::HasSubstr("198.51.100.1:99"));
  Start();  // what an earlier process left is removed too
  EXPECT_TRUE(dataplane_->Present());
  EXPECT_SYNCED(dataplane_->Remove());
  EXPECT_FALSE(dataplane_->Present());
  EXPECT_EQ(RunTool({"ipvsadm", "-Sn"}) + RunTool({"ipset", "save"}) +
                RunTool({"ip", "-4", "route", "show", "table", "0"}),
            before);
  EXPECT_THAT(RunTool({"iptables-legacy-save"}),
              ::testing::Not(::testing::HasSubstr("POINTSMAN-IPVS")));
  EXPECT_SYNCED(dataplane_->Remove());
  RunTool({"ipset", "destroy", "OTHERS"});
}

TEST_F(IpvsDataplaneTest, LeavesAForeignVirtualServerInExcludeCidrsAlone) {
  settings_.ipvs.exclude_cidrs = {net::IpPrefix::Parse("10.96.0.0/24").value()};
  Start();
  RunTool({"ipvsadm", "-A", "-t", "10.96.0.10:80", "-s", "wrr"});
  maker_.Put(Web({MakeBackend(kPodA, 8080)}));
  const SyncResult result = dataplane_->FullSync(maker_.model);
  ASSERT_EQ(result.problems.size(), 1U) << Text(result);
  EXPECT_THAT(result.problems[0].message, ::testing::HasSubstr("excludeCIDRs"));
  EXPECT_THAT(RunTool({"ipvsadm", "-Sn"}), ::testing::HasSubstr("-A -t 10.96.0.10:80 -s wrr"));
}

TEST_F(IpvsDataplaneTest, ARefusalNamesTheServiceAndTheReason) {
  ServicePortEntry web = Web({MakeBackend(kPodA, 8080)});
  web.ipvs_scheduler = "nosuch";
  web.node_port = 0;
  maker_.Put(web);
  maker_.Put(Dns({MakeBackend(kPodA, 8080)}));
  const SyncResult result = dataplane_->FullSync(maker_.model);
  ASSERT_EQ(result.problems.size(), 1U) << Text(result);
  EXPECT_THAT(result.problems[0].object, ::testing::HasSubstr("default/web"));
  EXPECT_THAT(result.problems[0].message, ::testing::HasSubstr("scheduler"));
  EXPECT_TRUE(AskUdp(*network_, "pod-c", kVip, 53).ok()) << "the others are served";
}

TEST_F(IpvsDataplaneTest, TakesNewConnectionsFromRulesOfOthersAndLeavesThemTheirOld) {
  // What kube-proxy leaves behind, or still writes: an open connection that conntrack carries, and
  // rules at the top.
  RunTool({"iptables-legacy", "-t", "nat", "-N", "KUBE-SERVICES"});
  RunTool({"iptables-legacy", "-t", "nat", "-A", "KUBE-SERVICES", "-p", "tcp", "-d", kVip,
           "--dport", "80", "-j", "DNAT", "--to-destination", "10.244.0.2:8080"});
  for (const char* chain : {"PREROUTING", "OUTPUT"})
    RunTool({"iptables-legacy", "-t", "nat", "-I", chain, "-j", "KUBE-SERVICES"});
  Stream old(*network_, "pod-c", kVip, 80);
  ASSERT_EQ(old.Ask().host, "pod-a");
  maker_.Put(Web({MakeBackend(kPodB, 8080)}));
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_EQ(old.Ask().host, "pod-a");
  EXPECT_EQ(AskTcp(*network_, "pod-c", kVip, 80).host, "pod-b") << "IPVS has the new ones";
  EXPECT_EQ(AskTcp(*network_, "", kVip, 80).host, "pod-b") << "also the node's own";
  // kube-proxy puts itself to the top again when it makes its jumps anew.
  for (const char* chain : {"PREROUTING", "OUTPUT"}) {
    RunTool({"iptables-legacy", "-t", "nat", "-D", chain, "-j", "KUBE-SERVICES"});
    RunTool({"iptables-legacy", "-t", "nat", "-I", chain, "-j", "KUBE-SERVICES"});
  }
  EXPECT_FALSE(dataplane_->Verify(maker_.model).ok());
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  ExpectVerified();
  EXPECT_EQ(AskTcp(*network_, "pod-c", kVip, 80).host, "pod-b");
  EXPECT_EQ(old.Ask().host, "pod-a");

  // And back: when IPVS drains, the rules have the new connections.
  Stream newer(*network_, "pod-c", kVip, 80);
  ASSERT_EQ(newer.Ask().host, "pod-b");
  EXPECT_EQ(dataplane_->Drain(maker_.model).connections, 1U) << RunTool({"ipvsadm", "-Lnc"});
  EXPECT_EQ(AskTcp(*network_, "pod-c", kVip, 80).host, "pod-a");
  EXPECT_EQ(AskTcp(*network_, "", kVip, 80).host, "pod-a");
  EXPECT_EQ(newer.Ask().host, "pod-b");
  EXPECT_EQ(old.Ask().host, "pod-a");
  for (const char* chain : {"PREROUTING", "OUTPUT"})
    RunTool({"iptables-legacy", "-t", "nat", "-D", chain, "-j", "KUBE-SERVICES"});
  RunTool({"iptables-legacy", "-t", "nat", "-F", "KUBE-SERVICES"});
  RunTool({"iptables-legacy", "-t", "nat", "-X", "KUBE-SERVICES"});
}

TEST_F(IpvsDataplaneTest, StrictArpAndTimeoutsAreSetAndStrictArpIsUndone) {
  RunTool({"ip", "addr", "add", "192.168.51.1/24", "dev", "vclient"});
  settings_.ipvs.strict_arp = true;
  settings_.ipvs.tcp_timeout = std::chrono::seconds(901);
  settings_.ipvs.udp_timeout = std::chrono::seconds(302);
  Start();
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  auto read = [](const char* name) { return ReadSysctl(name).value_or("none"); };
  EXPECT_EQ(read("net.ipv4.conf.vclient.arp_ignore"), "1");
  EXPECT_EQ(read("net.ipv4.conf.vclient.arp_announce"), "2");
  EXPECT_EQ(read("net.ipv4.conf.vpod-a.arp_ignore"), "0") << "not what pods hang on";
  EXPECT_EQ(read("net.ipv4.conf.all.arp_ignore"), "0");
  EXPECT_EQ(read("net.ipv4.vs.conntrack"), "1");
  EXPECT_EQ(read("net.ipv4.vs.conn_reuse_mode"), "1");
  EXPECT_THAT(RunTool({"ipvsadm", "-L", "--timeout"}), ::testing::HasSubstr("901 120 302"));
  EXPECT_SYNCED(dataplane_->Remove());
  EXPECT_EQ(read("net.ipv4.conf.vclient.arp_ignore"), "0");
  EXPECT_EQ(read("net.ipv4.conf.vclient.arp_announce"), "0");
  RunTool({"ip", "addr", "del", "192.168.51.1/24", "dev", "vclient"});
}

TEST_F(IpvsDataplaneTest, StrictArpOfAnEarlierProcessIsUndoneByOneThatKnowsNoSettings) {
  RunTool({"ip", "addr", "add", "192.168.51.1/24", "dev", "vclient"});
  const auto arp_ignore = [] {
    return ReadSysctl("net.ipv4.conf.vclient.arp_ignore").value_or("none");
  };
  const auto run_strict = [&] {
    settings_.ipvs.strict_arp = true;
    Start();
    EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
    EXPECT_EQ(arp_ignore(), "1");
    settings_.ipvs.strict_arp = false;
    Start();
  };
  run_strict();
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_EQ(arp_ignore(), "0") << "switched off";
  run_strict();
  EXPECT_SYNCED(dataplane_->Remove());
  EXPECT_EQ(arp_ignore(), "0") << "removed, as by --cleanup";
  // What others set so is theirs.
  EXPECT_TRUE(WriteSysctl("net.ipv4.conf.vclient.arp_ignore", "1").ok());
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  EXPECT_SYNCED(dataplane_->Remove());
  EXPECT_EQ(arp_ignore(), "1");
  EXPECT_TRUE(WriteSysctl("net.ipv4.conf.vclient.arp_ignore", "0").ok());
  RunTool({"ip", "addr", "del", "192.168.51.1/24", "dev", "vclient"});
}

TEST_F(IpvsDataplaneTest, IncrementalEqualsFull) {
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  const auto seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  auto pick = [&](int below) { return static_cast<int>(random() % static_cast<unsigned>(below)); };
  for (int step = 0; step < 150; ++step) {
    // Few addresses, so that Services meet on them.
    ModelDelta delta;
    const int changes = 1 + pick(3);
    for (int i = 0; i < changes; ++i) {
      const int n = pick(6);
      std::vector<Backend> backends;
      for (int b = 0; b < 5; ++b) {
        if (pick(3) == 0) continue;
        backends.push_back(MakeBackend("10.244.9." + std::to_string(b + 1), 80, b % 2 == 0));
      }
      if (pick(5) == 0) backends.clear();
      ServicePortEntry entry =
          MakeEntry("s" + std::to_string(n), pick(3) == 0 ? Protocol::kUdp : Protocol::kTcp,
                    "10.96.1." + std::to_string(n % 4 + 1), static_cast<uint16_t>(80 + n),
                    std::move(backends));
      if (pick(2) == 0) entry.node_port = static_cast<uint16_t>(31000 + n);
      if (pick(3) == 0) entry.external_ips = {Ip("203.0.113." + std::to_string(pick(3) + 1))};
      if (pick(3) == 0) entry.load_balancer_ips = {Ip("203.0.113." + std::to_string(pick(3) + 1))};
      if (pick(3) == 0) entry.port = 80;
      if (pick(4) == 0) entry.source_ranges = {net::IpPrefix::Parse("10.0.0.0/8").value()};
      if (pick(4) == 0) entry.affinity_timeout = std::chrono::seconds(pick(2) + 100);
      if (pick(3) == 0) {
        entry.external_local = true;
        entry.external.when_empty = BackendChoice::WhenEmpty::kDrop;
        std::erase_if(entry.external.backends, [](const Backend& b) { return !b.local; });
      }
      const ModelDelta one = pick(4) == 0 ? maker_.Remove(entry.id) : maker_.Put(entry);
      // One delta has each Service port once.
      for (const EntryChange& change : one.changes) {
        const auto& id = (change.after ? change.after : change.before)->id;
        const auto same = std::find_if(
            delta.changes.begin(), delta.changes.end(),
            [&](const EntryChange& c) { return (c.after ? c.after : c.before)->id == id; });
        if (same == delta.changes.end()) {
          delta.changes.push_back(change);
          continue;
        }
        same->after = change.after;
        if (!same->before && !same->after) delta.changes.erase(same);  // came and went
      }
    }
    const SyncResult result = dataplane_->Sync(maker_.model, delta);
    ASSERT_TRUE(result.ok()) << "step " << step << "\n" << Text(result);
    if (step % 5 != 4) continue;
    const VerifyResult verified = dataplane_->Verify(maker_.model);
    ASSERT_TRUE(verified.ok()) << "step " << step << "\n" << Text(verified);
    const std::string incremental = Dump();
    IpvsDataplane another(settings_, tool_);
    const SyncResult full = another.FullSync(maker_.model);
    ASSERT_TRUE(full.ok()) << Text(full);
    ASSERT_EQ(full.kernel_writes, 0U) << "step " << step;
    ASSERT_EQ(Dump(), incremental) << "step " << step;
  }
  const ServiceModel empty{{}, maker_.model.node, 0, 0};
  EXPECT_SYNCED(dataplane_->FullSync(empty));
  EXPECT_EQ(RunTool({"ipvsadm", "-Sn"}), "");
  EXPECT_THAT(Dump(), ::testing::Not(::testing::HasSubstr("add PM-IPVS")));
}

}  // namespace
}  // namespace pointsman::agent

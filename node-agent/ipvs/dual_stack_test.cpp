// The main cases in both families, on one dataplane that serves both.
#include "node-agent/ipvs/internal_addresses.h"
#include "node-agent/ipvs/testing/dual_stack_node.h"

namespace pointsman::agent {
namespace {

using ::testing::ElementsAre;

struct Addresses {
  net::Family family;
  const char* pod_gateway;
  const char* node;
  const char* client;
  const char* vip;
  const char* pod_a;
  const char* pod_b;
  const char* pod_c;
  const char* load_balancer;
  const char* loopback;
  const char* any;
};
constexpr Addresses kV4{
    net::Family::kIPv4, kPodGateway, kNodeIp,  kClientIp, kVip, kPodA, kPodB, kPodC,
    "203.0.113.8",      "127.0.0.1", "0.0.0.0"};
constexpr Addresses kV6{net::Family::kIPv6,
                        "fd00:10:244::1",
                        "fd00:50::1",
                        "fd00:50::2",
                        "fd00:10:96::10",
                        "fd00:10:244::2",
                        "fd00:10:244::3",
                        "fd00:10:244::4",
                        "2001:db8::8",
                        "::1",
                        "::"};

class DualStackTest : public ::testing::TestWithParam<const Addresses*>, protected DualStackNode {
 protected:
  static void SetUpTestSuite() {
    LoadModules();
    for (const char* module : {"ip_vs", "ip_vs_rr", "sctp"})
      RunTool({"modprobe", module});
    network_ = std::make_unique<TestNetwork>();
    for (const auto& [host, v4, v6] : {std::tuple{"pod-a", kV4.pod_a, kV6.pod_a},
                                       {"pod-b", kV4.pod_b, kV6.pod_b},
                                       {"pod-c", kV4.pod_c, kV6.pod_c},
                                       {"client", kV4.client, kV6.client}}) {
      const bool client = host == std::string("client");
      network_->AddHost(host, v4, client ? kV4.node : kV4.pod_gateway);
      network_->AddAddress(host, v6, client ? kV6.node : kV6.pod_gateway);
      if (client) continue;
      network_->Serve(host, v4, 8080);
      network_->Serve(host, v6, 8080);
    }
    for (const auto& [prefix, via] :
         {std::pair{"203.0.113.0/24", kV4.client}, {"2001:db8::/64", kV6.client}})
      RunTool({"ip", "route", "add", prefix, "via", via});
  }
  static void TearDownTestSuite() { network_.reset(); }

  void SetUp() override {
    settings_.drain_timeout = std::chrono::minutes(5);
    SetUpNode(Ip(kV4.node), Ip(kV6.node));
  }
  void TearDown() override {
    TearDownNode();
    network_->StopServing("");
    network_->StopServing("client");
  }
  ServicePortEntry Web(std::vector<Backend> backends, Protocol protocol = Protocol::kTcp) {
    ServicePortEntry entry = MakeEntry(protocol == Protocol::kTcp ? "web" : "dns", protocol,
                                       at_.vip, 80, std::move(backends));
    entry.node_port = 30080;
    entry.load_balancer_ips = {Ip(at_.load_balancer)};
    return entry;
  }
  void Apply(const ModelDelta& delta) {
    EXPECT_SYNCED(dataplane_->Sync(maker_.model, delta));
    EXPECT_SYNCED(StaleFlows().Clean(maker_.model, delta).sync);
  }
  void ExpectVerified() {
    const VerifyResult result = dataplane_->Verify(maker_.model);
    EXPECT_TRUE(result.ok()) << Text(result);
  }
  std::set<std::string> Hosts(const std::string& host, const char* ip, uint16_t port,
                              std::set<std::string>* sources = nullptr) {
    return HostsThatAnswer(host, ip, port, sources);
  }

  const Addresses& at_ = *GetParam();
  static inline std::unique_ptr<TestNetwork> network_;
};

TEST_P(DualStackTest, Sctp) {
  // CONFIG_IP_VS_PROTO_SCTP is a kernel's choice.
  if (TryTool({"ipvsadm", "-A", "--sctp-service", "192.0.2.1:1", "-s", "rr"}) != 0)
    GTEST_SKIP() << "this kernel's IPVS has no SCTP";
  RunTool({"ipvsadm", "-D", "--sctp-service", "192.0.2.1:1"});
  for (const auto& [host, ip] : {std::pair{"pod-a", at_.pod_a}, {"pod-b", at_.pod_b}})
    network_->ServeSctp(host, ip, 9090);
  maker_.Put(Web({MakeBackend(at_.pod_a, 9090)}, Protocol::kSctp));
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  ExpectVerified();
  const auto ask = [&](const char* host, const char* ip, uint16_t port) {
    Stream stream(TestNetwork::At(host), ip, port,
                  {.transport = testing::Transport::kSctp, .timeout = std::chrono::seconds(5)});
    return stream.Ask();
  };
  EXPECT_EQ(ask("pod-c", at_.vip, 80).server, "pod-a");
  EXPECT_EQ(ask("client", at_.node, 30080).server, "pod-a");
  EXPECT_EQ(ask("client", at_.load_balancer, 80).server, "pod-a");
  EXPECT_EQ(ask("", at_.vip, 80).server, "pod-a");
  Apply(maker_.Put(Web({MakeBackend(at_.pod_b, 9090)}, Protocol::kSctp)));
  EXPECT_EQ(ask("pod-c", at_.vip, 80).server, "pod-b");
  EXPECT_EQ(ask("client", at_.node, 30080).server, "pod-b");
}

TEST_P(DualStackTest, K72236NothingButServicePortsAnswersOnAVip) {
  network_->Serve("", at_.any, 22222);
  maker_.Put(Web({MakeBackend(at_.pod_a, 8080)}));
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  for (const char* host : {"pod-c", "client", ""}) {
    EXPECT_EQ(AskTcp(host, at_.vip, 22222).error, ECONNREFUSED) << host;
    EXPECT_EQ(AskUdp(host, at_.vip, 22222).error, ECONNREFUSED) << host;
    // Not this node's, whoever has it.
    EXPECT_FALSE(AskTcp(host, at_.load_balancer, 22222).ok()) << host;
    EXPECT_FALSE(AskUdp(host, at_.load_balancer, 22222).ok()) << host;
  }
  EXPECT_TRUE(AskTcp("client", at_.node, 22222).ok());
  for (const net::IpAddress& ip :
       {ipvs::NodePortAddress(at_.family), ipvs::NearNodePortAddress(at_.family)})
    EXPECT_FALSE(AskTcp("client", ip.ToString(), 30080).ok());
  EXPECT_FALSE(AskTcp("client", ipvs::MappedAddress(Ip(at_.load_balancer)).ToString(), 80).ok());
}

TEST_P(DualStackTest, K66966K114815AnotherMachinesAddressIsNotBound) {
  network_->Serve("client", at_.any, 22222);
  for (const uint16_t node_port : {30080, 0}) {
    for (const bool local : {false, true}) {
      SCOPED_TRACE(std::to_string(node_port) + (local ? " Local" : " Cluster"));
      const std::vector<Backend> all{MakeBackend(at_.pod_a, 8080), MakeBackend(at_.pod_b, 8080)};
      for (const Protocol protocol : {Protocol::kTcp, Protocol::kUdp}) {
        ServicePortEntry web = Web(all, protocol);
        web.load_balancer_ips.clear();
        web.external_ips = {Ip(at_.client)};
        web.node_port = node_port;
        if (local) MakeLocal(web, {}, all);
        Apply(maker_.Put(web));
      }
      ExpectVerified();
      for (const char* host : {"pod-c", ""}) {
        EXPECT_THAT(Hosts(host, at_.client, 80), ElementsAre("pod-a", "pod-b")) << host;
        EXPECT_TRUE(AskUdp(host, at_.client, 80).server.starts_with("pod-")) << host;
        EXPECT_EQ(AskTcp(host, at_.client, 22222).server, "client") << host;
        EXPECT_EQ(AskUdp(host, at_.client, 22222).server, "client") << host;
      }
    }
  }
  for (const Protocol protocol : {Protocol::kTcp, Protocol::kUdp}) {
    ServicePortEntry web = Web({}, protocol);
    web.load_balancer_ips.clear();
    web.external_ips = {Ip(at_.client)};
    Apply(maker_.Put(web));
  }
  for (const char* host : {"pod-c", ""}) {
    EXPECT_EQ(AskTcp(host, at_.client, 80).error, ECONNREFUSED) << host;
    EXPECT_EQ(AskUdp(host, at_.client, 80).error, ECONNREFUSED) << host;
  }
  ExpectVerified();
}

INSTANTIATE_TEST_SUITE_P(Family, DualStackTest, ::testing::Values(&kV4, &kV6),
                         [](const ::testing::TestParamInfo<const Addresses*>& family) {
                           return family.param == &kV4 ? "IPv4" : "IPv6";
                         });

}  // namespace
}  // namespace pointsman::agent

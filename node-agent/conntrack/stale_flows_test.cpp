// Real conntrack entries of real datagrams, in a kernel of its own.
#include "node-agent/conntrack/stale_flows.h"

#include <netinet/in.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "node-agent/testing/model_maker.h"
#include "node-agent/testing/run_tool.h"
#include "node-agent/testing/test_network.h"

namespace pointsman::agent {
namespace {

using testing::AskUdp;
using testing::Ip;
using testing::MakeBackend;
using testing::MakeEntry;
using testing::ModelMaker;
using testing::RunTool;
using testing::Stream;
using testing::TestNetwork;
using testing::TryTool;

constexpr const char* kVip = "10.96.0.10";

class StaleFlowsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    RunTool({"modprobe", "nf_conntrack_netlink"});
    RunTool({"sysctl", "-qw", "net.ipv4.ip_forward=1"});
    network_.AddHost("pod-a", "10.244.0.2", "10.244.0.1");
    network_.AddHost("pod-b", "10.244.0.3", "10.244.0.1");
    network_.AddHost("client", "192.168.50.2", "192.168.50.1");
    network_.Serve("pod-a", "10.244.0.2", 8080);
    network_.Serve("pod-b", "10.244.0.3", 8080);
  }
  static void Nat(const char* operation, const char* backend) {
    RunTool({"iptables-legacy", "-t", "nat", operation, "PREROUTING", "-p", "udp", "-d", kVip,
             "--dport", "53", "-j", "DNAT", "--to-destination", backend});
  }
  static ServicePortEntry Dns(std::vector<Backend> backends) {
    return MakeEntry("dns", kube::Protocol::kUdp, kVip, 53, std::move(backends));
  }
  TestNetwork network_;
  ModelMaker maker_;
  StaleFlows stale_;
};

TEST_F(StaleFlowsTest, AClientThatKeepsItsPortReachesTheNewBackendAtOnce) {
  maker_.Put(Dns({MakeBackend("10.244.0.2", 8080)}));
  Nat("-A", "10.244.0.2:8080");
  ASSERT_EQ(AskUdp("client", kVip, 53, 5555).server, "pod-a");
  Nat("-D", "10.244.0.2:8080");
  Nat("-A", "10.244.0.3:8080");
  EXPECT_EQ(AskUdp("client", kVip, 53, 5555).server, "pod-a") << "what the kernel does";

  const ModelDelta delta = maker_.Put(Dns({MakeBackend("10.244.0.3", 8080)}));
  const StaleFlows::Result result = stale_.Clean(maker_.model, delta);
  EXPECT_TRUE(result.sync.ok());
  EXPECT_EQ(result.sync.kernel_writes, 1U);
  EXPECT_EQ(AskUdp("client", kVip, 53, 5555).server, "pod-b");
  // What is right stays.
  EXPECT_EQ(stale_.CleanAll(maker_.model).sync.kernel_writes, 0U);
  // A backend that went while nobody could look is found without a delta.
  Nat("-D", "10.244.0.3:8080");
  Nat("-A", "10.244.0.2:8080");
  maker_.Put(Dns({MakeBackend("10.244.0.2", 8080)}));
  EXPECT_EQ(stale_.CleanAll(maker_.model).sync.kernel_writes, 1U);
  EXPECT_EQ(AskUdp("client", kVip, 53, 5555).server, "pod-a");
  Nat("-D", "10.244.0.2:8080");
}

TEST_F(StaleFlowsTest, AFlowThatBeganBeforeTheServiceHadAnEndpointIsForgotten) {
  const ModelDelta none = maker_.Put(Dns({}));
  EXPECT_FALSE(AskUdp("client", kVip, 53, 5556).ok());
  const ModelDelta delta = maker_.Put(Dns({MakeBackend("10.244.0.2", 8080)}));
  Nat("-A", "10.244.0.2:8080");
  const StaleFlows::Result result = stale_.Clean(maker_.model, delta);
  EXPECT_TRUE(result.sync.ok());
  EXPECT_EQ(AskUdp("client", kVip, 53, 5556).server, "pod-a");
  Nat("-D", "10.244.0.2:8080");
}

TEST_F(StaleFlowsTest, LooksAtNothingWhenOnlyABackendCame) {
  maker_.Put(Dns({MakeBackend("10.244.0.2", 8080)}));
  const ModelDelta delta =
      maker_.Put(Dns({MakeBackend("10.244.0.2", 8080), MakeBackend("10.244.0.3", 8080)}));
  EXPECT_EQ(stale_.Clean(maker_.model, delta).looked_at, 0U);
  const ModelDelta tcp = maker_.Put(MakeEntry("web", kube::Protocol::kTcp, kVip, 80, {}));
  EXPECT_EQ(stale_.Clean(maker_.model, tcp).looked_at, 0U);
}

TEST_F(StaleFlowsTest, AnSctpAssociationOutlivesTheGracefulTerminationOfItsEndpoint) {
  if (TryTool({"modprobe", "sctp"}) != 0) GTEST_SKIP() << "this kernel has no SCTP";
  network_.ServeSctp("pod-a", "10.244.0.2", 9090);
  const auto sctp = [](std::vector<Backend> backends) {
    return MakeEntry("sig", kube::Protocol::kSctp, kVip, 53, std::move(backends));
  };
  maker_.Put(sctp({MakeBackend("10.244.0.2", 9090)}));
  const auto nat = [](const char* operation, const char* backend) {
    RunTool({"iptables-legacy", "-t", "nat", operation, "PREROUTING", "-p", "sctp", "-d", kVip,
             "--dport", "53", "-j", "DNAT", "--to-destination", backend});
  };
  nat("-A", "10.244.0.2:9090");
  Stream stream(TestNetwork::At("client"), kVip, 53,
                {.transport = testing::Transport::kSctp, .timeout = std::chrono::seconds(5)});
  ASSERT_TRUE(stream.connected());
  ASSERT_EQ(stream.Ask().server, "pod-a");
  // The endpoint is terminating: no new associations, and those that are there stay.
  nat("-A", "10.244.0.3:9090");
  nat("-D", "10.244.0.2:9090");
  ServicePortEntry entry = sctp({MakeBackend("10.244.0.3", 9090)});
  entry.draining = {MakeBackend("10.244.0.2", 9090)};
  const ModelDelta delta = maker_.Put(entry);
  EXPECT_EQ(stale_.Clean(maker_.model, delta).sync.kernel_writes, 0U);
  EXPECT_EQ(stale_.CleanAll(maker_.model).sync.kernel_writes, 0U);
  // Without its entry the association would be one from the pod's own address to nobody.
  EXPECT_EQ(stream.Ask().server, "pod-a");
  nat("-D", "10.244.0.3:9090");
}

}  // namespace
}  // namespace pointsman::agent

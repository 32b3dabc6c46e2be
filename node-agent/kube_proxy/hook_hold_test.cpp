// A stock kube-proxy in nftables mode is stopped and starts anew in that or another mode, which
// begins with the removal of its table: what is open goes on.
#include "node-agent/kube_proxy/hook_hold.h"

#include <chrono>
#include <optional>

#include <gmock/gmock.h>

#include "node-agent/netlink/nft_probe.h"
#include "node-agent/testing/clients.h"
#include "node-agent/testing/fresh_mounts.h"
#include "node-agent/testing/fresh_netns.h"
#include "node-agent/testing/neighbours/kube_proxy.h"
#include "node-agent/testing/run_tool.h"
#include "node-agent/testing/test_network.h"

namespace pointsman::agent::kube_proxy {
namespace {

using testing::RunTool;
using testing::Stream;
using testing::TestNetwork;

constexpr const char* kVip = "10.96.0.10";

class HookHoldTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!EnterFreshNetns()) GTEST_SKIP() << "needs root to make a network namespace";
    testing::EnterFreshMounts({"/run"});  // where the names of namespaces are
    network_.emplace();
    network_->AddHost("client", "10.244.1.2", "10.244.1.1");
    network_->AddHost("server", "10.244.2.2", "10.244.2.1");
    network_->Serve("server", "10.244.2.2", 8080);
    RunTool({"sysctl", "-qw", "net.ipv4.ip_forward=1"});
    if (!netlink::KernelHasNftNat(net::Family::kIPv4)) GTEST_SKIP() << "needs nf_tables with NAT";
    MakeKubeProxy();
    stream_.emplace(TestNetwork::At("client"), kVip, 80,
                    testing::Attempt{.timeout = std::chrono::seconds(20)});
    ASSERT_TRUE(stream_->Ask().ok());
  }
  static void MakeKubeProxy() {
    testing::MakeKubeProxyNftables({.cluster_ip = kVip,
                                    .port = 80,
                                    .endpoints = {"10.244.2.2:8080"},
                                    .node_ip = "192.168.50.1",
                                    .node_port = 30080,
                                    .cluster_cidr = "10.244.0.0/16"});
  }
  std::optional<TestNetwork> network_;
  std::optional<Stream> stream_;
};

TEST_F(HookHoldTest, WhatIsOpenGoesOnWithoutAnyRule) {
  HoldHooks("");
  HoldHooks("");  // by the next agent, perhaps
  RunTool({"nft", "delete table ip kube-proxy"});
  EXPECT_TRUE(stream_->Ask().ok()) << "nobody has rules now";
  MakeKubeProxy();
  EXPECT_TRUE(ReleaseHooks(""));
  EXPECT_FALSE(ReleaseHooks(""));
  EXPECT_TRUE(stream_->Ask().ok());
  EXPECT_EQ(RunTool({"nft", "list tables"}), "table ip kube-proxy\n");
}

// That there is something to hold.
TEST_F(HookHoldTest, WithoutItNothingIsTranslated) {
  Stream impatient(TestNetwork::At("client"), kVip, 80,
                   testing::Attempt{.timeout = std::chrono::seconds(1)});
  ASSERT_TRUE(impatient.Ask().ok());
  RunTool({"nft", "delete table ip kube-proxy"});
  EXPECT_FALSE(impatient.Ask().ok());
}

}  // namespace
}  // namespace pointsman::agent::kube_proxy

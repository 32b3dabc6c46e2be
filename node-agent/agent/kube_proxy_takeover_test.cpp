// A node is taken over from kube-proxy, with the kernel's own rules and real clients: our mode
// beside kube-proxy's, then kube-proxy is gone, then what it left is removed. No connection fails,
// and what is open goes on.
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "kube/testing/eventually.h"
#include "node-agent/agent/kernel_environment.h"
#include "node-agent/agent/kube_proxy_removal.h"
#include "node-agent/dataplane/sync_problems.h"
#include "node-agent/handover/mode_controller.h"
#include "node-agent/testing/client_network.h"
#include "node-agent/testing/neighbours/kube_proxy.h"
#include "node-agent/testing/neighbours/proxies.h"
#include "node-agent/testing/steady_clients.h"

namespace pointsman::agent {
namespace {

using kube::Mode;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::RunTool;
using testing::SteadyClient;
using testing::Stream;
using testing::TryTool;

enum class From : uint8_t { kIptablesLegacy, kIptablesNft, kIpvs, kNftables };

struct Takeover {
  From from;
  Mode to;
};

std::string Name(const Takeover& takeover) {
  const std::string to(kube::ToString(takeover.to));
  switch (takeover.from) {
    case From::kIptablesLegacy:
      return "iptables_legacy_to_" + to;
    case From::kIptablesNft:
      return "iptables_nft_to_" + to;
    case From::kIpvs:
      return "ipvs_to_" + to;
    default:
      return "nftables_to_" + to;
  }
}

class KubeProxyTakeoverTest : public testing::ClientNetworkTest,
                              public ::testing::WithParamInterface<Takeover> {
 protected:
  void SetUp() override {
    ClientNetworkTest::SetUp();
    if (IsSkipped()) return;
    // There are enough clients here, and each handover is one from nothing.
    environment_.emplace("", "", "", "text",
                         ClientTraffic::Windows{.before = std::chrono::milliseconds(0)});
    controller_.emplace(*environment_);
    if (!environment_->Preflight(GetParam().to, {}, true).passed)
      GTEST_SKIP() << "this kernel cannot run the mode";
    if (const std::string why = MakeKubeProxy(); !why.empty()) GTEST_SKIP() << why;
    RunTool({"ip", "route", "add", "10.96.0.0/16", "via", "192.168.77.2"});
  }
  void TearDown() override {
    clients_.clear();
    if (controller_) {
      EXPECT_THAT(controller_->RemoveAll(), IsEmpty());
    }
    ClientNetworkTest::TearDown();
  }

  // "": done; else why this kernel cannot have it.
  std::string MakeKubeProxy() {
    const testing::ProxiedService service{.cluster_ip = kWeb.ip.ToString(),
                                          .port = kWeb.port,
                                          .endpoints = {"10.244.4.2:8080", "10.244.5.2:8080"},
                                          .node_ip = kNodePort.ip.ToString(),
                                          .node_port = kNodePort.port,
                                          .cluster_cidr = "10.244.0.0/16"};
    switch (GetParam().from) {
      case From::kIpvs:
        if (TryTool({"ipvsadm", "-Ln"}) != 0) return "needs IPVS";
        for (const char* module : {"ip_vs_rr", "dummy", "ip_set_hash_ip", "ip_set_hash_ipport",
                                   "ip_set_hash_ipportip", "ip_set_bitmap_port"})
          TryTool({"modprobe", module});
        MakeKubeProxyIpvs(service);
        return "";
      case From::kNftables:
        if (!environment_->Preflight(Mode::kNftables, {}, true).passed) return "needs nftables";
        MakeKubeProxyNftables(service);
        return "";
      default:
        break;
    }
    const char* variant = GetParam().from == From::kIptablesNft ? "nft" : "legacy";
    try {
      xtables::IptablesTool tool(net::Family::kIPv4, variant);
      testing::KubeProxy(service.cluster_ip, service.port, service.endpoints.front()).Sync(tool);
      return "";
    } catch (const std::runtime_error& error) {
      return error.what();
    }
  }
  void Apply() {
    kube::ProxySettings settings;
    settings.mode = GetParam().to;
    settings.fallback_modes.clear();
    settings.cluster_cidrs = {net::IpPrefix::Parse("10.244.0.0/16").value()};
    controller_->Apply(settings, maker_.model);
    ASSERT_EQ(controller_->state().active, GetParam().to)
        << Describe(controller_->state().problems);
    ASSERT_FALSE(controller_->state().failed) << Describe(controller_->state().problems);
  }
  void ExpectMoreOfEach() {
    for (const auto& client : clients_) {
      const uint64_t opened = client->opened();
      EXPECT_TRUE(Await([&] { return client->opened() >= opened + 10; }));
    }
  }
  void ExpectNothingLeft() {
    EXPECT_THAT(RunTool({"iptables-legacy-save"}), Not(HasSubstr("KUBE-SERVICES")));
    if (GetParam().from == From::kIptablesNft) {
      EXPECT_THAT(RunTool({"iptables-nft-save"}), Not(HasSubstr("KUBE-SERVICES")));
    }
    if (GetParam().from == From::kNftables) {
      EXPECT_NE(TryTool({"nft", "list table ip kube-proxy"}), 0);
    }
    EXPECT_NE(TryTool({"ip", "link", "show", "kube-ipvs0"}), 0);
  }

  std::optional<KernelEnvironment> environment_;
  std::optional<ModeController> controller_;
  std::vector<std::unique_ptr<SteadyClient>> clients_;
};

TEST_P(KubeProxyTakeoverTest, NoConnectionFailsAndWhatIsOpenGoesOn) {
  for (const char* host : {"pod1", "pod2", ""})
    clients_.push_back(std::make_unique<SteadyClient>(host, kWeb));
  if (GetParam().from == From::kIpvs || GetParam().from == From::kNftables)
    clients_.push_back(std::make_unique<SteadyClient>("outside", kNodePort));
  ExpectMoreOfEach();
  auto open =
      std::make_unique<Stream>(testing::TestNetwork::At("pod3"), kWeb.ip.ToString(), kWeb.port,
                               testing::Attempt{.timeout = std::chrono::seconds(20)});
  ASSERT_TRUE(open->Ask().ok());

  Apply();
  ExpectMoreOfEach();
  EXPECT_TRUE(open->Ask().ok());

  // kube-proxy is gone; its rules are there. In ipvs mode the connection is waited for.
  KubeProxyRemoval removal(ThisKernel("", [] { return std::string(); }));
  const auto look = [&](std::chrono::seconds later = std::chrono::seconds(0)) {
    // IPVS may go on counting: the answer to a client's later connection, which is ours and has the
    // port of an earlier one, is a connection of its own again to it.
    constexpr std::chrono::seconds kDrain{10};
    const auto now = std::chrono::steady_clock::now() + later;
    removal.Look(true, now, "", kDrain, now);
    return removal.status()->state;
  };
  const bool waits = GetParam().from == From::kIpvs && GetParam().to != Mode::kIpvs;
  EXPECT_EQ(look(), waits ? kube::kKubeProxyDraining : kube::kKubeProxyRemoved)
      << removal.status()->message;
  ExpectMoreOfEach();
  EXPECT_TRUE(open->Ask().ok());
  // The node's own, while kube-proxy's addresses are on it yet.
  std::optional<Stream> own;
  if (waits) {
    own.emplace(testing::TestNetwork::At(""), kWeb.ip.ToString(), kWeb.port,
                testing::Attempt{.timeout = std::chrono::seconds(20)});
    EXPECT_TRUE(own->Ask().ok());
    open.reset();
    EXPECT_TRUE(Eventually([&] { return look() == kube::kKubeProxyRemoved; }))
        << removal.status()->message;
  }
  ExpectNothingLeft();
  ExpectMoreOfEach();
  if (open) {
    EXPECT_TRUE(open->Ask().ok());
  }
  if (own) {
    EXPECT_TRUE(own->Ask().ok());
  }
  for (const auto& client : clients_)
    EXPECT_EQ(client->failed(), 0U);
  controller_->ResyncNow();
  controller_->Tick(maker_.model);
  EXPECT_THAT(controller_->state().problems, IsEmpty());

  // It comes back, and that is seen. (Its virtual servers would be ours now.)
  EXPECT_EQ(look(KubeProxyRemoval::kWatch), kube::kKubeProxyRemoved);
  if (GetParam().from == From::kIpvs) return;
  ASSERT_EQ(MakeKubeProxy(), "");
  EXPECT_EQ(look(2 * KubeProxyRemoval::kWatch), kube::kKubeProxyReturned);
  ExpectMoreOfEach();
  for (const auto& client : clients_)
    EXPECT_EQ(client->failed(), 0U);
}

INSTANTIATE_TEST_SUITE_P(FromAndTo, KubeProxyTakeoverTest,
                         ::testing::Values(Takeover{From::kIptablesLegacy, Mode::kIptables},
                                           Takeover{From::kIptablesLegacy, Mode::kIpvs},
                                           Takeover{From::kIptablesLegacy, Mode::kNftables},
                                           Takeover{From::kIptablesNft, Mode::kIptables},
                                           Takeover{From::kIptablesNft, Mode::kNftables},
                                           Takeover{From::kIpvs, Mode::kIptables},
                                           Takeover{From::kIpvs, Mode::kIpvs},
                                           Takeover{From::kNftables, Mode::kIptables},
                                           Takeover{From::kNftables, Mode::kNftables}),
                         [](const auto& param) { return Name(param.param); });

}  // namespace
}  // namespace pointsman::agent

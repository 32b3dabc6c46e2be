// The agent as a whole beside a kube-proxy that the operator configures.
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kube/serve/http_server.h"
#include "node-agent/agent/list.h"
#include "node-agent/agent/testing/agent_fixture.h"
#include "node-agent/testing/neighbours/kube_proxy.h"
#include "node-agent/testing/neighbours/proxies.h"
#include "node-agent/xtables/iptables_tool.h"

namespace pointsman::agent {
namespace {

using kube::Json;
using kube::Mode;
using testing::AgentTest;
using ::testing::AllOf;
using testing::Await;
using testing::Connects;
using ::testing::HasSubstr;
using testing::kNode;
using ::testing::Not;

// A kube-proxy that the operator configures: it answers on its ports, and has its table.
class StockKubeProxyAgentTest : public AgentTest {
 protected:
  void TearDown() override {
    healthz_.reset();
    metrics_.reset();
    testing::TryTool({"nft", "delete table ip kube-proxy"});
    AgentTest::TearDown();
  }
  void StartKubeProxy(const std::string& mode) {
    healthz_ = std::make_unique<kube::HttpServer>("127.0.0.1:10256", 1);
    healthz_->HandleAtOnce("/healthz", [](const auto&) { return kube::ServedResponse(); });
    healthz_->Start();
    metrics_ = std::make_unique<kube::HttpServer>("127.0.0.1:10249", 1);
    metrics_->HandleAtOnce("/proxyMode",
                           [mode](const auto&) { return kube::ServedResponse{.body = mode}; });
    metrics_->Start();
  }
  static std::string Tables() { return testing::RunTool({"nft", "list", "tables"}); }

  std::unique_ptr<kube::HttpServer> healthz_;
  std::unique_ptr<kube::HttpServer> metrics_;
};

TEST_F(StockKubeProxyAgentTest, IsReadBackAndNothingElseIsInTheKernel) {
  Ask(Settings(Mode::kIptables));
  StartAgent();
  ASSERT_TRUE(Await([&] { return Runs(Mode::kIptables); })) << Status().dump(1);
  // What a kube-proxy in iptables mode left.
  xtables::IptablesTool tool(net::Family::kIPv4);
  testing::KubeProxy("10.96.0.10", 80, "192.0.2.1:9000").Sync(tool);

  spec_.candidate = kube::NodeProxyCandidate{.revision = spec_.revision + 1,
                                             .mode = Mode::kNftables,
                                             .ipvs_scheduler = "rr",
                                             .provider = kube::Provider::kKubeProxy};
  PutSpec();
  ASSERT_TRUE(Await([&] {
    const Json candidate = Status().value("candidate", Json::object());
    return candidate.value("provider", "") == "KubeProxy" && candidate.value("passed", false);
  })) << Status().dump(1);
  EXPECT_TRUE(Await([&] { return Tables().find("pointsman-hold") != std::string::npos; }));
  EXPECT_TRUE(Runs(Mode::kIptables)) << "what runs goes on";

  spec_.provider = kube::Provider::kKubeProxy;
  spec_.candidate.reset();
  Ask(Settings(Mode::kNftables));
  // Its ports are free for kube-proxy.
  ASSERT_TRUE(Await([&] {
    return Condition("RulesSynced").value("message", "").starts_with("kube-proxy: ");
  })) << Status().dump(1);
  EXPECT_THAT(Tables(), HasSubstr("pointsman-hold"));
  EXPECT_TRUE(Is("Degraded", "False", "HandoverWaiting")) << Condition("Degraded");
  // None answers yet, so ours serves until one does what is asked: by rules that are in no mode's
  // way.
  ASSERT_TRUE(Await([&] { return Status().value("preparedRevision", 0) == spec_.revision; }));
  EXPECT_TRUE(Await([&] { return tool.Save("nat").find("POINTSMAN-IPT") == std::string::npos; }));
  EXPECT_TRUE(Connects("10.96.0.10", 80));
  StartKubeProxy("nftables");
  testing::MakeKubeProxyNftables({.cluster_ip = "10.96.0.10",
                                  .port = 80,
                                  .endpoints = {"192.0.2.1:9000"},
                                  .node_ip = "192.0.2.1",
                                  .node_port = 30080,
                                  .cluster_cidr = "10.244.0.0/16"});
  ASSERT_TRUE(Await([&] {
    return Condition("RulesSynced").value("message", "").find("default/kubernetes:http") !=
           std::string::npos;
  })) << Status().dump(1);
  EXPECT_TRUE(Is("Ready", "False", "NotSynced")) << Condition("Ready");
  const std::string service = "service-ABCDEFGH-default/kubernetes/tcp/http";
  testing::RunTool({"nft", "add chain ip kube-proxy " + service +
                               "; add chain ip kube-proxy endpoint-ABCDEFGH-default/kubernetes/"
                               "tcp/http__192.0.2.1/9000; add element ip kube-proxy service-ips { "
                               "10.96.0.1 . tcp . 80 : goto " +
                               service + " }"});
  ASSERT_TRUE(Await([&] { return Runs(Mode::kNftables); })) << Status().dump(1);
  EXPECT_TRUE(Is("Ready", "True", "Serving")) << Condition("Ready");
  EXPECT_TRUE(Await([&] {
    return Status().value("/kubeProxy/state"_json_pointer, "") == kube::kKubeProxyRemoved;
  })) << Status().dump(1);
  EXPECT_THAT(tool.Save("nat"),
              AllOf(Not(HasSubstr("KUBE-SERVICES")), Not(HasSubstr("POINTSMAN"))));
  EXPECT_TRUE(Await([&] { return Tables().find("pointsman") == std::string::npos; })) << Tables();
  EXPECT_THAT(Tables(), HasSubstr("table ip kube-proxy\n"));

  std::ostringstream list;
  EXPECT_EQ(RunList(list, ListFormat::kText), 0);
  EXPECT_EQ(list.str(),
            "kube-proxy's nftables mode\n"
            "TCP   10.96.0.1:80                 -\n"
            "  ->  192.0.2.1:9000\n"
            "TCP   10.96.0.10:80                -\n"
            "  ->  192.0.2.1:9000\n");

  // It ends.
  healthz_.reset();
  EXPECT_TRUE(Await([&] { return Is("Degraded", "True", "SyncFailed"); })) << Status().dump(1);
  metrics_.reset();
  testing::RunTool({"nft", "delete table ip kube-proxy"});
  // And the agent serves again.
  spec_.provider = kube::Provider::kNodeAgent;
  Ask(Settings(Mode::kIptables));
  ASSERT_TRUE(Await([&] { return Runs(Mode::kIptables) && Connects("10.96.0.10", 80); }))
      << Status().dump(1);
}

// kube-proxy is back on a node that ours is to leave: its Pod is Ready, its first sync under way.
TEST_F(StockKubeProxyAgentTest, OursStaysUntilAKubeProxyThatCameBackServes) {
  Ask(Settings(Mode::kIptables));
  StartAgent();
  ASSERT_TRUE(Await([&] { return Runs(Mode::kIptables); })) << Status().dump(1);
  testing::RunTool({"nft", "add table ip kube-proxy"});
  kube::ProxySettings settings = Settings(Mode::kIptables);
  settings.drain_timeout = std::chrono::hours(1);
  Ask(settings, /*removed=*/true);
  ASSERT_TRUE(Await([&] { return Is("Ready", "False", "RemovalWaits"); })) << Status().dump(1);
  EXPECT_TRUE(Connects("10.96.0.10", 80));
  // Started anew it waits, too.
  StopAgent();
  StartAgent();
  PutService("more", 11);
  ASSERT_TRUE(Await([&] {
    return Condition("Ready").value("message", "").find("0 of 3 ports") != std::string::npos;
  })) << Condition("Ready");
  EXPECT_TRUE(Connects("10.96.0.10", 80));
  testing::RunTool({"nft", "delete table ip kube-proxy"});
  ASSERT_TRUE(Await([&] { return Is("Ready", "False", "Removed"); })) << Status().dump(1);
  EXPECT_FALSE(Connects("10.96.0.10", 80));
}

}  // namespace
}  // namespace pointsman::agent

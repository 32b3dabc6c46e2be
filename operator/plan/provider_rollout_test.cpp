// A stock kube-proxy stays, and each node's runs with another configuration in its turn.
#include "operator/plan/provider_rollout.h"

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kube/text/hash.h"
#include "operator/plan/provider_fixture.h"

namespace pointsman::op {
namespace {

using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::HasSubstr;

// `text` with the mode that it was installed with replaced, and nothing else.
std::string WithMode(std::string text, const std::string& mode) {
  const std::string installed = "mode: iptables # as installed";
  const size_t at = text.find(installed);
  EXPECT_NE(at, std::string::npos) << text;
  return text.replace(at, installed.size(), "mode: " + mode + " # as installed");
}

TEST_F(ProviderTest, EachNodeRestartsOnceAndTheClustersOwnObjectsCarryItInTheEnd) {
  MakeCluster(5);
  Apply("{}");
  world_.Settle();
  EXPECT_EQ(Status().phase, "Complete") << Message("Progressing");
  EXPECT_EQ(Running("nftables"), 5);
  ExpectOwn(WithMode(first_text_, "nftables"));
  for (const auto& [node, restarts] : world_.restarts)
    EXPECT_EQ(restarts, 2) << node << ": once with the cluster, once for the rollout";
  EXPECT_EQ(Status().current_revision, 2) << "the first is what was found";
  EXPECT_TRUE(True("Available"));
  EXPECT_EQ(Status().modes, (std::map<std::string, int64_t>{{"nftables", 5}}));
  // An adopted Pod needs the ConfigMap that it was made with.
  EXPECT_TRUE(world_.config_maps.contains("kube-proxy-pointsman-2"));
  for (auto& [node, pod] : world_.kube_proxies)
    pod.ends = true;
  max_down_ = 5;
  world_.Settle();
  EXPECT_EQ(world_.config_maps.size(), 1U);
  EXPECT_EQ(Running("nftables"), 5);
}

TEST_F(ProviderTest, AgentsAreToldWhereKubeProxyAnswersWithTheRevisionThatSaysIt) {
  MakeCluster(2);
  auto& text = world_.config_maps["kube-proxy"]["data"]["config.conf"];
  const auto set_port = [&](const std::string& port) {
    text = first_text_ + "metricsBindAddress: 0.0.0.0:" + port + "\n";
  };
  const auto metrics_at = [&](const std::string& node) {
    return world_.Proxy(node)->spec.metrics_bind_address;
  };
  set_port("10249");
  Apply("{}");
  world_.Settle();
  EXPECT_EQ(metrics_at("n1"), "0.0.0.0:10249");
  EXPECT_EQ(world_.Proxy("n1")->spec.healthz_bind_address, "");

  // What somebody writes there since runs nowhere yet.
  text = WithMode(first_text_, "nftables") + "metricsBindAddress: 0.0.0.0:9999\n";
  world_.Settle();
  EXPECT_EQ(metrics_at("n1"), "0.0.0.0:10249");
  Apply(R"({"mode": "iptables"})");
  world_.Settle();
  EXPECT_EQ(Status().phase, "Complete") << Message("Progressing");
  EXPECT_EQ(metrics_at("n1"), "0.0.0.0:9999");
  EXPECT_EQ(metrics_at("n2"), "0.0.0.0:9999");

  Apply(R"({"provider": "NodeAgent", "mode": "nftables"})");
  world_.Settle();
  EXPECT_EQ(metrics_at("n1"), "");
}

TEST_F(ProviderTest, WithoutSupportNothingIsTouched) {
  MakeCluster(1);
  world_.no_provider = "spec.provider: no";
  Apply("{}");
  world_.Settle();
  EXPECT_EQ(Reason("Accepted"), "NotSupported");
  EXPECT_THAT(Message("Accepted"), HasSubstr("spec.provider: no"));
  EXPECT_EQ(world_.Proxy("n1"), nullptr);
  ExpectOwn(first_text_);
}

TEST_F(ProviderTest, ItsOwnConfigurationNeedsNoRestart) {
  MakeCluster(3);
  Apply(R"({"mode": "iptables"})");
  world_.Settle();
  EXPECT_EQ(Status().phase, "Complete");
  ExpectOwn(first_text_);
  for (const auto& [node, restarts] : world_.restarts)
    EXPECT_EQ(restarts, 1) << node;
}

TEST_F(ProviderTest, ANodeThatCannotRunTheModeStopsItBeforeAnythingIsTouched) {
  MakeCluster(3);
  world_.agents.at("n2").can_run = {kube::Mode::kIptables};
  Apply("{}");
  world_.Settle();
  EXPECT_EQ(Status().phase, "Degraded");
  EXPECT_EQ(Reason("Progressing"), "PreflightFailed");
  EXPECT_EQ(Reason("PreflightPassed"), "NodesCannotRunMode");
  EXPECT_THAT(Message("PreflightPassed"), HasSubstr("n2 (no module for nftables"));
  ExpectOwn(first_text_);
  EXPECT_EQ(world_.config_maps.size(), 1U);
  world_.agents.at("n2").can_run.insert(kube::Mode::kNftables);
  world_.Settle();
  EXPECT_EQ(Running("nftables"), 3);
}

TEST_F(ProviderTest, AnAgentOfBeforeIsNotAsked) {
  MakeCluster(2);
  world_.agents.at("n1").knows_providers = false;
  Apply("{}");
  world_.Settle();
  EXPECT_THAT(Message("PreflightPassed"), HasSubstr("does not know provider KubeProxy: update it"));
  ExpectOwn(first_text_);
}

TEST_F(ProviderTest, AFailingCanaryGoesBackToWhatWasFound) {
  MakeCluster(4);
  world_.broken_modes = {"nftables"};
  Apply(R"({"rollout": {"canary": {"nodes": 1}}})");
  world_.Settle();
  EXPECT_EQ(Status().phase, "RolledBack") << Message("Progressing");
  EXPECT_THAT(Message("RolledBack"), HasSubstr("all nodes go back to revision 1"));
  EXPECT_THAT(Message("RolledBack"), HasSubstr("n1"));
  EXPECT_EQ(Running("iptables"), 4);
  ExpectOwn(first_text_);
  EXPECT_EQ(world_.restarts.at("n2"), 1);
  // The Pod that came back is of the DaemonSet as it was changed, which is as it was again.
  EXPECT_EQ(world_.restarts.at("n1"), 4);
}

TEST_F(ProviderTest, TheAgentsWordIsNotEnough) {
  MakeCluster(2);
  // Modes are the same, so what the agent sees of the Pod before is good.
  Apply(R"({"mode": "iptables", "iptables": {"masqueradeAll": true}})");
  ASSERT_TRUE(Until([&] { return Bound() == 1; }));
  EXPECT_EQ(AtRevision(2), 1);
  ASSERT_TRUE(Until([&] { return True("Available"); }));
  for (const auto& [node, pod] : world_.kube_proxies)
    EXPECT_THAT(pod.file, HasSubstr("masqueradeAll: true")) << node;
  world_.Settle();
  EXPECT_THAT(Text(), HasSubstr("iptables: {masqueradeAll: true}"));
}

// Connections drain, for as long as somebody has allowed.
TEST_F(ProviderTest, NoKubeProxyRestartsBeforeItsNodeIsPrepared) {
  MakeCluster(2);
  world_.agents.at("n1").drains_servers = true;
  Apply(R"({"handover": {"drainTimeout": "30m"}, "rollout": {"progressDeadline": "2m"}})");
  ASSERT_TRUE(Until(
      [&] { return world_.Proxy("n1") != nullptr && world_.Proxy("n1")->spec.revision == 2; }));
  for (int minute = 0; minute < 29; ++minute) {
    world_.Advance(std::chrono::minutes(1));
    Round();
  }
  EXPECT_EQ(world_.restarts.at("n1"), 1);
  EXPECT_EQ(Reason("Progressing"), "RollingOut") << Message("Progressing");
  world_.agents.at("n1").drains_servers = false;
  // The deadline is kube-proxy's from then on.
  ASSERT_TRUE(Until([&] { return Running("nftables") == 2; }));
  EXPECT_EQ(world_.restarts.at("n1"), 2);
}

// Its rules serve all the same.
TEST_F(ProviderTest, AKubeProxyThatHasJustStartedIsNotRestartedUnprepared) {
  MakeCluster(1);
  world_.agents.at("n1").drains_servers = true;
  Apply("{}");
  ASSERT_TRUE(Until(
      [&] { return world_.Proxy("n1") != nullptr && world_.Proxy("n1")->spec.revision == 2; }));
  world_.kube_proxies.at("n1").ready = false;
  for (seconds waited{0}; waited < KubeProxy::kPrepares - seconds(10); waited += seconds(5)) {
    world_.Advance(seconds(5));
    Round();
    ASSERT_EQ(Bound(), 0) << waited.count();
  }
  for (int round = 0; round < 10 && Bound() == 0; ++round) {
    world_.Advance(seconds(5));
    Round();
  }
  EXPECT_EQ(Bound(), 1);
}

TEST_F(ProviderTest, AnAgentThatNeverPreparesItsNodeIsToldOf) {
  MakeCluster(1);
  world_.agents.at("n1").drains_servers = true;
  Apply(R"({"handover": {"drainTimeout": "1m"},
            "rollout": {"progressDeadline": "2m", "onFailure": "Pause"}})");
  ASSERT_TRUE(Until([&] { return Status().phase == "Degraded"; }));
  EXPECT_THAT(Message("Degraded") + Message("Progressing"),
              HasSubstr("its agent does not say that kube-proxy may be restarted"));
  EXPECT_EQ(world_.restarts.at("n1"), 1);
}

TEST_F(ProviderTest, WhereNoKubeProxyRunsNobodyIsWaitedFor) {
  MakeCluster(1);
  world_.broken_modes = {"nftables"};
  Apply("{}");
  ASSERT_TRUE(Until([&] { return Bound() == 1 && Runs("n1").empty(); }));
  // It is about to go back, and its agent says nothing of that.
  world_.agents.at("n1").drains_servers = true;
  EXPECT_TRUE(Until([&] { return Running("iptables") == 1; }))
      << Message("Progressing") << "; " << Message("Degraded");
}

TEST_F(ProviderTest, WhatAnAgentSeesOfAKubeProxyThatRestartsIsNoFailure) {
  MakeCluster(3);
  for (auto& [name, agent] : world_.agents)
    agent.impatient = true;
  Apply("{}");
  world_.Settle();
  EXPECT_EQ(Status().phase, "Complete") << Message("Progressing");
  EXPECT_FALSE(True("RolledBack"));
  ExpectOwn(WithMode(first_text_, "nftables"));
}

TEST_F(ProviderTest, WhatItSeesOfOneThatRunsIs) {
  MakeCluster(2);
  for (auto& [name, agent] : world_.agents) {
    agent.impatient = true;
    agent.fails = {2};
  }
  Apply(R"({"rollout": {"minReady": "30s", "progressDeadline": "1h"}})");
  const kube::TimePoint begin = world_.now;
  ASSERT_TRUE(Until([&] { return True("RolledBack"); }));
  EXPECT_LT(world_.now - begin, seconds(600)) << "long before the deadline";
  EXPECT_THAT(Message("RolledBack"), AllOf(HasSubstr("n1 (kube-proxy runs nftables)"),
                                           HasSubstr("go back to revision 1")));
  EXPECT_EQ(Running("iptables"), 1) << "n2 was not begun";
  world_.Settle();
  EXPECT_EQ(Running("iptables"), 2);
}

TEST_F(ProviderTest, PausedFinishesWhatWasBegunAndNothingElse) {
  MakeCluster(3);
  Apply("{}");
  ASSERT_TRUE(Until([&] { return AtRevision(2) == 1; }));
  Apply(R"({"rollout": {"paused": true}})");
  world_.Settle();
  EXPECT_EQ(Running("nftables"), 1);
  EXPECT_EQ(Text(), first_text_);
  EXPECT_EQ(Status().phase, "Paused");
  Apply("{}");
  world_.Settle();
  EXPECT_EQ(Running("nftables"), 3);
}

TEST_F(ProviderTest, RollbackToWhatWasFoundGivesTheSameBytes) {
  MakeCluster(3);
  Apply(R"({"mode": "ipvs", "ipvs": {"scheduler": "lc"}})");
  world_.Settle();
  ASSERT_EQ(Running("ipvs"), 3);
  ASSERT_THAT(Text(), HasSubstr("scheduler: \"lc\""));
  EXPECT_EQ(Message("Accepted"), "the specification is valid and in effect");
  world_.events.clear();
  Apply(R"({"rollout": {"rollbackTo": 1}})");
  world_.Settle();
  EXPECT_EQ(Running("iptables"), 3);
  ExpectOwn(first_text_);
  const auto started =
      std::find_if(world_.events.begin(), world_.events.end(),
                   [](const PlannedEvent& event) { return event.reason == "RolloutStarted"; });
  ASSERT_NE(started, world_.events.end());
  EXPECT_EQ(started->message, "revision 1 (iptables) to 3 nodes");
}

TEST_F(ProviderTest, AFieldThatIsAskedForNoMoreGoesBackToItsDefault) {
  MakeCluster(2);
  Apply(R"({"mode": "ipvs", "ipvs": {"scheduler": "lc"}})");
  world_.Settle();
  Apply(R"({"mode": "ipvs"})");
  world_.Settle();
  EXPECT_EQ(Running("ipvs"), 2);
  std::string text = WithMode(first_text_, "ipvs");
  ExpectOwn(text.replace(text.find("scheduler: \"\""), 13, "scheduler: \"rr\""));
  EXPECT_EQ(Status().phase, "Complete");
}

TEST_F(ProviderTest, ANewNodeAndAnEvictedPodTakeWhatTheirTurnSays) {
  MakeCluster(4);
  Apply("{}");
  ASSERT_TRUE(Until([&] { return Running("nftables") == 2; }));
  const auto changed =
      std::find_if(world_.nodes.begin(), world_.nodes.end(),
                   [&](const auto& node) { return Runs(node.first) == "nftables"; });
  // One that was changed loses its Pod, and a node joins.
  world_.kube_proxies.at(changed->first).ends = true;
  AddNodeWithKubeProxy("n9");
  excused_ = {"n9", changed->first};
  for (int step = 0; step < 4; ++step)
    world_.StepKubeProxy();
  EXPECT_EQ(Runs("n9"), "iptables");
  EXPECT_EQ(Runs(changed->first), "nftables");
  world_.Settle();
  EXPECT_EQ(Running("nftables"), 5);
  ExpectOwn(WithMode(first_text_, "nftables"));
}

TEST_F(ProviderTest, OfSomeNodesTheOthersStayAsTheyAre) {
  MakeCluster(4);
  world_.SetLabels("n1", {{"pool", "a"}});
  world_.SetLabels("n2", {{"pool", "a"}});
  Apply(R"({"nodeSelector": {"matchLabels": {"pool": "a"}}})");
  world_.Settle();
  EXPECT_EQ(Status().phase, "Complete");
  EXPECT_THAT(Message("Progressing"), HasSubstr("for the sake of n3, n4"));
  EXPECT_EQ(Running("nftables"), 2);
  EXPECT_EQ(Bound(), 2);
  EXPECT_EQ(Text(), first_text_);
  EXPECT_EQ(world_.restarts.at("n3"), 1);
  // And when all are selected it becomes the cluster's own. No node of them restarts for that.
  Apply("{}");
  world_.Settle();
  ExpectOwn(WithMode(first_text_, "nftables"));
  for (const auto& [node, restarts] : world_.restarts)
    EXPECT_EQ(restarts, 2) << node;
}

TEST_F(ProviderTest, ANodeThatDiedHoldsUpOnlyTheEndOfIt) {
  MakeCluster(4);
  world_.dead_kubelets = {"n2"};
  world_.SetDead("n2", true, /*silent=*/true);
  excused_ = {"n2"};
  world_.StepKubeProxy();
  Apply("{}");
  world_.Settle();
  EXPECT_EQ(Running("nftables"), 3);
  EXPECT_EQ(Status().phase, "Complete");
  EXPECT_THAT(Message("Progressing"), HasSubstr("for the sake of n2"));
  EXPECT_EQ(Text(), first_text_);
  world_.dead_kubelets.clear();
  world_.SetDead("n2", false);
  world_.Settle();
  EXPECT_EQ(Running("nftables"), 4);
  ExpectOwn(WithMode(first_text_, "nftables"));
}

TEST_F(ProviderTest, ANodeThatDiesInItsTurnHoldsUpNobodyForLong) {
  MakeCluster(4);
  Apply("{}");
  ASSERT_TRUE(Until([&] { return Bound() == 2; }));
  const auto second = std::find_if(world_.nodes.begin(), world_.nodes.end(), [&](const auto& node) {
    return !BoundTo(*node.second).empty() && Runs(node.first) != "nftables";
  });
  ASSERT_NE(second, world_.nodes.end());
  const std::string name = second->first;
  excused_ = {name};
  world_.dead_kubelets = {name};
  world_.SetDead(name, true, /*silent=*/true);
  world_.Settle();
  EXPECT_EQ(Running("nftables"), 3);
  world_.RemoveNode(name);
  world_.Settle();
  ExpectOwn(WithMode(first_text_, "nftables"));
}

TEST_F(ProviderTest, DeletionInTheMiddleGivesTheNodesBack) {
  MakeCluster(4);
  Apply("{}");
  ASSERT_TRUE(Until([&] { return Running("nftables") == 2; }));
  world_.Delete("main");
  world_.Settle();
  EXPECT_TRUE(world_.configurations.empty());
  EXPECT_TRUE(world_.proxies.empty());
  EXPECT_EQ(Running("iptables"), 4);
  ExpectOwn(first_text_);
}

TEST_F(ProviderTest, DeletionAtTheEndChangesNothing) {
  MakeCluster(3);
  Apply("{}");
  world_.Settle();
  world_.Delete("main");
  world_.Settle();
  EXPECT_TRUE(world_.configurations.empty());
  EXPECT_EQ(Running("nftables"), 3);
  ExpectOwn(WithMode(first_text_, "nftables"));
}

TEST_F(ProviderTest, WhatAPersonWritesIntoTheFileStays) {
  MakeCluster(3);
  Apply("{}");
  world_.Settle();
  auto& file = world_.config_maps["kube-proxy"]["data"]["config.conf"];
  file = file.get<std::string>() + "metricsBindAddress: 0.0.0.0:10249\n";
  const std::string edited = Text();
  world_.Settle();
  ExpectOwn(edited);
  for (const auto& [node, restarts] : world_.restarts)
    EXPECT_EQ(restarts, 2) << node;
  // The next revision is made from it.
  Apply(R"({"mode": "ipvs"})");
  world_.Settle();
  EXPECT_EQ(Running("ipvs"), 3);
  EXPECT_THAT(Text(), HasSubstr("mode: ipvs # as installed"));
  EXPECT_THAT(Text(), HasSubstr("metricsBindAddress: 0.0.0.0:10249\n"));
}

TEST_F(ProviderTest, WhatAPersonWritesInTheMiddleIsNotLost) {
  MakeCluster(3);
  Apply("{}");
  ASSERT_TRUE(Until([&] { return Running("nftables") == 1; }));
  auto& file = world_.config_maps["kube-proxy"]["data"]["config.conf"];
  file = file.get<std::string>() + "metricsBindAddress: 0.0.0.0:10249\n";
  world_.Settle();
  EXPECT_EQ(Running("nftables"), 3);
  ExpectOwn(WithMode(first_text_, "nftables") + "metricsBindAddress: 0.0.0.0:10249\n");
}

TEST_F(ProviderTest, APersonWhoChangesTheModeIsOverruledNodeByNode) {
  MakeCluster(3);
  Apply("{}");
  world_.Settle();
  world_.config_maps["kube-proxy"]["data"]["config.conf"] = first_text_;
  world_.Settle();
  EXPECT_EQ(Running("nftables"), 3);
  ExpectOwn(WithMode(first_text_, "nftables"));
}

TEST_F(ProviderTest, SomebodyWhoPutsTheDaemonSetBackIsFollowed) {
  MakeCluster(4);
  Apply("{}");
  ASSERT_TRUE(Until([&] { return Running("nftables") == 2; }));
  for (const bool annotations : {true, false}) {
    world_.PutKubeProxyBack(annotations);
    for (int step = 0; step < 3; ++step) {
      world_.StepKubeProxy();
      Check();
    }
    EXPECT_GE(Running("nftables"), 2) << "its Pods wait beside those of the revision";
  }
  world_.Settle();
  EXPECT_EQ(Running("nftables"), 4);
  ExpectOwn(WithMode(first_text_, "nftables"));
}

TEST_F(ProviderTest, WhatSomebodyDeletesIsMadeAgain) {
  MakeCluster(3);
  Apply("{}");
  ASSERT_TRUE(Until([&] { return Running("nftables") == 2; }));
  max_down_ = 3;
  world_.revision_sets.clear();
  world_.config_maps.erase("kube-proxy-pointsman-2");
  for (auto& [node, pod] : world_.kube_proxies) {
    if (pod.labels.contains(kRevisionLabel)) pod.ends = true;
  }
  world_.Settle();
  EXPECT_EQ(Running("nftables"), 3);
  ExpectOwn(WithMode(first_text_, "nftables"));
}

TEST_F(ProviderTest, AnUpgradeInTheMiddleReachesAllNodes) {
  MakeCluster(3);
  Apply("{}");
  ASSERT_TRUE(Until([&] { return Running("nftables") == 1; }));
  const nlohmann::json patch = {
      {"spec", {{"template", {{"metadata", {{"annotations", {{"upgraded", "yes"}}}}}}}}}};
  world_.kube_proxy_set.merge_patch(patch);
  world_.kube_proxy_set_at_first.merge_patch(patch);
  world_.Settle();
  EXPECT_EQ(Running("nftables"), 3);
  ExpectOwn(WithMode(first_text_, "nftables"));
  const std::string hash = text::Hash(world_.kube_proxy_set["spec"]["template"].dump());
  for (const auto& [node, pod] : world_.kube_proxies)
    EXPECT_EQ(pod.labels.at("controller-revision-hash"), hash) << node;
}

TEST_F(ProviderTest, FromTheNodeAgentAndBack) {
  MakeCluster(3);
  world_.Apply("main",
               R"({"mode": "ipvs", "rollout": {"canary": {"nodes": 0}, "minReady": "0s"}})");
  world_.Settle();
  ASSERT_EQ(Status().modes, (std::map<std::string, int64_t>{{"ipvs", 3}}));
  Apply("{}");
  world_.Settle();
  EXPECT_EQ(Running("nftables"), 3);
  EXPECT_EQ(Status().phase, "Complete");
  ExpectOwn(WithMode(first_text_, "nftables"));
  world_.Apply("main", R"({"mode": "ipvs", "provider": "NodeAgent",
                           "rollout": {"canary": {"nodes": 0}, "minReady": "0s"}})");
  world_.Settle();
  EXPECT_EQ(Status().modes, (std::map<std::string, int64_t>{{"ipvs", 3}}));
  EXPECT_EQ(Status().phase, "Complete");
  for (const auto& [name, proxy] : world_.proxies)
    EXPECT_EQ(proxy->spec.provider, kube::Provider::kNodeAgent) << name;
}

TEST_F(ProviderTest, FromTheMiddleToTheNodeAgentThatTakesOver) {
  MakeCluster(3);
  Apply("{}");
  ASSERT_TRUE(Until([&] { return Running("nftables") == 2; }));
  max_down_ = 3;
  world_.Apply("main", R"({"mode": "ipvs", "kubeProxy": {"policy": "TakeOver"},
                           "rollout": {"canary": {"nodes": 0}, "minReady": "0s"}})");
  world_.after_write = [this] {
    for (const auto& [name, node] : world_.nodes)
      ASSERT_TRUE(world_.Serves(name) || !Runs(name).empty() || world_.Proxy(name) != nullptr);
  };
  world_.Settle();
  EXPECT_EQ(Status().phase, "Complete") << Message("Progressing");
  EXPECT_TRUE(world_.kube_proxies.empty());
  EXPECT_EQ(Bound(), 0);
  EXPECT_TRUE(world_.revision_sets.empty());
}

TEST_F(ProviderTest, WhereItCannotBeDoneItSaysWhy) {
  MakeCluster(1);
  const auto set = world_.kube_proxy_set;
  const auto expect = [&](const char* reason, const char* message) {
    Apply("{}");
    world_.Settle();
    EXPECT_EQ(Reason("Accepted"), reason);
    EXPECT_THAT(Message("Accepted"), HasSubstr(message));
    EXPECT_EQ(Text(), first_text_);
  };
  world_.kube_proxy_set["spec"]["template"]["spec"]["containers"][0]["command"] = {"kube-proxy"};
  expect("KubeProxyNotConfigurable", "has the flag --config");
  world_.kube_proxy_set = set;
  world_.config_maps["kube-proxy"]["immutable"] = true;
  expect("KubeProxyNotConfigurable", "ConfigMap kube-proxy is immutable");
  world_.config_maps["kube-proxy"].erase("immutable");
  world_.kube_proxy_unknown = "forbidden";
  expect("KubeProxyUnknown", "forbidden");
  world_.kube_proxy_unknown = "";
  Apply(R"({"mode": "ipvs", "ipvs": {"scheduler": "fo"}})");
  world_.Settle();
  EXPECT_EQ(Reason("Accepted"), "KubeProxyNotConfigurable");
  EXPECT_THAT(Message("Accepted"), HasSubstr("spec.ipvs.scheduler"));
  world_.kube_proxy_set = nullptr;
  expect("NoKubeProxy", "provider NodeAgent");
}

// Before it has, it would end the Pods that it adopts.
TEST_F(ProviderTest, PodsAreNotLeftToTheDaemonSetBeforeItsControllerHasSeenThatItIsForTheirNodes) {
  MakeCluster(3);
  Apply("{}");
  const auto restored = [&] {
    return Bound() == 3 && world_.kube_proxy_set == world_.kube_proxy_set_at_first;
  };
  for (int round = 0; round < 500 && !restored(); ++round) {
    Round();
    if (restored()) break;
    world_.StepKubeProxy();
    world_.Advance(seconds(5));
  }
  ASSERT_TRUE(restored());
  for (int round = 0; round < 5; ++round) {
    Round();
    world_.Advance(seconds(30));
  }
  EXPECT_EQ(world_.revision_sets.size(), 1U);
  world_.Settle();
  ExpectOwn(WithMode(first_text_, "nftables"));
  for (const auto& [node, restarts] : world_.restarts)
    EXPECT_EQ(restarts, 2) << node;
}

TEST_F(ProviderTest, TheDaemonSetDoesNotLeaveOutNodesWhosePodsItIsAdopting) {
  MakeCluster(1);
  world_.SetLabels("n1", {{kRevisionLabel, "2"}});
  PlanInput input;
  input.nodes = {world_.nodes.at("n1")};
  input.kube_proxy.daemon_set =
      std::make_shared<KubeProxyDaemonSet>(DecodeKubeProxyDaemonSet(world_.kube_proxy_set.dump()));
  Sightings sightings;
  sightings.Begin(world_.now, world_.instant);
  std::optional<kube::TimePoint> wake_up;
  const auto change = [&] {
    return KubeProxy(input, sightings, world_.now).Change(true, wake_up).has_value();
  };
  EXPECT_FALSE(change());
  KubeProxyDaemonSet set;
  set.revision = "2";
  input.kube_proxy.revision_sets = {std::make_shared<KubeProxyDaemonSet>(set)};
  EXPECT_TRUE(change());

  // Without the label its controller is given some time to see that.
  kube::Pod pod;
  pod.name = "adopted";
  pod.node_name = "n1";
  pod.controller_uid = input.kube_proxy.daemon_set->uid;
  pod.labels = {{kRevisionLabel, "2"}};
  input.kube_proxy.pods = {std::make_shared<kube::Pod>(pod)};
  world_.SetLabels("n1", {});
  input.nodes = {world_.nodes.at("n1")};
  sightings = {};
  sightings.Begin(world_.now, world_.instant);
  EXPECT_FALSE(change());
  world_.Advance(KubeProxy::kSettles);
  sightings.Begin(world_.now, world_.instant);
  EXPECT_TRUE(change());
}

// It would restart for a revision that is on its way out.
TEST_F(ProviderTest, ANewNodeWaitsForTheTargetWhereTheLastGoodRevisionNeedsARestart) {
  MakeCluster(3);
  for (const char* node : {"n1", "n2"})
    world_.SetLabels(node, {{"pool", "a"}});
  Apply(R"({"nodeSelector": {"matchLabels": {"pool": "a"}}})");
  world_.Settle();
  ASSERT_EQ(Bound(), 2);
  Apply(R"({"mode": "ipvs", "nodeSelector": {"matchLabels": {"pool": "a"}},
            "rollout": {"canary": {"nodes": 1, "soak": "1h"}}})");
  ASSERT_TRUE(Until([&] { return Running("ipvs") == 1; }));
  AddNodeWithKubeProxy("n9");
  world_.SetLabels("n9", {{"pool", "a"}});
  excused_ = {"n9"};
  for (int round = 0; round < 20; ++round) {
    Round();
    world_.StepKubeProxy();
    world_.Advance(seconds(5));
  }
  EXPECT_EQ(world_.Proxy("n9")->spec.revision, 0);
  EXPECT_EQ(Runs("n9"), "iptables");
  world_.Settle();
  EXPECT_EQ(Running("ipvs"), 3);
}

// After each write of it, and after none.
TEST_F(ProviderTest, ANewSpecificationWhileARevisionBecomesTheClustersOwn) {
  bool half_way = false;
  for (size_t writes = 0; writes < 16; ++writes) {
    world_ = FakeWorld();
    MakeCluster(3);
    Apply("{}");
    ASSERT_TRUE(Until([&] { return Running("nftables") == 3; }));
    for (size_t i = 0; i < writes; ++i) {
      world_.Perform(world_.MakePlan(), 1);
      world_.StepAgents();
      world_.StepKubeProxy();
      Check();
      world_.Advance(seconds(5));
    }
    half_way = half_way || (Bound() > 0 && world_.revision_sets.empty());
    Apply(R"({"mode": "ipvs"})");
    ASSERT_TRUE(Until([&] { return Running("ipvs") == 3; })) << writes;
    world_.Settle();
    ExpectOwn(WithMode(first_text_, "ipvs"));
    if (HasFailure()) return;
  }
  EXPECT_TRUE(half_way) << "it took none between the DaemonSet and the labels";
}

TEST_F(ProviderTest, KilledAfterAnyWriteItArrives) {
  for (size_t writes = 0; writes < 40; ++writes) {
    world_ = FakeWorld();
    MakeCluster(3);
    Apply("{}");
    size_t left = writes;
    for (int round = 0; round < 40; ++round) {
      const size_t now = std::min<size_t>(left, 1);
      world_.Perform(world_.MakePlan(), left > 0 ? 1 : SIZE_MAX);
      left -= now;
      world_.ChangeLeader();
      world_.StepAgents();
      world_.StepKubeProxy();
      Check();
      world_.Advance(seconds(5));
    }
    world_.Settle();
    ExpectOwn(WithMode(first_text_, "nftables"));
    EXPECT_EQ(Running("nftables"), 3) << writes;
    for (const auto& [node, restarts] : world_.restarts)
      EXPECT_EQ(restarts, 2) << node;
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace pointsman::op

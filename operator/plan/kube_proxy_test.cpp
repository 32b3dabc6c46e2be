// Nodes leave the DaemonSet of the cluster's kube-proxy as ours serves there, and come back into it
// before ours goes.
#include "operator/plan/kube_proxy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "operator/plan/plan_fixture.h"

namespace pointsman::op {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::AnyOf;
using ::testing::HasSubstr;

constexpr const char* kTakeOver =
    R"({"kubeProxy": {"policy": "TakeOver"}, "rollout": {"canary": {"nodes": 0}, "minReady": "0s"}})";
constexpr const char* kType = "KubeProxyReplaced";

class KubeProxyTest : public PlanTest {
 protected:
  // A cluster of so many nodes with kube-proxy. After each write it must hold what always holds.
  void MakeCluster(int nodes) {
    AddNodes(nodes);
    world_.AddKubeProxy();
    world_.after_write = [this] { Check(); };
  }
  void TakeOver(const std::string& spec = kTakeOver) {
    world_.Apply("main", spec);
    world_.Settle();
  }
  void Check() {
    int64_t in_hand = 0;
    for (const auto& [name, node] : world_.nodes) {
      ASSERT_TRUE(world_.Serves(name)) << name << " has no proxy";
      const bool pod = world_.kube_proxies.contains(name);
      const bool exchanging = world_.IsReplaced(name) == pod;
      if (exchanging && !world_.kube_proxy_set.is_null()) ++in_hand;
    }
    if (bounded_) {
      ASSERT_LE(in_hand, 1);
    }
  }
  int64_t Replaced() const {
    return std::count_if(world_.nodes.begin(), world_.nodes.end(),
                         [](const auto& node) { return IsReplaced(*node.second); });
  }
  size_t Cleaned() const {
    return static_cast<size_t>(
        std::count_if(world_.proxies.begin(), world_.proxies.end(), [](const auto& proxy) {
          const auto& said = proxy.second->status.kube_proxy;
          return said && said->state == kube::kKubeProxyRemoved;
        }));
  }
  // Steps everything until it holds, as time goes by.
  bool Until(const std::function<bool()>& holds) {
    for (int round = 0; round < 500; ++round) {
      if (holds()) return true;
      Round();
      world_.StepKubeProxy();
      world_.Advance(seconds(5));
    }
    return false;
  }
  void ExpectAsAtFirst() const {
    EXPECT_EQ(world_.kube_proxy_set, world_.kube_proxy_set_at_first);
    EXPECT_EQ(Replaced(), 0);
    EXPECT_EQ(world_.kube_proxies.size(), world_.nodes.size());
  }
  // With maxUnavailable 1, and as long as nobody else moves Pods.
  bool bounded_ = true;
};

TEST_F(KubeProxyTest, NodesAreTakenOverOneByOneAndComeBackOnDeletion) {
  MakeCluster(5);
  TakeOver();
  EXPECT_EQ(Replaced(), 5);
  EXPECT_EQ(Cleaned(), 5U);
  EXPECT_TRUE(world_.kube_proxies.empty());
  EXPECT_EQ(Status().phase, "Complete");
  EXPECT_TRUE(True(kType)) << Message(kType);
  EXPECT_TRUE(world_.HasEvent("KubeProxyTakenOff"));
  EXPECT_EQ(world_.kube_proxy_set["spec"]["updateStrategy"]["type"], "OnDelete");

  world_.Delete("main");
  world_.Settle();
  EXPECT_TRUE(world_.configurations.empty());
  EXPECT_TRUE(world_.proxies.empty());
  EXPECT_TRUE(world_.HasEvent("KubeProxyReturns"));
  ExpectAsAtFirst();
  EXPECT_EQ(world_.removals_beside_kube_proxy, 0);
}

TEST_F(KubeProxyTest, IsDoneWhenItsRulesAreGoneAndIsAvailableMeanwhile) {
  MakeCluster(2);
  TakeOver(kNoCanary);
  for (auto& [name, agent] : world_.agents)
    agent.drains_kube_proxy = true;
  world_.Apply("main", kTakeOver);
  ASSERT_TRUE(Until([&] { return Replaced() == 2; }));
  EXPECT_TRUE(Until([&] { return Reason(kType) == "TakingOver"; }));
  EXPECT_TRUE(True("Available")) << Message("Available");
  EXPECT_EQ(Status().phase, "RollingOut");
  for (auto& [name, agent] : world_.agents)
    agent.drains_kube_proxy = false;
  EXPECT_TRUE(Until([&] { return True(kType); }));
  EXPECT_TRUE(True("Available"));
}

TEST_F(KubeProxyTest, AnAgentThatDoesNotSayThatTheRulesAreGoneIsNamed) {
  MakeCluster(2);
  world_.agents.at("n1").drains_kube_proxy = true;
  world_.Apply("main", kTakeOver);
  EXPECT_TRUE(Until([&] { return Reason(kType) == "NodesNotReplaced"; }));
  EXPECT_THAT(Message(kType), HasSubstr("n1 (its agent says: Draining)"));
  EXPECT_TRUE(world_.IsReplaced("n2"));
}

// Written by something that the API does not show: at once, and without an end to it by itself.
TEST_F(KubeProxyTest, RulesThatAreWrittenAgainAreTold) {
  MakeCluster(2);
  TakeOver();
  ASSERT_TRUE(True(kType));
  world_.agents.at("n1").sees_kube_proxy = "KUBE-SERVICES is back";
  Round();
  Round();
  EXPECT_EQ(Reason(kType), "NodesNotReplaced");
  EXPECT_THAT(Message(kType), HasSubstr("n1 (KUBE-SERVICES is back)"));
  world_.agents.at("n1").sees_kube_proxy.clear();
  EXPECT_TRUE(Until([&] { return True(kType); }));
}

TEST_F(KubeProxyTest, WithoutItsPodPausedNothingIsRemoved) {
  MakeCluster(1);
  world_.Apply("main", kTakeOver);
  ASSERT_TRUE(Until([&] { return Replaced() == 1; }));
  world_.Apply("main", R"({"kubeProxy": {"policy": "TakeOver"},
                           "rollout": {"canary": {"nodes": 0}, "minReady": "0s", "paused": true}})");
  world_.Settle();
  EXPECT_TRUE(world_.kube_proxies.empty());
  EXPECT_EQ(Cleaned(), 0U);
  TakeOver();
  EXPECT_EQ(Cleaned(), 1U);
}

// By hand, or by an addon manager that writes Nodes.
TEST_F(KubeProxyTest, ALabelThatIsGoneIsNoLeaveToRemoveRules) {
  MakeCluster(1);
  TakeOver();
  ASSERT_EQ(Cleaned(), 1U);
  world_.SetLabels("n1", {});
  world_.Delete("main");
  Round();
  EXPECT_FALSE(world_.Proxy("n1")->spec.remove_kube_proxy);
  world_.Settle();
  ExpectAsAtFirst();
}

TEST_F(KubeProxyTest, KubeProxyDoesNotReturnBeforeTheAgentLeavesItsRulesAlone) {
  MakeCluster(1);
  TakeOver();
  world_.Delete("main");
  Round();
  EXPECT_FALSE(world_.Proxy("n1")->spec.remove_kube_proxy);
  EXPECT_FALSE(world_.Proxy("n1")->status.kube_proxy);
  EXPECT_TRUE(world_.IsReplaced("n1"));
  Round();
  EXPECT_FALSE(world_.IsReplaced("n1"));
}

TEST_F(KubeProxyTest, IsLeftAloneUnlessItIsAskedFor) {
  MakeCluster(3);
  TakeOver(kNoCanary);
  ExpectAsAtFirst();
  EXPECT_EQ(Status().phase, "Complete");
  EXPECT_FALSE(Has(kType));
}

TEST_F(KubeProxyTest, ComesBackWhenThePolicyIsLeaveAgainAndOursStays) {
  MakeCluster(3);
  TakeOver();
  TakeOver(R"({"kubeProxy": {"policy": "Leave"},
               "rollout": {"canary": {"nodes": 0}, "minReady": "0s"}})");
  ExpectAsAtFirst();
  EXPECT_EQ(world_.proxies.size(), 3U);
  EXPECT_EQ(Status().phase, "Complete");
  EXPECT_EQ(Cleaned(), 0U) << "agents are told to leave alone what kube-proxy writes";
  EXPECT_EQ(world_.removals_beside_kube_proxy, 0);
  EXPECT_FALSE(Has(kType));
}

TEST_F(KubeProxyTest, StaysWhereOursDoesNotServe) {
  MakeCluster(3);
  world_.agents.at("n2").can_run = {};
  TakeOver();
  EXPECT_EQ(Replaced(), 2);
  EXPECT_FALSE(world_.IsReplaced("n2"));
  EXPECT_EQ(Status().phase, "Degraded");
  EXPECT_EQ(Reason(kType), "NodesNotServed");
  EXPECT_THAT(Message(kType), HasSubstr("n2"));
}

TEST_F(KubeProxyTest, ANodeIsDoneWithBeforeTheNextOneChanges) {
  MakeCluster(4);
  world_.Apply("main", kTakeOver);
  size_t seen = 0;
  world_.after_write = [&] {
    Check();
    // Of those whose mode has been asked for all but the last are out of the DaemonSet.
    const auto ordered = static_cast<size_t>(AtRevision(Status().update_revision));
    if (Status().update_revision == 0 || ordered == 0) return;
    seen = std::max(seen, ordered);
    EXPECT_GE(static_cast<size_t>(Replaced()) + 1, ordered);
  };
  world_.Settle();
  EXPECT_EQ(seen, 4U);
}

TEST_F(KubeProxyTest, TheCanarySoaksWithoutKubeProxy) {
  MakeCluster(3);
  world_.Apply("main", R"({"kubeProxy": {"policy": "TakeOver"},
                           "rollout": {"canary": {"nodes": 1, "soak": "5m"}, "minReady": "0s"}})");
  ASSERT_TRUE(Until([&] { return Replaced() == 1 && world_.kube_proxies.size() == 2; }));
  const Instant alone = world_.instant;
  ASSERT_TRUE(Until([&] { return Replaced() == 2; }));
  EXPECT_GE(world_.instant - alone, minutes(5) - seconds(5));
  EXPECT_TRUE(Until([&] { return Status().phase == "Complete"; }));
}

TEST_F(KubeProxyTest, ACanaryWhoseKubeProxyDoesNotGoStopsTheRest) {
  MakeCluster(3);
  bounded_ = false;
  world_.Apply("main", R"({"kubeProxy": {"policy": "TakeOver"},
                           "rollout": {"canary": {"nodes": 1, "soak": "0s"}, "minReady": "0s"}})");
  ASSERT_TRUE(Until([&] { return Replaced() == 1; }));
  // The kubelet does not end it.
  for (int i = 0; i < 200; ++i) {
    Round();
    world_.Advance(seconds(5));
  }
  EXPECT_EQ(Replaced(), 1);
  EXPECT_EQ(Status().phase, "Degraded");
  EXPECT_EQ(Reason("Progressing"), "KubeProxyNotReplaced");
  EXPECT_EQ(Reason(kType), "NodesNotReplaced");
  EXPECT_THAT(Message(kType), HasSubstr("Pod kube-proxy-n1 is still there"));
  // And it goes on once it has ended.
  EXPECT_TRUE(Until([&] { return Status().phase == "Complete"; }));
  EXPECT_EQ(Replaced(), 3);
}

TEST_F(KubeProxyTest, PausedTakesNoFurtherNode) {
  MakeCluster(3);
  world_.Apply("main", kTakeOver);
  ASSERT_TRUE(Until([&] { return Replaced() == 1; }));
  world_.Apply("main", R"({"kubeProxy": {"policy": "TakeOver"},
                           "rollout": {"canary": {"nodes": 0}, "minReady": "0s", "paused": true}})");
  world_.Settle();
  EXPECT_EQ(Replaced(), 1);
  EXPECT_EQ(Status().phase, "Paused");
}

TEST_F(KubeProxyTest, AnAddonManagerThatPutsTheDaemonSetBackIsNoticedAndFollowedEverMoreSeldom) {
  for (const bool annotations : {true, false}) {
    world_ = FakeWorld();
    bounded_ = false;
    MakeCluster(3);
    TakeOver();
    std::vector<Instant> changed;
    Instant noticed{-1};
    for (int i = 0; i < 720; ++i) {
      const bool was = LeavesOutReplaced(DecodeKubeProxyDaemonSet(world_.kube_proxy_set.dump()));
      if (was) world_.PutKubeProxyBack(annotations);
      Round();
      if (noticed < seconds(0) && Reason(kType) == "DaemonSetReverted") noticed = world_.instant;
      if (LeavesOutReplaced(DecodeKubeProxyDaemonSet(world_.kube_proxy_set.dump())))
        changed.push_back(world_.instant);
      world_.StepKubeProxy();
      world_.Advance(seconds(10));
    }
    EXPECT_GE(noticed, seconds(0));
    EXPECT_TRUE(world_.HasEvent("DaemonSetReverted"));
    // Two hours: after 2 s, 4 s, 8 s, …, 30 min.
    EXPECT_GE(changed.size(), 6U);
    EXPECT_LE(changed.size(), 16U);
    // The manager has been told to leave it alone.
    world_.Settle();
    EXPECT_TRUE(True(kType)) << Message(kType);
    EXPECT_TRUE(world_.kube_proxies.empty());
    world_.Delete("main");
    world_.Settle();
    EXPECT_EQ(world_.kube_proxy_set, world_.kube_proxy_set_at_first);
  }
}

TEST_F(KubeProxyTest, ADeletedDaemonSetHoldsNothingUp) {
  MakeCluster(3);
  TakeOver();
  world_.after_write = {};
  world_.kube_proxy_set = nullptr;
  world_.Settle();
  EXPECT_TRUE(True(kType)) << Message(kType);
  world_.Delete("main");
  world_.Settle();
  EXPECT_TRUE(world_.configurations.empty());
  EXPECT_EQ(Replaced(), 0);
}

TEST_F(KubeProxyTest, NodesThatDieDoNotHoldUpTheDeletion) {
  MakeCluster(3);
  TakeOver();
  world_.SetDead("n1", true, /*silent=*/true);
  world_.RemoveNode("n2");
  world_.Delete("main");
  world_.Settle();
  EXPECT_TRUE(world_.configurations.empty());
  EXPECT_EQ(Replaced(), 0);
  EXPECT_EQ(world_.kube_proxy_set, world_.kube_proxy_set_at_first);
}

TEST_F(KubeProxyTest, OursStaysUntilKubeProxyServes) {
  MakeCluster(3);
  TakeOver();
  world_.kube_proxy_breaks = true;
  world_.Delete("main");
  EXPECT_FALSE(Until([&] { return !world_.configurations.contains("main"); }));
  EXPECT_EQ(world_.proxies.size(), 3U);
  EXPECT_THAT(Message("Progressing"), HasSubstr("until kube-proxy's Pod has been Ready"));
  EXPECT_THAT(Message("Progressing"), HasSubstr("n1"));
  world_.kube_proxy_breaks = false;
  world_.Settle();
  EXPECT_TRUE(world_.configurations.empty());
  ExpectAsAtFirst();
}

TEST_F(KubeProxyTest, WaitsForNoKubeProxyThatIsNotToRun) {
  MakeCluster(2);
  TakeOver(kNoCanary);
  world_.kube_proxy_set["spec"]["template"]["spec"]["nodeSelector"] = {{"no", "where"}};
  world_.after_write = {};
  world_.Delete("main");
  world_.Settle();
  EXPECT_TRUE(world_.configurations.empty());
}

TEST_F(KubeProxyTest, WhatTheApiCannotTakeOffStaysAndIsNamed) {
  AddNodes(2);
  kube::Pod pod;
  pod.name = "kube-proxy-n1";
  pod.uid = "static";
  pod.node_name = "n1";
  pod.mirror = pod.ready = true;
  world_.other_kube_proxy_pods.push_back(std::make_shared<kube::Pod>(pod));
  TakeOver();
  EXPECT_EQ(Status().phase, "Complete");
  EXPECT_EQ(Reason(kType), "CannotBeTakenOff");
  EXPECT_THAT(Message(kType), HasSubstr("static Pod: to have it gone, take its manifest out"));
  EXPECT_EQ(Replaced(), 0);
  EXPECT_TRUE(world_.HasEvent("CannotBeTakenOff"));
}

// k3s: the agent sees its ports. When it is turned off, what it left is removed as anybody's.
TEST_F(KubeProxyTest, OneThatTheApiDoesNotShowIsToldAndCleanedUpWhenItHasEnded) {
  AddNodes(2);
  world_.kube_proxy_set = nullptr;
  for (const char* name : {"n1", "n2"}) {
    kube::Node node = *world_.nodes.at(name);
    node.kubelet_version = "v1.36.2+k3s1";
    world_.nodes[name] = std::make_shared<const kube::Node>(node);
    world_.agents.at(name).runs_kube_proxy = "another program has its port for healthz";
  }
  TakeOver();
  EXPECT_EQ(Status().phase, "Complete");
  EXPECT_EQ(Reason(kType), "CannotBeTakenOff");
  EXPECT_THAT(Message(kType), AllOf(HasSubstr("port for healthz"),
                                    HasSubstr("start its servers with --disable-kube-proxy")));
  EXPECT_EQ(Replaced(), 0) << "there is no DaemonSet to leave";
  EXPECT_EQ(Cleaned(), 0U);
  for (const char* name : {"n1", "n2"})
    world_.agents.at(name).runs_kube_proxy = "";
  EXPECT_TRUE(Until([&] { return True(kType); })) << Message(kType);
  EXPECT_EQ(Cleaned(), 2U);
  world_.Delete("main");
  world_.Settle();
  EXPECT_TRUE(world_.configurations.empty());
}

// Before ours serves there, what kube-proxy left may be all that does.
TEST_F(KubeProxyTest, NothingIsRemovedWhereOursDoesNotServeYet) {
  AddNodes(2);
  world_.kube_proxy_set = nullptr;
  world_.agents.at("n1").alive = false;
  world_.Apply("main", kTakeOver);
  EXPECT_TRUE(Until([&] {
    return world_.proxies.contains("n2") && world_.proxies.at("n2")->spec.remove_kube_proxy;
  }));
  EXPECT_FALSE(world_.proxies.contains("n1") && world_.proxies.at("n1")->spec.remove_kube_proxy);
}

TEST_F(KubeProxyTest, WithoutTheRightToSeeItNothingIsTouched) {
  MakeCluster(2);
  world_.kube_proxy_unknown = "forbidden";
  TakeOver();
  EXPECT_EQ(Status().phase, "Complete");
  EXPECT_EQ(Reason(kType), "KubeProxyUnknown");
  EXPECT_THAT(Message(kType), HasSubstr("forbidden"));
  ExpectAsAtFirst();
  // Nor is ours taken from a node that was taken over.
  world_.kube_proxy_unknown = "";
  TakeOver();
  EXPECT_EQ(Replaced(), 2);
  world_.kube_proxy_unknown = "forbidden";
  world_.Delete("main");
  EXPECT_FALSE(Until([&] { return !world_.configurations.contains("main"); }));
  EXPECT_EQ(world_.proxies.size(), 2U);
}

// Its NodeProxy and its configuration went without the operator.
TEST_F(KubeProxyTest, ANodeThatNobodyAnswersForIsGivenBack) {
  MakeCluster(2);
  bounded_ = false;
  TakeOver();
  world_.configurations.clear();
  world_.proxies.clear();
  world_.after_write = {};
  world_.Settle();
  ExpectAsAtFirst();
}

TEST_F(KubeProxyTest, ANodeWhereOursDoesNotServeForLongIsGivenBack) {
  MakeCluster(2);
  TakeOver();
  world_.after_write = {};
  world_.agents.at("n1").can_run = {};
  ASSERT_TRUE(Until([&] { return !world_.IsReplaced("n1") && world_.Serves("n1"); }));
  EXPECT_TRUE(world_.IsReplaced("n2"));
  world_.agents.at("n1").can_run = {kube::Mode::kIpvs};
  EXPECT_TRUE(
      Until([&] { return world_.IsReplaced("n1") && !world_.kube_proxies.contains("n1"); }));
}

TEST_F(KubeProxyTest, AnotherConfigurationThatLeavesItGivesItBack) {
  MakeCluster(3);
  TakeOver();
  world_.SetLabels("n1", {{"pool", "b"}, {kKubeProxyLabel, kReplaced}});
  world_.Apply("other", R"({"priority": 1, "nodeSelector": {"matchLabels": {"pool": "b"}},
                            "rollout": {"canary": {"nodes": 0}, "minReady": "0s"}})");
  bounded_ = false;
  world_.Settle();
  EXPECT_EQ(Replaced(), 2);
  EXPECT_TRUE(world_.kube_proxies.contains("n1"));
  EXPECT_EQ(Status().phase, "Complete");
  EXPECT_EQ(Status("other").phase, "Complete");
  EXPECT_NE(world_.kube_proxy_set, world_.kube_proxy_set_at_first);
}

TEST_F(KubeProxyTest, KilledAfterAnyWriteItArrives) {
  for (size_t writes = 0; writes < 40; ++writes) {
    world_ = FakeWorld();
    MakeCluster(3);
    world_.Apply("main", kTakeOver);
    size_t left = writes;
    for (int round = 0; round < 60; ++round) {
      const size_t now = std::min<size_t>(left, 1);
      world_.Perform(world_.MakePlan(), left > 0 ? 1 : SIZE_MAX);
      left -= now;
      world_.ChangeLeader();
      world_.StepAgents();
      world_.StepKubeProxy();
      world_.Advance(seconds(1));
    }
    world_.Settle();
    ASSERT_EQ(Replaced(), 3) << writes;
    EXPECT_EQ(Cleaned(), 3U) << writes;
    world_.Delete("main");
    world_.Settle();
    ExpectAsAtFirst();
    EXPECT_EQ(world_.removals_beside_kube_proxy, 0) << writes;
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace pointsman::op

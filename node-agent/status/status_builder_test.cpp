#include "node-agent/status/status_builder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pointsman::agent {
namespace {

using kube::ConditionStatus;
using testing::AllOf;
using testing::HasSubstr;

class StatusBuilderTest : public testing::Test {
 protected:
  StatusBuilderTest() {
    proxy_.generation = 3;
    proxy_.spec.revision = 7;
    proxy_.spec.settings.mode = kube::Mode::kIpvs;
    modes_.desired = kube::Mode::kIpvs;
    modes_.active = kube::Mode::kIpvs;
    modes_.synced_once = true;
    modes_.preflight = PreflightResult{
        .passed = true, .reason = "PreflightPassed", .modules = {{"ip_vs", "LoadedNow"}}};
    input_ = {.proxy = &proxy_,
              .modes = &modes_,
              .services = 2,
              .endpoints = 5,
              .caches_synced = true,
              .applied = true,
              .kernel_release = "6.1.176",
              .now = "2026-01-02T03:04:05Z"};
  }
  const kube::Condition& Get(const kube::NodeProxyStatus& status, const std::string& type) {
    const kube::Condition* condition = kube::FindCondition(status.conditions, type);
    EXPECT_NE(condition, nullptr) << type;
    static const kube::Condition kNone;
    return condition != nullptr ? *condition : kNone;
  }

  kube::NodeProxy proxy_;
  ModeState modes_;
  StatusInput input_;
};

TEST_F(StatusBuilderTest, TheDesiredModeServes) {
  const auto status = BuildStatus(input_, {});
  EXPECT_EQ(status.observed_revision, 7);
  EXPECT_EQ(status.observed_generation, 3);
  EXPECT_EQ(status.active_mode, "ipvs");
  EXPECT_EQ(status.last_sync, input_.now);
  for (const char* type : {"PreflightPassed", "ModulesLoaded", "RulesSynced", "Ready"}) {
    EXPECT_EQ(Get(status, type).status, ConditionStatus::kTrue) << type;
    EXPECT_EQ(Get(status, type).observed_generation, 3) << type;
    EXPECT_FALSE(Get(status, type).reason.empty()) << type;
  }
  EXPECT_EQ(Get(status, "Degraded").status, ConditionStatus::kFalse);
}

TEST_F(StatusBuilderTest, AKubeProxyThatServesIsTold) {
  proxy_.spec.provider = kube::Provider::kKubeProxy;
  auto status = BuildStatus(input_, {});
  EXPECT_EQ(status.observed_revision, 7);
  EXPECT_EQ(Get(status, "RulesSynced").message,
            "ipvs rules were written by kube-proxy, and read back");
  EXPECT_EQ(Get(status, "Ready").message,
            "kube-proxy in mode ipvs serves this node's Service traffic");

  // It has the mode, and the kernel not everything yet.
  modes_.synced_once = false;
  modes_.waits_for = "kube-proxy: the kernel does not have all endpoints";
  proxy_.spec.revision = 8;
  status = BuildStatus(input_, status);
  EXPECT_EQ(status.observed_revision, 7);
  EXPECT_EQ(Get(status, "RulesSynced").reason, "NotReadBackYet");
  EXPECT_EQ(Get(status, "RulesSynced").message, modes_.waits_for);
  EXPECT_EQ(Get(status, "Ready").status, ConditionStatus::kFalse);
  EXPECT_EQ(Get(status, "Degraded").status, ConditionStatus::kFalse) << "it restarts";
  // It does not answer.
  modes_.active.reset();
  status = BuildStatus(input_, status);
  EXPECT_EQ(Get(status, "RulesSynced").message, modes_.waits_for);
  EXPECT_EQ(status.active_mode, "");
}

TEST_F(StatusBuilderTest, ServicesThatAreNotServedAsSpecifiedAreNamed) {
  EXPECT_EQ(Get(BuildStatus(input_, {}), "ServicesAccepted").status, ConditionStatus::kTrue);
  input_.services_not_as_written = 2;
  input_.not_as_written = {{"default/web", "spec.externalIPs: 10.0.0.1 is the API server's"}};
  const auto status = BuildStatus(input_, {});
  EXPECT_EQ(Get(status, "ServicesAccepted").status, ConditionStatus::kFalse);
  EXPECT_THAT(
      Get(status, "ServicesAccepted").message,
      AllOf(HasSubstr("2 Services are not"), HasSubstr("default/web"), HasSubstr("10.0.0.1")));
  // The node is none the worse for it.
  EXPECT_EQ(Get(status, "Ready").status, ConditionStatus::kTrue);
  EXPECT_EQ(Get(status, "Degraded").status, ConditionStatus::kFalse);
  EXPECT_EQ(status.observed_revision, 7);
}

TEST_F(StatusBuilderTest, NeighboursAreNamedAndStayUntilTheyAreLookedForAgain) {
  const kube::NeighbourStatus npm{
      "azure-npm", "PolicyEngine", {{"ipvs", "Refused"}, {"iptables", "Fine"}}, "found by …"};
  input_.neighbours = {.known = true, .neighbours = {npm}};
  const auto status = BuildStatus(input_, {});
  EXPECT_THAT(status.neighbours, testing::ElementsAre(npm));
  // A warning, or what is accepted, makes no node the worse.
  EXPECT_EQ(Get(status, "Degraded").status, ConditionStatus::kFalse);
  input_.neighbours = {};
  EXPECT_THAT(BuildStatus(input_, status).neighbours, testing::ElementsAre(npm));
  input_.neighbours = {.known = true};
  EXPECT_THAT(BuildStatus(input_, status).neighbours, testing::IsEmpty());
}

TEST_F(StatusBuilderTest, AModeThatRunsBesideWhatRefusesItIsDegradedAndServes) {
  input_.neighbours = {.known = true, .refusals = {"azure-npm: why"}};
  const auto status = BuildStatus(input_, {});
  EXPECT_EQ(Get(status, "Degraded").status, ConditionStatus::kTrue);
  EXPECT_EQ(Get(status, "Degraded").reason, "NeighbourRefused");
  EXPECT_THAT(Get(status, "Degraded").message,
              AllOf(HasSubstr("ipvs goes on"), HasSubstr("azure-npm")));
  EXPECT_EQ(Get(status, "Ready").status, ConditionStatus::kTrue);
  EXPECT_EQ(status.observed_revision, 7);
}

TEST_F(StatusBuilderTest, NothingChangedMeansTheSameStatusLater) {
  const auto first = BuildStatus(input_, {});
  input_.now = "2026-01-02T04:00:00Z";
  EXPECT_EQ(BuildStatus(input_, first), first);
}

TEST_F(StatusBuilderTest, SysctlsStayAsTheyWereSaidUntilTheyAreReadAgain) {
  input_.sysctls = std::vector{kube::SysctlStatus{"net.ipv4.vs.conn_reuse_mode", "1"}};
  const auto first = BuildStatus(input_, {});
  input_.sysctls.reset();  // a restarted agent before its first sync
  EXPECT_EQ(BuildStatus(input_, first).sysctls, first.sysctls);
  input_.sysctls = std::vector{kube::SysctlStatus{"net.ipv4.vs.conn_reuse_mode", "0"}};
  EXPECT_TRUE(DiffersInSubstance(first, BuildStatus(input_, first)));
  input_.sysctls.emplace();  // removed from the node
  EXPECT_TRUE(BuildStatus(input_, first).sysctls.empty());
}

TEST_F(StatusBuilderTest, NumbersAloneAreNoSubstance) {
  const auto first = BuildStatus(input_, {});
  input_.services = 3;
  input_.now = "2026-01-02T04:00:00Z";
  const auto second = BuildStatus(input_, first);
  EXPECT_NE(second, first);
  EXPECT_EQ(second.last_sync, input_.now);
  EXPECT_FALSE(DiffersInSubstance(first, second));
  modes_.problems = {{"10.0.0.1:80", "no room"}};
  EXPECT_TRUE(DiffersInSubstance(first, BuildStatus(input_, first)));
}

TEST_F(StatusBuilderTest, FallbackSaysWhatRunsAndWhy) {
  modes_.active = kube::Mode::kIptables;
  modes_.preflight = PreflightResult{.passed = false,
                                     .reason = "ModuleMissing",
                                     .message = "kernel 6.18 has no ip_vs",
                                     .modules = {{"ip_vs", "Missing"}, {"dummy", "Builtin"}}};
  modes_.fallback_reason = "ipvs: kernel 6.18 has no ip_vs";
  const auto status = BuildStatus(input_, {});
  EXPECT_EQ(status.observed_revision, 7) << "a fallback is an answer to the revision";
  EXPECT_EQ(Get(status, "Ready").status, ConditionStatus::kTrue);
  EXPECT_EQ(Get(status, "PreflightPassed").reason, "ModuleMissing");
  EXPECT_EQ(Get(status, "ModulesLoaded").message, "missing: ip_vs");
  EXPECT_EQ(Get(status, "Degraded").reason, "Fallback");
  EXPECT_THAT(Get(status, "Degraded").message,
              HasSubstr("iptables runs instead of ipvs: ipvs: kernel 6.18 has no ip_vs"));
}

TEST_F(StatusBuilderTest, ARevertedHandoverDoesNotObserveTheRevision) {
  kube::NodeProxyStatus before;
  before.observed_revision = 6;
  modes_.active = kube::Mode::kIptables;
  modes_.reverted_reason = "handover to ipvs was reverted: default/web";
  const auto status = BuildStatus(input_, before);
  EXPECT_EQ(status.observed_revision, 6);
  EXPECT_EQ(Get(status, "Degraded").reason, "HandoverReverted");
}

TEST_F(StatusBuilderTest, AHandoverThatIsStillWatchedDoesNotObserveTheRevision) {
  modes_.watching = "clients' connections are watched: ipvs serves them instead of iptables";
  const auto status = BuildStatus(input_, {});
  EXPECT_EQ(status.observed_revision, 0);
  EXPECT_EQ(Get(status, "Ready").status, ConditionStatus::kTrue);
  EXPECT_EQ(Get(status, "Degraded").status, ConditionStatus::kFalse);
  EXPECT_EQ(Get(status, "Degraded").message, modes_.watching);
}

// No failure: a rollout goes on.
TEST_F(StatusBuilderTest, AHandoverThatWaitsDoesNotObserveTheRevision) {
  kube::NodeProxyStatus before;
  before.observed_revision = 6;
  modes_.active = kube::Mode::kIptables;
  modes_.waits_for = "Felix has not looked yet";
  const auto status = BuildStatus(input_, before);
  EXPECT_EQ(status.observed_revision, 6);
  EXPECT_EQ(Get(status, "Degraded").status, ConditionStatus::kFalse);
  EXPECT_EQ(Get(status, "Degraded").reason, "HandoverWaiting");
  EXPECT_THAT(Get(status, "Degraded").message,
              AllOf(HasSubstr("iptables serves"), HasSubstr("Felix has not looked yet")));
  EXPECT_EQ(Get(status, "Ready").status, ConditionStatus::kTrue);
}

TEST_F(StatusBuilderTest, AModeThatOthersAreNotReadyForIsDegradedAndServes) {
  modes_.not_ready = "Felix has not looked yet";
  const auto status = BuildStatus(input_, {});
  EXPECT_EQ(Get(status, "Degraded").status, ConditionStatus::kTrue);
  EXPECT_EQ(Get(status, "Degraded").reason, "NeighbourNotReady");
  EXPECT_THAT(Get(status, "Degraded").message,
              AllOf(HasSubstr("ipvs serves"), HasSubstr("Felix has not looked yet")));
  EXPECT_EQ(Get(status, "Ready").status, ConditionStatus::kTrue);
  EXPECT_EQ(status.observed_revision, 7);
}

TEST_F(StatusBuilderTest, BeforeTheListsAreThereItSaysWhatItWaitsFor) {
  modes_ = ModeState{};
  input_.caches_synced = input_.applied = false;
  const auto status = BuildStatus(input_, {});
  EXPECT_EQ(status.active_mode, "");
  EXPECT_EQ(Get(status, "Ready").status, ConditionStatus::kFalse);
  EXPECT_THAT(Get(status, "RulesSynced").message, HasSubstr("waiting for the API server"));
}

TEST_F(StatusBuilderTest, RemovedIsToldWithItsRevision) {
  proxy_.spec.removed = true;
  modes_ = ModeState{};
  const auto status = BuildStatus(input_, {});
  EXPECT_EQ(status.observed_revision, 7);
  EXPECT_EQ(status.active_mode, "");
  EXPECT_EQ(Get(status, "Ready").reason, "Removed");
}

TEST_F(StatusBuilderTest, OneFamilyThatIsNotServedIsSaidAndLeavesTheNodeReady) {
  modes_.problems = {{"iptables rules of IPv6", "MARK is refused", net::Family::kIPv6}};
  const auto status = BuildStatus(input_, {});
  EXPECT_EQ(Get(status, "Ready").status, ConditionStatus::kTrue);
  EXPECT_EQ(Get(status, "RulesSynced").status, ConditionStatus::kTrue);
  EXPECT_THAT(Get(status, "RulesSynced").message, HasSubstr("but for iptables rules of IPv6"));
  EXPECT_EQ(Get(status, "Degraded").reason, "FamilyNotServed");
  EXPECT_THAT(Get(status, "Degraded").message, HasSubstr("MARK is refused"));
  EXPECT_EQ(status.observed_revision, 7);
  modes_.failed = true;
  const auto failed = BuildStatus(input_, {});
  EXPECT_EQ(Get(failed, "Ready").reason, "SyncFailed");
  EXPECT_EQ(Get(failed, "RulesSynced").reason, "SyncFailed");
  EXPECT_EQ(Get(failed, "Degraded").reason, "SyncFailed");
  EXPECT_EQ(failed.observed_revision, 0);
}

TEST_F(StatusBuilderTest, AStepThatIsTriedAgainIsSaid) {
  const std::map<std::string, std::string> failing{{"remove iptables", "No buffer space"}};
  input_.failing_steps = &failing;
  const auto removal = BuildStatus(input_, {});
  EXPECT_EQ(Get(removal, "Ready").status, ConditionStatus::kTrue);
  EXPECT_EQ(Get(removal, "Degraded").reason, "Retrying");
  EXPECT_THAT(Get(removal, "Degraded").message, HasSubstr("remove iptables: No buffer space"));
  EXPECT_EQ(removal.observed_revision, 7) << "the revision is in effect";
  modes_.unfinished = "ipvs could not be set up";
  const auto unfinished = BuildStatus(input_, {});
  EXPECT_EQ(unfinished.observed_revision, 0) << "it is not";
  EXPECT_THAT(Get(unfinished, "Degraded").message, HasSubstr("ipvs could not be set up; "));
}

TEST_F(StatusBuilderTest, WhatTheNodeLacksIsSaid) {
  input_.missing = "the Node has no spec.podCIDRs yet";
  const auto status = BuildStatus(input_, {});
  EXPECT_EQ(Get(status, "Ready").status, ConditionStatus::kTrue);
  EXPECT_EQ(Get(status, "Degraded").reason, "NodeIncomplete");
  EXPECT_EQ(Get(status, "Degraded").message, input_.missing);
}

}  // namespace
}  // namespace pointsman::agent

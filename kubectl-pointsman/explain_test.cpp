#include "kubectl-pointsman/explain.h"

#include <gmock/gmock.h>

#include "kubectl-pointsman/testing_objects.h"

namespace pointsman::plugin {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

kube::Node ReadyNode() {
  kube::Node node;
  node.name = "node-1";
  node.ready = true;
  return node;
}

ExplainInput Input(kube::NodeProxy proxy) {
  ExplainInput input;
  input.name = "node-1";
  input.node = ReadyNode();
  input.proxy = std::move(proxy);
  input.configuration = Configuration(R"({"status": {"phase": "Complete", "currentRevision": 2}})");
  input.now = At("2026-01-01T13:00:00Z");
  return input;
}

kube::NodeProxy With(const nlohmann::json& degraded, const std::string& active = "iptables") {
  nlohmann::json object = ProxyJson("node-1", "ipvs", 2);
  object["status"]["activeMode"] = active;
  object["status"]["conditions"][1] = degraded;
  return kube::NodeProxyFromJson(object);
}

std::string TextOf(const ExplainInput& input) {
  return ExplanationText(input, Explain(input));
}

TEST(ExplainTest, ANodeThatIsAsItShouldBe) {
  const ExplainInput input = Input(Proxy("node-1", "ipvs", 2));
  EXPECT_EQ(TextOf(input),
            "Node node-1, kernel 6.1.0\n"
            "  It should run ipvs (revision 2 of ProxyConfiguration cluster) and runs ipvs.\n"
            "  It serves 21 Services with 241 endpoints; last written at no known time.\n");
  EXPECT_EQ(Explain(input).outcome, ExitCode::kOk);
}

TEST(ExplainTest, AFallbackHasItsReasonAndARemedy) {
  nlohmann::json object = ProxyJson("node-1", "ipvs", 2);
  object["status"]["activeMode"] = "iptables";
  object["status"]["conditions"] = {
      ConditionJson("Degraded", "True", "Fallback",
                    "iptables runs instead of ipvs: kernel 6.1.0 has no ip_vs"),
      ConditionJson("PreflightPassed", "False", "ModuleMissing", "kernel 6.1.0 has no ip_vs"),
      ConditionJson("Ready", "True", "Serving", "")};
  EXPECT_EQ(Explain(Input(kube::NodeProxyFromJson(object))).outcome, ExitCode::kObjections);
  const std::string text = TextOf(Input(kube::NodeProxyFromJson(object)));
  EXPECT_THAT(text, AllOf(HasSubstr("should run ipvs (revision 2"), HasSubstr("runs iptables"),
                          HasSubstr("! Degraded (Fallback): iptables runs instead of ipvs"),
                          HasSubstr("What to do: ")));
  EXPECT_THAT(text, Not(HasSubstr("PreflightPassed ("))) << "it says the same again: " << text;
}

TEST(ExplainTest, ARevertedHandoverIsAFailure) {
  const ExplainInput input =
      Input(With(ConditionJson("Degraded", "True", "HandoverReverted",
                               "12 of 12 new connections of 3 clients stayed unanswered")));
  EXPECT_EQ(Explain(input).outcome, ExitCode::kFailed);
  EXPECT_THAT(TextOf(input), AllOf(HasSubstr("HandoverReverted"), HasSubstr("tries again")));
}

TEST(ExplainTest, WhatAHandoverWaitsForIsNoTrouble) {
  const ExplainInput input =
      Input(With(ConditionJson("Degraded", "False", "HandoverWaiting", "Felix has no chain yet")));
  EXPECT_EQ(Explain(input).outcome, ExitCode::kNotFinished);
  EXPECT_THAT(TextOf(input), HasSubstr("A handover is under way: Felix has no chain yet"));
}

TEST(ExplainTest, ASilentAgentIsNamedWithWhereToLook) {
  const ExplainInput input =
      Input(Proxy("node-1", "ipvs", 2, R"({"metadata": {"generation": 9}})"));
  EXPECT_EQ(Explain(input).outcome, ExitCode::kNotFinished);
  EXPECT_THAT(TextOf(input), AllOf(HasSubstr("has not seen the present order"),
                                   HasSubstr("spec.nodeName=node-1")));
}

TEST(ExplainTest, APausedRolloutIsTheReasonWhyARevisionIsNotThere) {
  ExplainInput input = Input(Proxy("node-1", "iptables", 1));
  input.configuration = Configuration(R"({"spec": {"rollout": {"paused": true}}})");
  EXPECT_THAT(TextOf(input), HasSubstr("kubectl pointsman resume"));
  EXPECT_EQ(Explain(input).outcome, ExitCode::kNotFinished);
}

TEST(ExplainTest, NoNodeAndNoOrder) {
  ExplainInput input;
  input.name = "node-9";
  EXPECT_EQ(Explain(input).outcome, ExitCode::kNotFound);
  EXPECT_THAT(TextOf(input), HasSubstr("no node of this name"));
  input.node = ReadyNode();
  EXPECT_THAT(TextOf(input), HasSubstr("no ProxyConfiguration selects it"));
}

kube::Pod KubeProxyPod(const std::string& name, const std::string& revision, bool ready) {
  kube::Pod pod;
  pod.name = name;
  pod.ready = ready;
  if (!revision.empty()) pod.labels["pointsman.io/kube-proxy-revision"] = revision;
  return pod;
}

TEST(ExplainTest, AKubeProxyThatStaysHasItsBindingAndThePodThatIsWaitedFor) {
  ExplainInput input = Input(Proxy("node-1", "nftables", 2, R"({
    "spec": {"provider": "KubeProxy"}, "status": {"activeMode": "ipvs", "observedRevision": 1}})"));
  input.node->labels["pointsman.io/kube-proxy-revision"] = "2";
  input.kube_proxy_pods = {KubeProxyPod("kube-proxy-old", "", true)};
  EXPECT_THAT(TextOf(input),
              AllOf(HasSubstr("Its kube-proxy should run nftables (revision 2"),
                    HasSubstr("and runs ipvs."), HasSubstr("bound to revision 2"),
                    HasSubstr("Pod kube-proxy-old is there, too: it serves until its end"),
                    HasSubstr("! There is no Pod of kube-proxy of revision 2 on it yet")));
  EXPECT_EQ(Explain(input).outcome, ExitCode::kNotFinished);

  input.kube_proxy_pods = {KubeProxyPod("kube-proxy-2", "2", false)};
  EXPECT_THAT(TextOf(input), HasSubstr("Pod kube-proxy-2 of revision 2 is not Ready"));
  input.kube_proxy_pods = {KubeProxyPod("kube-proxy-2", "2", true)};
  EXPECT_THAT(TextOf(input), HasSubstr("Pod kube-proxy-2 of revision 2 is Ready"));

  // The revision has become the cluster's own, and its Pod has been adopted.
  input.node->labels.clear();
  EXPECT_THAT(TextOf(input), AllOf(HasSubstr("reads the cluster's own ConfigMap"),
                                   HasSubstr("kube-proxy's Pod kube-proxy-2 is Ready")));
  input.kube_proxy_pods.reset();
  EXPECT_THAT(TextOf(input), Not(HasSubstr("Pod ")));
}

TEST(ExplainTest, HostileTextDoesNothingToATerminal) {
  nlohmann::json object = ProxyJson("node-1", "ipvs", 2);
  for (const char* field : {"activeMode", "drainingMode", "agentVersion", "lastSync"})
    object["status"][field] = kHostile;
  object["status"]["kernel"]["release"] = kHostile;
  object["status"]["conditions"] = {ConditionJson("Degraded", "True", kHostile, kHostile),
                                    ConditionJson("PreflightPassed", "True", "a", kHostile)};
  object["status"]["candidate"] = {{"revision", 2}, {"mode", kHostile}, {"message", kHostile}};
  object["spec"]["candidate"] = {{"revision", 2}, {"mode", "ipvs"}};
  object["status"]["neighbours"] = {{{"name", kHostile},
                                     {"kind", kHostile},
                                     {"modes", {{"ipvs", kHostile}}},
                                     {"message", kHostile}}};
  ExplainInput input = Input(kube::NodeProxyFromJson(object));
  input.name = kHostile;
  input.events = {{kHostile, kHostile, kHostile, kHostile, kHostile, 3}};
  input.not_read = {kHostile};
  input.proxy->spec.provider = kube::Provider::kKubeProxy;
  input.node->labels["pointsman.io/kube-proxy-revision"] = kHostile;
  input.kube_proxy_pods = {KubeProxyPod(kHostile, "", true),
                           KubeProxyPod(kHostile, kHostile, false)};
  EXPECT_TRUE(IsHarmless(TextOf(input))) << TextOf(input);
}

}  // namespace
}  // namespace pointsman::plugin

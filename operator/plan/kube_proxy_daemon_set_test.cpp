// On DaemonSets as installers make them: what is written into them, and that they become again what
// they were.
#include "operator/plan/kube_proxy_daemon_set.h"

#include <gtest/gtest.h>

namespace pointsman::op {
namespace {

using nlohmann::json;

// Of kubeadm 1.29 as the API server has it, shortened: no affinity at all.
const json kKubeadm = json::parse(R"({
  "apiVersion": "apps/v1", "kind": "DaemonSet",
  "metadata": {"name": "kube-proxy", "namespace": "kube-system", "uid": "u1", "resourceVersion": "7",
               "annotations": {"deprecated.daemonset.template.generation": "1"},
               "labels": {"k8s-app": "kube-proxy"}},
  "spec": {
    "revisionHistoryLimit": 10,
    "selector": {"matchLabels": {"k8s-app": "kube-proxy"}},
    "template": {
      "metadata": {"labels": {"k8s-app": "kube-proxy"}},
      "spec": {"containers": [{"name": "kube-proxy", "image": "registry.k8s.io/kube-proxy:v1.29.0"}],
               "hostNetwork": true, "nodeSelector": {"kubernetes.io/os": "linux"},
               "priorityClassName": "system-node-critical",
               "tolerations": [{"operator": "Exists"}]}},
    "updateStrategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1},
                       "type": "RollingUpdate"}}})");

// Of EKS' addon, with its affinity; a second term as a pool's owner would add it.
json Eks() {
  json set = kKubeadm;
  set["spec"]["template"]["spec"]["affinity"] = json::parse(R"({
    "nodeAffinity": {
      "preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 1, "preference": {"matchExpressions": [{"key": "fast", "operator": "Exists"}]}}],
      "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [
          {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]},
          {"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64", "arm64"]},
          {"key": "eks.amazonaws.com/compute-type", "operator": "NotIn",
           "values": ["fargate", "hybrid", "auto"]}]},
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["odd"]}]}]}},
    "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
      {"topologyKey": "kubernetes.io/hostname",
       "labelSelector": {"matchLabels": {"k8s-app": "kube-proxy"}}}]}})");
  set["spec"]["updateStrategy"] = {{"type", "RollingUpdate"},
                                   {"rollingUpdate", {{"maxSurge", 0}, {"maxUnavailable", "10%"}}}};
  return set;
}

KubeProxyDaemonSet Read(const json& object) {
  return DecodeKubeProxyDaemonSet(object.dump());
}
json TakenOver(json object) {
  object.merge_patch(PatchToLeaveOutReplaced(Read(object)));
  return object;
}
json Restored(json object) {
  object.merge_patch(PatchToRestore(Read(object)));
  return object;
}
kube::Node NodeOf(std::map<std::string, std::string> labels) {
  kube::Node node;
  node.name = "n1";
  node.labels = std::move(labels);
  node.labels["kubernetes.io/os"] = "linux";
  node.labels["kubernetes.io/arch"] = "amd64";
  return node;
}
bool IsFor(const json& object, const kube::Node& node) {
  return Read(object).placement.WhyNot(node).empty();
}
json& Terms(json& object) {
  return object["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
               ["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
}

TEST(KubeProxyDaemonSetTest, LeavesOutTheNodesWithTheLabelAndRestartsNothing) {
  for (const json& before : {kKubeadm, Eks()}) {
    const json after = TakenOver(before);
    EXPECT_TRUE(IsFor(before, NodeOf({{kKubeProxyLabel, kReplaced}})));
    EXPECT_FALSE(IsFor(after, NodeOf({{kKubeProxyLabel, kReplaced}})));
    EXPECT_TRUE(IsFor(after, NodeOf({})));
    EXPECT_TRUE(IsFor(after, NodeOf({{kKubeProxyLabel, "true"}})));
    EXPECT_EQ(after["spec"]["updateStrategy"], json({{"type", "OnDelete"}}));
    EXPECT_FALSE(LeavesOutReplaced(Read(before)));
    EXPECT_TRUE(LeavesOutReplaced(Read(after)));
    EXPECT_FALSE(IsChanged(Read(before)));
    EXPECT_TRUE(IsChanged(Read(after)));
    EXPECT_TRUE(PatchToLeaveOutReplaced(Read(after)).empty()) << "once is enough";
  }
}

TEST(KubeProxyDaemonSetTest, BecomesWhatItWasByteForByte) {
  for (const json& before : {kKubeadm, Eks()}) {
    EXPECT_EQ(Restored(TakenOver(before)).dump(), before.dump());
    EXPECT_TRUE(PatchToRestore(Read(before)).empty()) << "an untouched one stays as it is";
  }
  json empty = kKubeadm;
  empty["spec"]["template"]["spec"]["affinity"] = json::object();
  EXPECT_EQ(Restored(TakenOver(empty)).dump(), empty.dump());
}

TEST(KubeProxyDaemonSetTest, EveryTermLeavesThemOut) {
  json taken = TakenOver(Eks());
  ASSERT_EQ(Terms(taken).size(), 2U);
  kube::Node odd = NodeOf({{kKubeProxyLabel, kReplaced}});
  odd.name = "odd";
  EXPECT_TRUE(IsFor(Eks(), odd));
  EXPECT_FALSE(IsFor(taken, odd));
  Terms(taken)[1].erase("matchExpressions");
  EXPECT_FALSE(LeavesOutReplaced(Read(taken)));
}

// A term without requirements holds for no node. With ours alone it would hold for nearly all.
TEST(KubeProxyDaemonSetTest, ATermForNoNodeStaysOne) {
  json set = Eks();
  Terms(set).push_back(json::object());
  const json taken = TakenOver(set);
  kube::Node other = NodeOf({{"eks.amazonaws.com/compute-type", "fargate"}});
  EXPECT_FALSE(IsFor(taken, other));
  EXPECT_TRUE(LeavesOutReplaced(Read(taken)));
  EXPECT_EQ(Restored(taken).dump(), set.dump());
}

TEST(KubeProxyDaemonSetTest, WhatOthersChangeMeanwhileStays) {
  json taken = TakenOver(Eks());
  Terms(taken)[0]["matchExpressions"].push_back({{"key", "new"}, {"operator", "DoesNotExist"}});
  taken["spec"]["template"]["spec"]["containers"][0]["image"] =
      "registry.k8s.io/kube-proxy:v1.30.0";
  json wanted = Eks();
  Terms(wanted)[0]["matchExpressions"].push_back({{"key", "new"}, {"operator", "DoesNotExist"}});
  wanted["spec"]["template"]["spec"]["containers"][0]["image"] =
      "registry.k8s.io/kube-proxy:v1.30.0";
  EXPECT_EQ(Restored(taken).dump(), wanted.dump());

  json strategy = TakenOver(kKubeadm);
  strategy["spec"]["updateStrategy"] = {{"type", "RollingUpdate"},
                                        {"rollingUpdate", {{"maxUnavailable", 3}}}};
  wanted = kKubeadm;
  wanted["spec"]["updateStrategy"] = strategy["spec"]["updateStrategy"];
  EXPECT_EQ(Restored(strategy).dump(), wanted.dump());
}

// kubeadm upgrade and addon managers write the object as they know it; the annotation stays, or
// goes with the rest.
TEST(KubeProxyDaemonSetTest, WhoPutsItBackIsFollowed) {
  const std::string kept = Read(TakenOver(kKubeadm)).before;
  json put_back = Eks();
  put_back["metadata"]["annotations"][kBeforeAnnotation] = kept;
  EXPECT_FALSE(LeavesOutReplaced(Read(put_back)));
  EXPECT_EQ(Restored(TakenOver(put_back)).dump(), Eks().dump());

  json without = TakenOver(Eks());
  without["metadata"]["annotations"].erase(kBeforeAnnotation);
  json wanted = Eks();
  wanted["spec"]["updateStrategy"] = {{"type", "OnDelete"}};  // nobody knows it any more
  EXPECT_TRUE(IsChanged(Read(without)));
  EXPECT_EQ(Restored(without).dump(), wanted.dump());
  EXPECT_EQ(Restored(TakenOver(without)).dump(), wanted.dump());
}

TEST(KubeProxyDaemonSetTest, AnAnnotationOfSomebodyElsesMakingIsNoHarm) {
  for (const char* text : {"", "{", "[]", "null", R"({"affinity": 1, "updateStrategy": {}})",
                           R"({"affinity": null, "updateStrategy": "x"})"}) {
    json set = TakenOver(kKubeadm);
    set["metadata"]["annotations"][kBeforeAnnotation] = text;
    const json restored = Restored(set);
    EXPECT_FALSE(restored["spec"]["template"]["spec"].contains("affinity")) << text;
    EXPECT_FALSE(IsChanged(Read(restored))) << text;
    EXPECT_TRUE(LeavesOutReplaced(Read(TakenOver(set)))) << text;
  }
}

}  // namespace
}  // namespace pointsman::op

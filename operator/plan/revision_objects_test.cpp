#include "operator/plan/revision_objects.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pointsman::op {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

const json kSet = json::parse(R"({
  "metadata": {"name": "kube-proxy", "uid": "u1", "resourceVersion": "7"},
  "spec": {
    "selector": {"matchLabels": {"k8s-app": "kube-proxy"}},
    "template": {
      "metadata": {"labels": {"k8s-app": "kube-proxy"}, "annotations": {"a": "b"}},
      "spec": {"containers": [{"name": "kube-proxy", "image": "kube-proxy:v1.31.0",
                               "command": ["kube-proxy", "--config=/c/config.conf"],
                               "volumeMounts": [{"name": "c", "mountPath": "/c"}]}],
               "hostNetwork": true, "priorityClassName": "system-node-critical",
               "tolerations": [{"operator": "Exists"}],
               "volumes": [{"name": "c", "configMap": {"name": "kube-proxy", "defaultMode": 420}},
                           {"name": "d", "configMap": {"name": "other"}}]}},
    "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}}}})");

const KubeProxyFile kFile{"kube-proxy", "config.conf", 31};

KubeProxyDaemonSet Own() {
  return DecodeKubeProxyDaemonSet(kSet.dump());
}
KubeProxyDaemonSet OwnTakenOut() {
  json set = kSet;
  set.merge_patch(PatchToLeaveOutReplaced(Own()));
  return DecodeKubeProxyDaemonSet(set.dump());
}
kube::Node NodeOf(std::map<std::string, std::string> labels) {
  kube::Node node;
  node.name = "n1";
  node.labels = std::move(labels);
  return node;
}
bool IsFor(const KubeProxyDaemonSet& set, std::map<std::string, std::string> labels) {
  return set.placement.WhyNot(NodeOf(std::move(labels))).empty();
}

TEST(RevisionObjects, EachNodeHasExactlyOneDaemonSet) {
  const KubeProxyDaemonSet own = OwnTakenOut();
  const auto seventh = DecodeKubeProxyDaemonSet(RevisionDaemonSet(own, kFile, 7).dump());
  const auto eighth = DecodeKubeProxyDaemonSet(RevisionDaemonSet(own, kFile, 8).dump());
  EXPECT_TRUE(IsFor(own, {}));
  EXPECT_FALSE(IsFor(seventh, {}));
  EXPECT_FALSE(IsFor(own, {{kRevisionLabel, "7"}}));
  EXPECT_TRUE(IsFor(seventh, {{kRevisionLabel, "7"}}));
  EXPECT_FALSE(IsFor(eighth, {{kRevisionLabel, "7"}}));
  EXPECT_EQ(seventh.revision, "7");
  EXPECT_EQ(seventh.name, "kube-proxy-pointsman-7");
}

TEST(RevisionObjects, TheDaemonSetIsTheClustersButForItsConfigMap) {
  const json made = RevisionDaemonSet(OwnTakenOut(), kFile, 7);
  // The same however often the cluster's was changed for it.
  EXPECT_EQ(made, RevisionDaemonSet(Own(), kFile, 7));
  json pod = made["spec"]["template"];
  EXPECT_EQ(pod["spec"]["volumes"][0]["configMap"]["name"], "kube-proxy-pointsman-7");
  pod["spec"]["volumes"][0]["configMap"]["name"] = "kube-proxy";
  EXPECT_EQ(pod["metadata"]["labels"][kRevisionLabel], "7");
  pod["metadata"]["labels"].erase(kRevisionLabel);
  EXPECT_EQ(pod["metadata"]["labels"][kDerivedLabel], DerivedFrom(Own(), kFile, 7));
  pod["metadata"]["labels"].erase(kDerivedLabel);
  const json apart =
      pod["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
  EXPECT_EQ(apart, json::parse(R"([{"labelSelector": {"matchLabels": {"k8s-app": "kube-proxy"}},
                                    "topologyKey": "kubernetes.io/hostname"}])"));
  pod["spec"].erase("affinity");
  EXPECT_EQ(pod, kSet["spec"]["template"]);
  // Its Pods are chosen by what none of the cluster's have, and can be adopted by the cluster's.
  EXPECT_EQ(made["spec"]["selector"]["matchLabels"], json({{kRevisionLabel, "7"}}));
  EXPECT_EQ(made["spec"]["template"]["metadata"]["labels"]["k8s-app"], "kube-proxy");
  EXPECT_EQ(made["spec"]["updateStrategy"]["type"], "OnDelete");
}

// EKS has the same anti-affinity by itself.
TEST(RevisionObjects, AffinitiesOfTheClustersStay) {
  json set = kSet;
  set["spec"]["template"]["spec"]["affinity"] = json::parse(R"({
    "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
      {"matchExpressions": [{"key": "arch", "operator": "In", "values": ["amd64"]}]}]}},
    "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
      {"topologyKey": "kubernetes.io/hostname",
       "labelSelector": {"matchLabels": {"k8s-app": "kube-proxy"}}}]}})");
  const json made = RevisionDaemonSet(DecodeKubeProxyDaemonSet(set.dump()), kFile, 7);
  EXPECT_EQ(made["spec"]["template"]["spec"]["affinity"]["podAntiAffinity"],
            set["spec"]["template"]["spec"]["affinity"]["podAntiAffinity"]);
  const auto read = DecodeKubeProxyDaemonSet(made.dump());
  EXPECT_FALSE(IsFor(read, {{kRevisionLabel, "7"}}));
  EXPECT_TRUE(IsFor(read, {{kRevisionLabel, "7"}, {"arch", "amd64"}}));
}

TEST(RevisionObjects, FollowsTheClustersTemplate) {
  const json made = RevisionDaemonSet(Own(), kFile, 7);
  const auto there = DecodeKubeProxyDaemonSet(made.dump());
  EXPECT_TRUE(PatchToDerive(there, Own(), kFile, 7).empty());
  json upgraded = kSet;
  upgraded["spec"]["template"]["spec"]["containers"][0]["image"] = "kube-proxy:v1.32.0";
  upgraded["spec"]["template"]["metadata"].erase("annotations");
  const auto own = DecodeKubeProxyDaemonSet(upgraded.dump());
  json patched = made;
  patched.merge_patch(PatchToDerive(there, own, kFile, 7));
  EXPECT_EQ(patched, RevisionDaemonSet(own, kFile, 7));
}

TEST(RevisionObjects, TheConfigMapHasTheOthersKeysAndCannotChange) {
  const auto own = DecodeKubeProxyConfigMap(R"({
    "metadata": {"name": "kube-proxy", "uid": "c1", "labels": {"app": "kube-proxy"}},
    "data": {"config.conf": "mode: ipvs\n", "kubeconfig.conf": "kind: Config\n"},
    "binaryData": {"b": "AA=="}})");
  const json made = RevisionConfigMap(own, kFile, "kube-proxy", 7, "mode: nftables\n");
  EXPECT_EQ(made["data"],
            json({{"config.conf", "mode: nftables\n"}, {"kubeconfig.conf", "kind: Config\n"}}));
  EXPECT_EQ(made["binaryData"], json({{"b", "AA=="}}));
  EXPECT_EQ(made["immutable"], true);
  EXPECT_EQ(made["metadata"]["name"], "kube-proxy-pointsman-7");
  const auto there = DecodeKubeProxyConfigMap(made.dump());
  EXPECT_TRUE(IsRevisionConfigMap(there, kFile, 7, "mode: nftables\n"));
  EXPECT_FALSE(IsRevisionConfigMap(there, kFile, 8, "mode: nftables\n"));
  EXPECT_FALSE(IsRevisionConfigMap(there, kFile, 7, "mode: ipvs\n"));
  auto changeable = there;
  changeable.immutable = false;
  EXPECT_FALSE(IsRevisionConfigMap(changeable, kFile, 7, "mode: nftables\n"));
}

TEST(RevisionObjects, ASurgeIsRefusedWhileItIsKeptAndAfter) {
  EXPECT_EQ(WhyNotByRevision(Own()), "");
  EXPECT_EQ(WhyNotByRevision(OwnTakenOut()), "");
  json set = kSet;
  set["spec"]["updateStrategy"]["rollingUpdate"] = {{"maxSurge", "10%"}, {"maxUnavailable", 0}};
  EXPECT_THAT(WhyNotByRevision(DecodeKubeProxyDaemonSet(set.dump())), HasSubstr("maxSurge"));
  set.merge_patch(PatchToLeaveOutReplaced(DecodeKubeProxyDaemonSet(set.dump())));
  EXPECT_THAT(WhyNotByRevision(DecodeKubeProxyDaemonSet(set.dump())), HasSubstr("maxSurge"));
}

TEST(RevisionObjects, LongNames) {
  EXPECT_LE(RevisionObjectName(std::string(253, 'a'), INT64_MAX).size(), 240U);
}

}  // namespace
}  // namespace pointsman::op

// What the API server and the operator refuse, and that the manifests are accepted.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "e2e/scenarios/scenario_fixture.h"

namespace pointsman::e2e {
namespace {

using std::chrono_literals::operator""s;

class AdmissionTest : public ScenarioTest {
 protected:
  void Start(const std::string& version) {
    WorldOptions options;
    options.kubernetes_version = version;
    StartWorld({"netns"}, std::move(options), TestName() + "-" + version);
  }

  static std::string Configuration(const std::string& spec) {
    return "apiVersion: pointsman.io/v1alpha1\nkind: ProxyConfiguration\nmetadata: {name: "
           "cluster}\n"
           "spec: {" +
           spec + "}\n";
  }
};

struct Bad {
  const char* spec;
  const char* field;  // that the refusal names
};

constexpr Bad kBad[] = {
    {"mode: ebpf", "spec.mode"},
    {"fallbackModes: [iptables]", "mode"},  // kubectl 1.20 says it in words of its own
    {"mode: ipvs, ipvs: {scheduler: fastest}", "spec.ipvs.scheduler"},
    {"mode: ipvs, ipvs: {tcpTimeout: -1s}", "spec.ipvs.tcpTimeout"},
    {"mode: ipvs, ipvs: {excludeCIDRs: [10.0.0.0/33]}", "spec.ipvs.excludeCIDRs"},
    {"mode: ipvs, clusterCIDR: 10.244.0.0", "spec.clusterCIDR"},
    {"mode: ipvs, nodePortAddresses: [primary, 10.0.0.0]", "nodePortAddresses"},
    {"mode: ipvs, iptables: {masqueradeBit: 32}", "spec.iptables.masqueradeBit"},
    {"mode: ipvs, rollout: {maxUnavailable: 200%}", "spec.rollout.maxUnavailable"},
    {"mode: ipvs, schedular: rr", "schedular"},
    {"mode: ipvs, detectLocalMode: BridgeInterface", "spec.detectLocal.bridgeInterface"},
    // These two by the rules of manifests/kubernetes-1.25.
    {"mode: ipvs, handover: {drainTimeout: 25h}", "drainTimeout"},
    {"mode: ipvs, rollout: {minReady: 10m, progressDeadline: 5m}", "progressDeadline"},
};

TEST_F(AdmissionTest, BadConfigurationsAreRefusedWithTheFieldNamed) {
  START_OR_RETURN(Start("1.35"));
  world_->MustKubectl(
      {"apply", "-k", std::string(POINTSMAN_SOURCE_DIR) + "/manifests/kubernetes-1.25"});
  world_->Apply(Configuration("mode: iptables"));
  const auto before = world_->ProxyConfiguration("cluster");
  for (const Bad& bad : kBad) {
    const RunResult result =
        world_->cluster().Kubectl({"apply", "-f", "-"}, Configuration(bad.spec));
    EXPECT_NE(result.exit, 0) << bad.spec << ": " << result.out;
    EXPECT_NE(result.out.find(bad.field), std::string::npos) << bad.spec << ": " << result.out;
  }
  EXPECT_EQ(world_->ProxyConfiguration("cluster"), before);
}

TEST_F(AdmissionTest, WhatAnOlderServerLetsThroughTheOperatorRefuses) {
  START_OR_RETURN(Start("1.20"));
  world_->StartOperator();
  world_->Apply(Configuration("mode: ipvs, handover: {drainTimeout: 25h}"));
  world_->MustKubectl({"wait", "--for=condition=Accepted=false", "--timeout=20s", "pxc/cluster"});
  const std::string text = world_->MustKubectl({"describe", "pxc", "cluster"});
  EXPECT_NE(text.find("spec.handover.drainTimeout"), std::string::npos) << text;
  EXPECT_TRUE(world_->NodeProxy("node-1").is_null()) << "nothing is rolled out";
}

TEST_F(AdmissionTest, TheManifestsAreAcceptedByOldAndNew) {
  for (const char* version : {"1.20", "1.35"}) {
    START_OR_RETURN(Start(version));
    const std::string source = POINTSMAN_SOURCE_DIR;
    world_->MustKubectl({"apply", "-k", source + "/manifests/base"});
    const std::string text = world_->MustKubectl(
        {"get", "-n", "pointsman-system", "deployments,daemonsets,serviceaccounts", "-o", "name"});
    for (const char* name : {"pointsman-operator", "pointsman-node-agent"}) {
      EXPECT_NE(text.find(name), std::string::npos) << text;
    }
    for (const char* overlay : {"selinux", "require-loaded", "local-metrics", "kube-proxy-provider",
                                "without-kube-proxy"})
      world_->MustKubectl({"apply", "-k", source + "/manifests/overlays/" + overlay});
    // The programs read the very ConfigMap that the overlay makes.
    const std::string config_map = world_->MustKubectl(
        {"get", "-n", "pointsman-system", "daemonset", "pointsman-node-agent", "-o",
         "jsonpath={.spec.template.spec.containers[0].env[1].valueFrom.configMapKeyRef.name}"});
    EXPECT_EQ(world_->MustKubectl({"get", "-n", "pointsman-system", "configmap", config_map, "-o",
                                   "jsonpath={.data.host}:{.data.port}"}),
              "CHANGE-ME:6443");
    for (const char* example :
         {"ipvs", "iptables", "ipvs-least-connection", "ipvs-pool", "kube-proxy-nftables"}) {
      world_->MustKubectl(
          {"apply", "-f", fmt::format("{}/crds/examples/{}.yaml", source, example)});
    }
    EndWorld();
  }
}

}  // namespace
}  // namespace pointsman::e2e

#include "e2e/testbed/kubelet/pod_spec.h"

#include <map>
#include <stdexcept>

#include <gtest/gtest.h>

#include "e2e/testbed/kubelet/capabilities.h"

namespace pointsman::e2e {
namespace {

using nlohmann::json;
using Data = std::map<std::string, std::string>;

const json kPod = json::parse(R"({
  "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
  "spec": {"nodeName": "node-1", "securityContext": {"runAsUser": 65532}, "volumes": [
    {"name": "sys", "hostPath": {"path": "/proc/sys/net", "type": "Directory"}},
    {"name": "tmp", "emptyDir": {}}, {"name": "secret", "secret": {"secretName": "s"}}]}})");

ContainerSpec Resolve(const char* container, const json& pod = kPod) {
  const PodPlace place{"10.244.1.2", "192.168.50.11", "10.96.0.1", 443, "/nowhere"};
  return ResolveContainer(
      pod, json::parse(container), place,
      [](const std::string& name) {
        return name == "settings" ? std::optional(Data{{"port", "7"}}) : std::nullopt;
      },
      "/volumes");
}

std::string Refusal(const char* container, const json& pod = kPod) {
  try {
    Resolve(container, pod);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "accepted";
}

TEST(PodSpecTest, ExpandsVariablesAsPodsDo) {
  const std::map<std::string, std::string> variables = {{"A", "1"}};
  EXPECT_EQ(ExpandVariables("$(A)-$$(A)-$(B)-$A-$", variables), "1-$(A)-$(B)-$A-$");
}

TEST(PodSpecTest, EnvironmentComesFromFieldsAndConfigMaps) {
  const auto command = Resolve(R"json({"command": ["x", "--node=$(NODE)"], "env": [
    {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
    {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    {"name": "KUBERNETES_SERVICE_PORT", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "port"}}},
    {"name": "NONE", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "no", "optional": true}}}]})json");
  EXPECT_EQ(command.argv, (std::vector<std::string>{"x", "--node=node-1"}));
  EXPECT_EQ(command.env.at("IP"), "10.244.1.2");
  EXPECT_EQ(command.env.at("KUBERNETES_SERVICE_HOST"), "10.96.0.1");
  EXPECT_EQ(command.env.at("KUBERNETES_SERVICE_PORT"), "7");
  EXPECT_FALSE(command.env.contains("NONE"));
}

TEST(PodSpecTest, ImagesStandForPrograms) {
  EXPECT_EQ(Resolve(R"({"image": "pointsman.io/traffic:1", "args": ["--tcp=80"]})").argv,
            (std::vector<std::string>{"pointsman-traffic", "serve", "--tcp=80"}));
  EXPECT_THROW(Resolve(R"({"image": "nginx"})"), std::invalid_argument);
}

TEST(PodSpecTest, CapabilitiesAreContainerdsUnlessDroppedOrAdded) {
  EXPECT_EQ(Resolve(R"({"command": ["x"]})").capabilities, DefaultCapabilities());
  const auto agent = Resolve(R"({"command": ["x"], "securityContext": {
    "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
    "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "CAP_SYS_MODULE"]}}})");
  EXPECT_EQ(agent.capabilities, (std::set<std::string>{"NET_ADMIN", "SYS_MODULE"}));
  EXPECT_TRUE(agent.no_new_privileges);
  EXPECT_TRUE(agent.read_only_root);
  const auto fewer =
      Resolve(R"({"command": ["x"], "securityContext": {"capabilities": {"drop": ["NET_RAW"]}}})");
  EXPECT_EQ(fewer.capabilities.size(), DefaultCapabilities().size() - 1);
  EXPECT_FALSE(fewer.no_new_privileges);
  EXPECT_EQ(Refusal(R"({"command": ["x"], "securityContext": {"capabilities": {"add": ["NET"]}}})"),
            "securityContext.capabilities.add: there is no capability 'NET'");
}

TEST(PodSpecTest, TheContainersSecurityContextGoesBeforeThePods) {
  EXPECT_EQ(Resolve(R"({"command": ["x"]})").uid, 65532U);
  EXPECT_EQ(Resolve(R"({"command": ["x"], "securityContext": {"runAsUser": 7}})").uid, 7U);
  json pod = kPod;
  pod["spec"]["securityContext"] = {{"runAsNonRoot", true},
                                    {"seccompProfile", {{"type", "RuntimeDefault"}}}};
  EXPECT_EQ(Refusal(R"({"command": ["x"]})", pod),
            "securityContext.runAsNonRoot: container has runAsNonRoot and image will run as root");
  const auto user = Resolve(R"({"command": ["x"], "securityContext": {"runAsUser": 7}})", pod);
  EXPECT_TRUE(user.seccomp);
  EXPECT_NE(Refusal(R"({"command": ["x"], "securityContext": {"privileged": true}})"), "accepted");
}

TEST(PodSpecTest, OnlyTheOneUserOfAllContainersOwnsTheToken) {
  json pod = kPod;
  pod["spec"]["containers"] = json::parse(R"([{"name": "a"}, {"name": "b"}])");
  EXPECT_EQ(TokenOwner(pod), 65532U);
  pod["spec"]["containers"][1]["securityContext"] = {{"runAsUser", 7}};
  EXPECT_EQ(TokenOwner(pod), std::nullopt);
  pod["spec"].erase("securityContext");
  EXPECT_EQ(TokenOwner(pod), std::nullopt);
}

TEST(PodSpecTest, EachContainerHasTheTokenUnlessThePodMountsItItself) {
  constexpr const char* kPlace = "/var/run/secrets/kubernetes.io/serviceaccount";
  json pod = kPod;
  pod["spec"]["containers"] = json::parse(R"([{"name": "a"}, {"name": "b"}])");
  const json automatic = WithApiAccess(pod);
  for (const json& container : automatic["spec"]["containers"])
    EXPECT_EQ(container["volumeMounts"].back()["mountPath"], kPlace);
  const auto config_map = [](const std::string& name) {
    return name == "kube-root-ca.crt" ? std::optional(Data{{"ca.crt", "PEM"}}) : std::nullopt;
  };
  const auto files =
      ResolveProjected(automatic, automatic["spec"]["volumes"].back(), {}, config_map);
  ASSERT_EQ(files.size(), 3U);
  EXPECT_TRUE(files[0].token);
  EXPECT_EQ(files[0].expiration_seconds, 3607);
  EXPECT_EQ(files[1].content, "PEM");
  EXPECT_EQ(files[2].path, "namespace");
  EXPECT_EQ(files[2].content, "ns");

  pod["spec"]["automountServiceAccountToken"] = false;
  EXPECT_EQ(WithApiAccess(pod), pod);
  EXPECT_TRUE(
      ResolveProjected(pod, {{"name", "x"}, {"emptyDir", json::object()}}, {}, config_map).empty());
  EXPECT_THROW(
      ResolveProjected(
          pod, {{"name", "x"}, {"projected", {{"sources", {{{"secret", {{"name", "s"}}}}}}}}}, {},
          config_map),
      std::invalid_argument);
}

TEST(PodSpecTest, AConfigMapsVolumeHasItsKeysOrThoseAskedFor) {
  const auto maps = [](const std::string& name) {
    return name == "m" ? std::optional(Data{{"a", "1"}, {"b", "2"}}) : std::nullopt;
  };
  const auto files = [&](const char* source) {
    Data found;
    const json volume = {{"name", "v"}, {"configMap", json::parse(source)}};
    for (const ProjectedFile& file : ResolveProjected(kPod, volume, {}, maps))
      found[file.path] = file.content;
    return found;
  };
  EXPECT_EQ(files(R"({"name": "m"})"), (Data{{"a", "1"}, {"b", "2"}}));
  EXPECT_EQ(files(R"({"name": "m", "items": [{"key": "b", "path": "c.conf"}]})"),
            (Data{{"c.conf", "2"}}));
  EXPECT_THROW(files(R"({"name": "m", "items": [{"key": "c", "path": "c"}]})"),
               std::invalid_argument);
  EXPECT_THROW(files(R"({"name": "none"})"), std::invalid_argument);
}

TEST(PodSpecTest, VolumesAreMountedWhereTheContainerWantsThem) {
  const auto spec = Resolve(R"json({"command": ["x"], "args": ["--proc-sys=/host/proc/sys"],
    "volumeMounts": [{"name": "tmp", "mountPath": "/tmp", "readOnly": true},
                     {"name": "sys", "mountPath": "/host/proc/sys/net"}]})json");
  EXPECT_EQ(spec.argv, (std::vector<std::string>{"x", "--proc-sys=/host/proc/sys"}));
  ASSERT_EQ(spec.mounts.size(), 2U);
  EXPECT_EQ(spec.mounts[0].source, "/proc/sys/net");
  EXPECT_EQ(spec.mounts[0].target, "/host/proc/sys/net");
  EXPECT_FALSE(spec.mounts[0].read_only);
  EXPECT_EQ(spec.mounts[1].source, "/volumes/tmp");
  EXPECT_TRUE(spec.mounts[1].read_only);
  EXPECT_EQ(
      Refusal(R"({"command": ["x"], "volumeMounts": [{"name": "secret", "mountPath": "/s"}]})"),
      "volumes.secret: only hostPath, emptyDir, configMap and projected are supported here");
}

}  // namespace
}  // namespace pointsman::e2e

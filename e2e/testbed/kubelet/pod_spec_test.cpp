#include "e2e/testbed/kubelet/pod_spec.h"

#include <gtest/gtest.h>

namespace pointsman::e2e {
namespace {

using nlohmann::json;

const json kPod = json::parse(R"({
  "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
  "spec": {"nodeName": "node-1", "volumes": [{"name": "sys", "hostPath": {"path": "/proc/sys/net"}}]}})");

ContainerCommand Resolve(const char* container) {
  const PodPlace place{"10.244.1.2", "192.168.50.11", "192.168.50.1", 6443, "/nowhere"};
  return ResolveContainer(
      kPod, json::parse(container), place, [](const std::string& name, const std::string& key) {
        return name == "settings" && key == "port" ? std::optional<std::string>("7") : std::nullopt;
      });
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
  EXPECT_EQ(command.env.at("KUBERNETES_SERVICE_HOST"), "192.168.50.1");
  EXPECT_EQ(command.env.at("KUBERNETES_SERVICE_PORT"), "7");
  EXPECT_FALSE(command.env.contains("NONE"));
}

TEST(PodSpecTest, ImagesStandForPrograms) {
  EXPECT_EQ(Resolve(R"({"image": "pointsman.io/traffic:1", "args": ["--tcp=80"]})").argv,
            (std::vector<std::string>{"pointsman-traffic", "serve", "--tcp=80"}));
  EXPECT_THROW(Resolve(R"({"image": "nginx"})"), std::invalid_argument);
}

TEST(PodSpecTest, TheHostsFilesAreTheContainers) {
  const auto command =
      Resolve(R"json({"command": ["x"], "args": ["--proc-sys=/host/proc/sys", "--other=/hosts"],
    "volumeMounts": [{"name": "sys", "mountPath": "/host/proc/sys/net"}]})json");
  EXPECT_EQ(command.argv,
            (std::vector<std::string>{"x", "--proc-sys=/proc/sys", "--other=/hosts"}));
}

}  // namespace
}  // namespace pointsman::e2e

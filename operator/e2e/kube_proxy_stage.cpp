#include "operator/e2e/kube_proxy_stage.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "kube/config/yaml_json.h"
#include "kube/objects/daemon_set.h"
#include "kube/objects/node.h"
#include "kube/text/hash.h"

namespace pointsman::op {
namespace {

using kube::Json;
namespace resources = kube::resources;

constexpr const char* kNs = "kube-system";
constexpr const char* kName = "kube-proxy";
constexpr const char* kHash = "controller-revision-hash";
const Json& Labels() {
  static const Json kLabels = {{"k8s-app", "kube-proxy"}};
  return kLabels;
}

std::string Uid(const Json& object) {
  return object["metadata"]["uid"];
}
std::string Name(const Json& object) {
  return object["metadata"]["name"];
}
bool Ends(const Json& object) {
  return object["metadata"].contains("deletionTimestamp");
}
std::string OwnerOf(const Json& pod) {
  const Json owners = pod["metadata"].value("ownerReferences", Json::array());
  return owners.empty() ? "" : owners[0]["uid"].get<std::string>();
}
std::string HashOf(const Json& set) {
  return text::Hash(set["spec"]["template"].dump());
}
Json OwnedBy(const Json& set) {
  return Json::array({{{"apiVersion", "apps/v1"},
                       {"kind", "DaemonSet"},
                       {"name", Name(set)},
                       {"uid", Uid(set)},
                       {"controller", true}}});
}
bool IsBound(const Json& pod) {
  return pod["spec"].contains("nodeName");
}
// Also of one that waits, as the DaemonSet controller says it.
std::string NodeOf(const Json& pod) {
  if (IsBound(pod)) return pod["spec"]["nodeName"];
  return pod["metadata"]["annotations"]["for-node"];
}
bool IsReady(const Json& pod) {
  for (const Json& condition : pod.value("/status/conditions"_json_pointer, Json::array())) {
    if (condition["type"] == "Ready") return condition["status"] == "True" && !Ends(pod);
  }
  return false;
}
bool Selects(const Json& set, const Json& pod) {
  const Json labels = pod["metadata"].value("labels", Json::object());
  const Json wanted = set["spec"]["selector"]["matchLabels"];
  return std::all_of(wanted.items().begin(), wanted.items().end(), [&](const auto& label) {
    return labels.value(label.key(), "") == label.value();
  });
}

}  // namespace

KubeProxyStage::KubeProxyStage(kube::Client& client, const std::string& file) : client_(client) {
  client_.Create(resources::kConfigMaps, kNs,
                 {{"metadata", {{"name", kName}, {"labels", {{"app", "kube-proxy"}}}}},
                  {"data", {{"config.conf", file}, {"kubeconfig.conf", "kind: Config\n"}}}});
  const Json container = {
      {"name", kName},
      {"image", "registry.k8s.io/kube-proxy:v1.33.0"},
      {"command", {"/usr/local/bin/kube-proxy", "--config=/var/lib/kube-proxy/config.conf"}},
      {"volumeMounts", {{{"name", kName}, {"mountPath", "/var/lib/kube-proxy"}}}}};
  first_set_ =
      client_.Create(resources::kDaemonSets, kNs,
                     {{"metadata", {{"name", kName}, {"labels", Labels()}}},
                      {"spec",
                       {{"selector", {{"matchLabels", Labels()}}},
                        {"template",
                         {{"metadata", {{"labels", Labels()}}},
                          {"spec",
                           {{"hostNetwork", true},
                            {"terminationGracePeriodSeconds", 0},
                            {"tolerations", {{{"operator", "Exists"}}}},
                            {"volumes", {{{"name", kName}, {"configMap", {{"name", kName}}}}}},
                            {"containers", {container}}}}}}}}});
}

Json KubeProxyStage::Set(const std::string& name) {
  return client_.Get(resources::kDaemonSets, kNs, name);
}
Json KubeProxyStage::ConfigMap(const std::string& name) {
  return client_.Get(resources::kConfigMaps, kNs, name);
}
std::string KubeProxyStage::File() {
  return ConfigMap()["data"]["config.conf"];
}
bool KubeProxyStage::HasConfigMap(const std::string& name) {
  return !client_.List(resources::kConfigMaps, kNs, {.field_selector = "metadata.name=" + name})
              .empty();
}
std::vector<Json> KubeProxyStage::RevisionSets() {
  std::vector<Json> sets = client_.List(resources::kDaemonSets, kNs);
  std::erase_if(sets, [](const Json& set) { return Name(set) == kName; });
  return sets;
}
std::vector<Json> KubeProxyStage::Pods() {
  return client_.List(resources::kPods, kNs, {.label_selector = "k8s-app=kube-proxy"});
}
std::vector<std::string> KubeProxyStage::Nodes() {
  std::vector<std::string> names;
  for (const Json& node : client_.List(resources::kNodes, ""))
    names.push_back(Name(node));
  return names;
}

std::string KubeProxyStage::Mode(const std::string& node) {
  for (const Json& pod : Pods()) {
    if (!IsBound(pod) || NodeOf(pod) != node || !IsReady(pod)) continue;
    const std::lock_guard lock(mutex_);
    return mode_.at(Uid(pod));
  }
  return "";
}
size_t KubeProxyStage::Down() {
  size_t down = 0;
  for (const std::string& node : Nodes())
    down += Mode(node).empty() ? 1 : 0;
  return down;
}
std::map<std::string, std::string> KubeProxyStage::BoundPods() {
  std::map<std::string, std::string> pods;
  for (const Json& pod : Pods()) {
    if (IsBound(pod)) pods[NodeOf(pod)] = Uid(pod);
  }
  return pods;
}

void KubeProxyStage::Delete(const Json& pod) {
  client_.Delete(resources::kPods, kNs, Name(pod), Uid(pod));
}

void KubeProxyStage::Step() {
  StartPods();
  const std::vector<Json> sets = client_.List(resources::kDaemonSets, kNs);
  CollectGarbage(sets);
  for (const Json& set : sets) {
    if (!Ends(set)) Control(set);
  }
}

// What was bound a step ago reads its file and is Ready.
void KubeProxyStage::StartPods() {
  for (const Json& pod : Pods()) {
    if (!IsBound(pod) || IsReady(pod)) continue;
    const std::string map = pod["spec"]["volumes"][0]["configMap"]["name"];
    const Json file =
        kube::ParseYaml(ConfigMap(map)["data"]["config.conf"].get<std::string>()).value;
    {
      const std::lock_guard lock(mutex_);
      mode_[Uid(pod)] = file["mode"];
    }
    client_.Patch(
        resources::kPods, kNs, Name(pod), kube::PatchType::kMerge,
        {{"status",
          {{"phase", "Running"}, {"conditions", {{{"type", "Ready"}, {"status", "True"}}}}}}},
        "status");
  }
}

void KubeProxyStage::CollectGarbage(const std::vector<Json>& sets) {
  std::set<std::string> there;
  for (const Json& set : sets)
    there.insert(Uid(set));
  for (const Json& pod : Pods()) {
    const std::string owner = OwnerOf(pod);
    if (!owner.empty() && !there.contains(owner)) Delete(pod);
  }
  for (const Json& set : sets) {
    if (set["metadata"].value("finalizers", Json::array()) != Json::array({"orphan"})) continue;
    for (const Json& pod : Pods()) {
      if (OwnerOf(pod) != Uid(set)) continue;
      client_.Patch(resources::kPods, kNs, Name(pod), kube::PatchType::kMerge,
                    {{"metadata", {{"ownerReferences", nullptr}}}});
    }
    client_.Patch(resources::kDaemonSets, kNs, Name(set), kube::PatchType::kMerge,
                  {{"metadata", {{"finalizers", nullptr}}}});
  }
}

void KubeProxyStage::Control(const Json& set) {
  for (const Json& pod : Pods()) {
    if (!OwnerOf(pod).empty() || !Selects(set, pod)) continue;
    client_.Patch(resources::kPods, kNs, Name(pod), kube::PatchType::kMerge,
                  {{"metadata", {{"ownerReferences", OwnedBy(set)}}}});
  }
  const kube::NodePlacement placement = kube::DecodeDaemonSet(set.dump()).placement;
  std::vector<Json> pods = Pods();
  std::erase_if(pods, [&](const Json& pod) { return OwnerOf(pod) != Uid(set); });
  for (const Json& object : client_.List(resources::kNodes, "")) {
    const kube::Node node = kube::DecodeNode(object.dump());
    std::vector<Json> here = pods;
    std::erase_if(here, [&](const Json& pod) { return NodeOf(pod) != node.name; });
    const bool wanted = placement.WhyNot(node).empty();
    if (wanted && here.empty()) CreatePod(set, node.name);
    // The scheduled one stays. One that waits has room once nothing else is there: it is made anew,
    // for the API binds no Pod that it has.
    std::stable_partition(here.begin(), here.end(), IsBound);
    if (wanted && !here.empty() && !IsBound(here[0]) && !BoundPods().contains(node.name))
      Delete(here[0]);
    for (size_t i = wanted ? 1 : 0; i < here.size(); ++i)
      Delete(here[i]);
  }
  Roll(set, pods);
}

// One of those that were made from another template, when all serve.
void KubeProxyStage::Roll(const Json& set, const std::vector<Json>& pods) {
  const std::string strategy = set.value("/spec/updateStrategy/type"_json_pointer, "RollingUpdate");
  if (strategy != "RollingUpdate" || !std::all_of(pods.begin(), pods.end(), IsReady)) return;
  for (const Json& pod : pods) {
    if (pod["metadata"]["labels"].value(kHash, "") == HashOf(set)) continue;
    Delete(pod);
    return;
  }
}

void KubeProxyStage::CreatePod(const Json& set, const std::string& node) {
  const bool taken = BoundPods().contains(node);
  const Json& from = set["spec"]["template"];
  Json metadata = {{"name", Name(set) + "-" + std::to_string(++serial_)},
                   {"labels", from["metadata"]["labels"]},
                   {"annotations", {{"for-node", node}}},
                   {"ownerReferences", OwnedBy(set)}};
  metadata["labels"][kHash] = HashOf(set);
  Json spec = from["spec"];
  if (taken) {
    spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = {
        {"nodeSelectorTerms",
         {{{"matchFields",
            {{{"key", "metadata.name"}, {"operator", "In"}, {"values", {node}}}}}}}}};
  } else {
    spec["nodeName"] = node;
    ++starts_[node];
  }
  client_.Create(resources::kPods, kNs, {{"metadata", metadata}, {"spec", std::move(spec)}});
}

}  // namespace pointsman::op

#include "operator/plan/revision_objects.h"

#include <algorithm>
#include <stdexcept>

#include "kube/objects/object_json.h"
#include "kube/text/hash.h"
#include "kube/text/json_text.h"
#include "operator/plan/json_member.h"

namespace pointsman::op {
namespace {

using nlohmann::json;

// So that a Pod's name, which has it in front, is not cut.
constexpr size_t kMaxBaseName = 200;
constexpr const char* kManagedBy = "app.kubernetes.io/managed-by";
constexpr const char* kPointsman = "pointsman-operator";

json MetadataOf(const std::string& set_name, int64_t revision) {
  return {{"name", RevisionObjectName(set_name, revision)},
          {"labels", {{kRevisionLabel, std::to_string(revision)}, {kManagedBy, kPointsman}}}};
}

// The cluster's template for the nodes that are bound to the revision, with its ConfigMap.
json TemplateOf(const KubeProxyDaemonSet& own, const KubeProxyFile& file, int64_t revision) {
  const std::string number = std::to_string(revision);
  json pod = own.pod_template;
  pod["metadata"]["labels"][kRevisionLabel] = number;
  json& spec = pod["spec"];
  for (json& volume : spec["volumes"]) {
    if (Member(Member(volume, "configMap"), "name") == file.config_map)
      volume["configMap"]["name"] = RevisionObjectName(own.name, revision);
  }
  json affinity = AffinityToLabel(AffinityBefore(own), kRevisionLabel, number);
  const json apart = {{"labelSelector", own.selector}, {"topologyKey", "kubernetes.io/hostname"}};
  json required =
      Member(Member(affinity, "podAntiAffinity"), "requiredDuringSchedulingIgnoredDuringExecution");
  if (!required.is_array()) required = json::array();
  if (std::find(required.begin(), required.end(), apart) == required.end())
    required.push_back(apart);
  affinity["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] =
      std::move(required);
  spec["affinity"] = std::move(affinity);
  return pod;
}

// Of what was written, not of what the API server has made of it with its defaults.
std::string Fingerprint(const json& pod_template) {
  return text::Hash(text::JsonText(pod_template));
}

// Its Pods tell by the label of which template they are.
json WithFingerprint(const KubeProxyDaemonSet& own, const KubeProxyFile& file, int64_t revision) {
  json pod = TemplateOf(own, file, revision);
  std::string derived = Fingerprint(pod);
  pod["metadata"]["labels"][kDerivedLabel] = std::move(derived);
  return pod;
}

}  // namespace

KubeProxyConfigMap DecodeKubeProxyConfigMap(std::string_view text) {
  const json object = kube::ParseObject(text);
  const json metadata = Member(object, "metadata");
  const auto word = [](const json& value) {
    return value.is_string() ? value.get<std::string>() : std::string();
  };
  KubeProxyConfigMap map;
  map.name = word(Member(metadata, "name"));
  if (map.name.empty()) throw std::invalid_argument("metadata.name: required");
  map.uid = word(Member(metadata, "uid"));
  map.resource_version = word(Member(metadata, "resourceVersion"));
  map.deleting = !Member(metadata, "deletionTimestamp").is_null();
  map.immutable = Member(object, "immutable") == true;
  map.binary_data = Member(object, "binaryData");
  map.revision = word(Member(Member(metadata, "labels"), kRevisionLabel));
  const json data = Member(object, "data");
  if (data.is_object()) {
    for (const auto& [key, value] : data.items()) {
      if (value.is_string()) map.data[key] = value.get<std::string>();
    }
  }
  return map;
}

std::string RevisionObjectName(const std::string& set_name, int64_t revision) {
  return set_name.substr(0, kMaxBaseName) + "-pointsman-" + std::to_string(revision);
}

json RevisionConfigMap(const KubeProxyConfigMap& own, const KubeProxyFile& file,
                       const std::string& set_name, int64_t revision, const std::string& text) {
  json object = {{"apiVersion", "v1"},
                 {"kind", "ConfigMap"},
                 {"metadata", MetadataOf(set_name, revision)},
                 {"immutable", true},
                 {"data", own.data}};
  object["data"][file.key] = text;
  if (own.binary_data.is_object()) object["binaryData"] = own.binary_data;
  return object;
}

bool IsRevisionConfigMap(const KubeProxyConfigMap& there, const KubeProxyFile& file,
                         int64_t revision, const std::string& text) {
  const auto found = there.data.find(file.key);
  return there.immutable && there.revision == std::to_string(revision) &&
         found != there.data.end() && found->second == text;
}

std::string DerivedFrom(const KubeProxyDaemonSet& own, const KubeProxyFile& file,
                        int64_t revision) {
  return Fingerprint(TemplateOf(own, file, revision));
}

json RevisionDaemonSet(const KubeProxyDaemonSet& own, const KubeProxyFile& file, int64_t revision) {
  json metadata = MetadataOf(own.name, revision);
  metadata["annotations"][kDerivedAnnotation] = DerivedFrom(own, file, revision);
  return {{"apiVersion", "apps/v1"},
          {"kind", "DaemonSet"},
          {"metadata", std::move(metadata)},
          {"spec",
           {{"selector", {{"matchLabels", {{kRevisionLabel, std::to_string(revision)}}}}},
            {"updateStrategy", {{"type", "OnDelete"}}},
            {"template", WithFingerprint(own, file, revision)}}}};
}

json PatchToDerive(const KubeProxyDaemonSet& there, const KubeProxyDaemonSet& own,
                   const KubeProxyFile& file, int64_t revision) {
  const std::string derived = DerivedFrom(own, file, revision);
  if (derived == there.derived) return json::object();
  json patch = {{"metadata", {{"annotations", {{kDerivedAnnotation, derived}}}}}};
  json change = MergePatch(there.pod_template, WithFingerprint(own, file, revision));
  if (!change.empty()) patch["spec"]["template"] = std::move(change);
  return patch;
}

std::string WhyNotByRevision(const KubeProxyDaemonSet& own) {
  const json strategy = UpdateStrategyBefore(own);
  const json surge = Member(Member(strategy, "rollingUpdate"), "maxSurge");
  if (!surge.is_null() && surge != 0 && surge != "0" && surge != "0%")
    return "its updateStrategy.rollingUpdate.maxSurge is not 0, but two Pods of kube-proxy would "
           "use "
           "the same ports of a node: use maxUnavailable";
  if (!Member(Member(own.selector, "matchLabels"), kRevisionLabel).is_null())
    return std::string("its selector has the label ") + kRevisionLabel + ", which is Pointsman's";
  return "";
}

}  // namespace pointsman::op

#include "operator/plan/kube_proxy_daemon_set.h"

#include <algorithm>
#include <optional>

#include "kube/objects/daemon_set.h"
#include "kube/objects/object_json.h"
#include "kube/text/json_text.h"
#include "operator/plan/json_member.h"

namespace pointsman::op {
namespace {

using nlohmann::json;

constexpr const char* kNodeAffinity = "nodeAffinity";
constexpr const char* kRequired = "requiredDuringSchedulingIgnoredDuringExecution";
constexpr const char* kTerms = "nodeSelectorTerms";
constexpr const char* kExpressions = "matchExpressions";
constexpr const char* kFields = "matchFields";

const json& OurRequirements() {
  static const json kRequirements = {
      {{"key", kKubeProxyLabel}, {"operator", "NotIn"}, {"values", {kReplaced}}},
      {{"key", kRevisionLabel}, {"operator", "DoesNotExist"}}};
  return kRequirements;
}

bool IsEmpty(const json& value) {
  return value.is_null() || ((value.is_object() || value.is_array()) && value.empty());
}

// One without any requirement holds for no node (k8s.io/component-helpers), so a requirement more
// would make it hold for some.
bool HoldsForNoNode(const json& term) {
  return IsEmpty(Member(term, kExpressions)) && IsEmpty(Member(term, kFields));
}

bool Has(const json& term, const json& requirement) {
  const json expressions = Member(term, kExpressions);
  return expressions.is_array() &&
         std::find(expressions.begin(), expressions.end(), requirement) != expressions.end();
}
bool HasOurs(const json& term) {
  const json& ours = OurRequirements();
  return std::all_of(ours.begin(), ours.end(),
                     [&](const json& requirement) { return Has(term, requirement); });
}
bool HasAnyOfOurs(const json& term) {
  const json& ours = OurRequirements();
  return std::any_of(ours.begin(), ours.end(),
                     [&](const json& requirement) { return Has(term, requirement); });
}

json TermsOf(const json& affinity) {
  return Member(Member(Member(affinity, kNodeAffinity), kRequired), kTerms);
}

// Each term with the requirements that it lacks of `more`.
json With(json affinity, const json& more) {
  json terms = TermsOf(affinity);
  if (!terms.is_array()) terms = json::array({{{kExpressions, more}}});
  for (json& term : terms) {
    if (!term.is_object() || HoldsForNoNode(term)) continue;
    json expressions = Member(term, kExpressions);
    if (!expressions.is_array()) expressions = json::array();
    for (const json& requirement : more) {
      if (!Has(term, requirement)) expressions.push_back(requirement);
    }
    term[kExpressions] = std::move(expressions);
  }
  if (!affinity.is_object()) affinity = json::object();
  if (!Member(affinity, kNodeAffinity).is_object()) affinity[kNodeAffinity] = json::object();
  if (!Member(affinity[kNodeAffinity], kRequired).is_object())
    affinity[kNodeAffinity][kRequired] = json::object();
  affinity[kNodeAffinity][kRequired][kTerms] = std::move(terms);
  return affinity;
}
json WithOurs(json affinity) {
  return With(std::move(affinity), OurRequirements());
}

// Of an affinity that somebody has changed since: nothing else goes but what ours leaves empty.
json WithoutOurs(json affinity) {
  json terms = TermsOf(affinity);
  if (!terms.is_array()) return affinity;
  json kept = json::array();
  for (json& term : terms) {
    if (HasAnyOfOurs(term)) {
      json& expressions = term[kExpressions];
      for (const json& ours : OurRequirements())
        expressions.erase(std::remove(expressions.begin(), expressions.end(), ours),
                          expressions.end());
      if (expressions.empty()) term.erase(kExpressions);
      if (HoldsForNoNode(term)) continue;
    }
    kept.push_back(std::move(term));
  }
  json& node_affinity = affinity[kNodeAffinity];
  if (!kept.empty()) {
    node_affinity[kRequired][kTerms] = std::move(kept);
    return affinity;
  }
  node_affinity.erase(kRequired);
  if (node_affinity.empty()) affinity.erase(kNodeAffinity);
  return affinity.empty() ? json() : affinity;
}

// What it was before; nothing when the annotation is not there, or not of our making.
struct Before {
  json affinity;
  json update_strategy;
};
std::optional<Before> BeforeOf(const KubeProxyDaemonSet& set) {
  const json kept = json::parse(set.before, nullptr, /*allow_exceptions=*/false);
  if (!kept.is_object() || !kept.contains("affinity") || !kept.contains("updateStrategy"))
    return {};
  const json& affinity = kept["affinity"];
  if (!affinity.is_null() && !affinity.is_object()) return {};
  if (!kept["updateStrategy"].is_object()) return {};
  return Before{affinity, kept["updateStrategy"]};
}

bool ReplacesOnDelete(const KubeProxyDaemonSet& set) {
  return Member(set.update_strategy, "type") == "OnDelete";
}

bool HasOursAnywhere(const KubeProxyDaemonSet& set) {
  const json terms = TermsOf(set.affinity);
  return terms.is_array() && std::any_of(terms.begin(), terms.end(), HasAnyOfOurs);
}

// A patch of those three.
json Patch(const KubeProxyDaemonSet& set, const json& affinity, const json& update_strategy,
           const std::string& before) {
  json patch = json::object();
  if (before != set.before) {
    patch["metadata"]["annotations"][kBeforeAnnotation] = before.empty() ? json() : json(before);
  }
  if (affinity != set.affinity) {
    patch["spec"]["template"]["spec"]["affinity"] = MergePatch(set.affinity, affinity);
  }
  if (update_strategy != set.update_strategy) {
    patch["spec"]["updateStrategy"] = MergePatch(set.update_strategy, update_strategy);
  }
  return patch;
}

}  // namespace

KubeProxyDaemonSet DecodeKubeProxyDaemonSet(std::string_view object_text) {
  const kube::DaemonSet placed = kube::DecodeDaemonSet(object_text);
  const json object = kube::ParseObject(object_text, {kube::kManagedFields, "status"});
  KubeProxyDaemonSet set;
  set.name = placed.name;
  set.uid = placed.uid;
  set.resource_version = placed.resource_version;
  set.placement = placed.placement;
  const json metadata = Member(object, "metadata");
  set.deleting = !Member(metadata, "deletionTimestamp").is_null();
  const auto text = [](const json& value) {
    return value.is_string() ? value.get<std::string>() : std::string();
  };
  const json annotations = Member(metadata, "annotations");
  set.before = text(Member(annotations, kBeforeAnnotation));
  set.derived = text(Member(annotations, kDerivedAnnotation));
  set.revision = text(Member(Member(metadata, "labels"), kRevisionLabel));
  const json spec = Member(object, "spec");
  set.update_strategy = Member(spec, "updateStrategy");
  set.selector = Member(spec, "selector");
  set.pod_template = Member(spec, "template");
  set.affinity = Member(Member(set.pod_template, "spec"), "affinity");
  const json labels = Member(Member(set.pod_template, "metadata"), "labels");
  if (labels.is_object()) {
    for (const auto& [key, value] : labels.items()) {
      if (value.is_string()) set.pod_labels[key] = value.get<std::string>();
    }
  }
  return set;
}

json MergePatch(const json& from, const json& to) {
  if (!from.is_object() || !to.is_object()) return to;
  json patch = json::object();
  for (const auto& [name, value] : from.items()) {
    if (Member(to, name.c_str()).is_null()) patch[name] = nullptr;
  }
  for (const auto& [name, value] : to.items()) {
    const json before = Member(from, name.c_str());
    if (!value.is_null() && value != before) patch[name] = MergePatch(before, value);
  }
  return patch;
}

bool IsReplaced(const kube::Node& node) {
  const auto label = node.labels.find(kKubeProxyLabel);
  return label != node.labels.end() && label->second == kReplaced;
}

std::string BoundTo(const kube::Node& node) {
  const auto label = node.labels.find(kRevisionLabel);
  return label != node.labels.end() ? label->second : "";
}

bool LeavesOutReplaced(const KubeProxyDaemonSet& set) {
  const json terms = TermsOf(set.affinity);
  return terms.is_array() && std::all_of(terms.begin(), terms.end(), [](const json& term) {
           return HasOurs(term) || HoldsForNoNode(term);
         });
}

bool IsChanged(const KubeProxyDaemonSet& set) {
  return !set.before.empty() || HasOursAnywhere(set);
}

json AffinityBefore(const KubeProxyDaemonSet& set) {
  const std::optional<Before> before = BeforeOf(set);
  if (before && set.affinity == WithOurs(before->affinity)) return before->affinity;
  return WithoutOurs(set.affinity);
}

json UpdateStrategyBefore(const KubeProxyDaemonSet& set) {
  const std::optional<Before> before = BeforeOf(set);
  return before && ReplacesOnDelete(set) ? before->update_strategy : set.update_strategy;
}

json AffinityToLabel(json affinity, const std::string& label, const std::string& value) {
  return With(std::move(affinity),
              json::array({{{"key", label}, {"operator", "In"}, {"values", {value}}}}));
}

json PatchToLeaveOutReplaced(const KubeProxyDaemonSet& set) {
  std::optional<Before> before = BeforeOf(set);
  if (!before) before = Before{WithoutOurs(set.affinity), set.update_strategy};
  // Who wrote these since meant them: they are what comes back.
  if (set.affinity != WithOurs(before->affinity)) before->affinity = WithoutOurs(set.affinity);
  if (!ReplacesOnDelete(set)) before->update_strategy = set.update_strategy;
  const json kept = {{"affinity", before->affinity}, {"updateStrategy", before->update_strategy}};
  const bool kept_already = json::parse(set.before, nullptr, false) == kept;
  return Patch(set, WithOurs(set.affinity), {{"type", "OnDelete"}},
               kept_already ? set.before : text::JsonText(kept));
}

json PatchToRestore(const KubeProxyDaemonSet& set) {
  return Patch(set, AffinityBefore(set), UpdateStrategyBefore(set), "");
}

}  // namespace pointsman::op

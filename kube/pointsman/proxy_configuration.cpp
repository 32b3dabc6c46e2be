#include "kube/pointsman/proxy_configuration.h"

#include "kube/pointsman/duration.h"
#include "kube/pointsman/limits.h"
#include "kube/pointsman/object_reader.h"
#include "kube/pointsman/percent.h"
#include "kube/pointsman/settings_json.h"
#include "kube/pointsman/status_bounds.h"
#include "kube/pointsman/validation.h"

namespace pointsman::kube {
namespace {

using nlohmann::json;

std::string_view ToString(LabelSelector::Operator op) {
  switch (op) {
    case LabelSelector::Operator::kIn:
      return "In";
    case LabelSelector::Operator::kNotIn:
      return "NotIn";
    case LabelSelector::Operator::kExists:
      return "Exists";
    case LabelSelector::Operator::kDoesNotExist:
      return "DoesNotExist";
  }
  return "";
}

std::optional<LabelSelector::Operator> ParseOperator(std::string_view text) {
  using Operator = LabelSelector::Operator;
  for (const Operator op :
       {Operator::kIn, Operator::kNotIn, Operator::kExists, Operator::kDoesNotExist}) {
    if (ToString(op) == text) return op;
  }
  return std::nullopt;
}

bool IsAlphanumeric(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

// A qualified name without prefix, or a label's value (apimachinery's validation): letters and
// digits at both ends, '-', '_' and '.' between, at most 63.
bool IsLabelWord(std::string_view text) {
  if (text.empty() || text.size() > 63 || !IsAlphanumeric(text.front()) ||
      !IsAlphanumeric(text.back())) {
    return false;
  }
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return IsAlphanumeric(c) || c == '-' || c == '_' || c == '.'; });
}

bool IsLabelKey(std::string_view text) {
  const size_t slash = text.find('/');
  if (slash == std::string_view::npos) return IsLabelWord(text);
  const std::string_view prefix = text.substr(0, slash);
  const bool dns =
      !prefix.empty() && prefix.size() <= 253 && IsAlphanumeric(prefix.front()) &&
      IsAlphanumeric(prefix.back()) && std::all_of(prefix.begin(), prefix.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
      });
  return dns && IsLabelWord(text.substr(slash + 1));
}

bool IsLabelValue(std::string_view text) {
  return text.empty() || IsLabelWord(text);
}

LabelSelector::Requirement ReadRequirement(ObjectReader reader) {
  using Operator = LabelSelector::Operator;
  LabelSelector::Requirement requirement;
  reader.String("key", 317, requirement.key);
  if (!IsLabelKey(requirement.key)) {
    reader.Error("key", ObjectReader::Quote(requirement.key) + " is not a label key");
  }
  if (!reader.Has("operator")) reader.Error("operator", "is needed");
  reader.Word<Operator>("operator", ParseOperator, "In, NotIn, Exists, DoesNotExist",
                        requirement.op);
  reader.Strings("values", limits::kMaxMatchValues,
                 [&](const std::string& text, const std::string& path) {
                   if (!IsLabelValue(text)) {
                     reader.ErrorAt(path, ObjectReader::Quote(text) + " is not a label value");
                   }
                   requirement.values.push_back(text);
                 });
  const bool needs_values = requirement.op == Operator::kIn || requirement.op == Operator::kNotIn;
  if (needs_values && requirement.values.empty()) {
    reader.Error("values", "is needed with operator In and NotIn");
  } else if (!needs_values && !requirement.values.empty()) {
    reader.Error("values", "must be empty with operator Exists and DoesNotExist");
  }
  reader.RejectUnknown();
  return requirement;
}

LabelSelector ReadSelector(ObjectReader reader, std::vector<FieldError>& errors) {
  LabelSelector selector;
  if (const json* labels = reader.Raw("matchLabels"); labels != nullptr) {
    if (!labels->is_object()) {
      reader.Error("matchLabels", "must be an object");
    } else if (labels->size() > limits::kMaxMatchLabels) {
      reader.Error("matchLabels",
                   "may have at most " + std::to_string(limits::kMaxMatchLabels) + " labels");
    } else {
      for (const auto& [key, value] : labels->items()) {
        if (!IsLabelKey(key)) {
          reader.Error("matchLabels", ObjectReader::Quote(key) + " is not a label key");
        } else if (!value.is_string() || !IsLabelValue(value.get_ref<const std::string&>())) {
          reader.Error("matchLabels", "the value of " + key + " is not a label value");
        } else {
          selector.match_labels[key] = value.get<std::string>();
        }
      }
    }
  }
  if (const json* list = reader.Raw("matchExpressions"); list != nullptr) {
    if (!list->is_array()) {
      reader.Error("matchExpressions", "must be a list");
    } else if (list->size() > limits::kMaxMatchExpressions) {
      reader.Error("matchExpressions",
                   "may have at most " + std::to_string(limits::kMaxMatchExpressions) + " items");
    } else {
      size_t index = 0;
      for (const json& element : *list) {
        const std::string path =
            reader.PathOf("matchExpressions") + "[" + std::to_string(index++) + "]";
        selector.match_expressions.push_back(ReadRequirement(ObjectReader(&element, path, errors)));
      }
    }
  }
  reader.RejectUnknown();
  return selector;
}

void ReadMaxUnavailable(ObjectReader& reader, IntOrPercent& out) {
  constexpr const char* kName = "maxUnavailable";
  const json* value = reader.Raw(kName);
  if (value == nullptr) return;
  if (value->is_string()) {
    const std::string& text = value->get_ref<const std::string&>();
    if (const auto percent = ParsePercent(text); percent && *percent >= 1) {
      out = {*percent, true};
    } else {
      reader.Error(kName, ObjectReader::Quote(text) +
                              " is neither a number of nodes nor a percentage from 1% to 100%");
    }
    return;
  }
  int64_t nodes = 1;
  reader.Int(kName, 1, limits::kMaxUnavailable, nodes);
  out = {nodes, false};
}

Rollout ReadRollout(ObjectReader reader, std::vector<FieldError>& errors) {
  Rollout rollout;
  ReadMaxUnavailable(reader, rollout.max_unavailable);
  ObjectReader canary = reader.Object("canary");
  canary.Int("nodes", 0, limits::kMaxCanaryNodes, rollout.canary.nodes);
  canary.Time("soak", Duration::zero(), limits::kMaxRolloutTime, rollout.canary.soak);
  if (canary.Has("nodeSelector")) {
    rollout.canary.node_selector = ReadSelector(canary.Object("nodeSelector"), errors);
  }
  canary.Raw("nodeSelector");
  canary.RejectUnknown();
  reader.Bool("paused", rollout.paused);
  reader.Time("minReady", Duration::zero(), limits::kMaxRolloutTime, rollout.min_ready);
  reader.Time("progressDeadline", limits::kMinProgressDeadline, limits::kMaxRolloutTime,
              rollout.progress_deadline);
  if (rollout.progress_deadline <= rollout.min_ready) {
    reader.Error("progressDeadline", "must be longer than minReady (" +
                                         FormatDuration(rollout.min_ready) + "), is " +
                                         FormatDuration(rollout.progress_deadline));
  }
  reader.Word<OnFailure>(
      "onFailure",
      [](std::string_view text) -> std::optional<OnFailure> {
        if (text == "Rollback") return OnFailure::kRollback;
        if (text == "Pause") return OnFailure::kPause;
        return std::nullopt;
      },
      "Rollback, Pause", rollout.on_failure);
  rollout.gates = ReadGates(reader.Object("gates"));
  reader.Int("revisionHistoryLimit", 0, limits::kMaxRevisionHistory,
             rollout.revision_history_limit);
  reader.Int("rollbackTo", 1, limits::kMaxRevision, rollout.rollback_to);
  reader.RejectUnknown();
  return rollout;
}

TrippedGate ReadTrippedGate(const json& element) {
  std::vector<FieldError> ignored;
  ObjectReader reader(&element, "", ignored);
  TrippedGate tripped;
  reader.String("gate", limits::kMaxGateText, tripped.gate);
  reader.String("node", limits::kMaxGateText, tripped.node);
  reader.Int("revision", 0, limits::kMaxRevision, tripped.revision);
  reader.String("figure", limits::kMaxGateText, tripped.figure);
  reader.String("bound", limits::kMaxGateText, tripped.bound);
  return tripped;
}

KubeProxyPolicy ReadKubeProxyPolicy(ObjectReader reader) {
  KubeProxyPolicy policy = KubeProxyPolicy::kLeave;
  reader.Word<KubeProxyPolicy>(
      "policy",
      [](std::string_view text) -> std::optional<KubeProxyPolicy> {
        if (text == "Leave") return KubeProxyPolicy::kLeave;
        if (text == "TakeOver") return KubeProxyPolicy::kTakeOver;
        return std::nullopt;
      },
      "Leave, TakeOver", policy);
  reader.RejectUnknown();
  return policy;
}

ProxyConfigurationStatus ReadProxyConfigurationStatus(ObjectReader reader) {
  ProxyConfigurationStatus status;
  reader.Int("observedGeneration", 0, INT64_MAX, status.observed_generation);
  reader.String("phase", 64, status.phase);
  reader.Int("currentRevision", 0, limits::kMaxRevision, status.current_revision);
  reader.Int("updateRevision", 0, limits::kMaxRevision, status.update_revision);
  ObjectReader nodes = reader.Object("nodes");
  nodes.Int("desired", 0, INT32_MAX, status.nodes.desired);
  nodes.Int("updated", 0, INT32_MAX, status.nodes.updated);
  nodes.Int("ready", 0, INT32_MAX, status.nodes.ready);
  nodes.Int("fallback", 0, INT32_MAX, status.nodes.fallback);
  nodes.Int("degraded", 0, INT32_MAX, status.nodes.degraded);
  if (const json* modes = reader.Raw("modes"); modes != nullptr && modes->is_object()) {
    for (const auto& [mode, count] : modes->items()) {
      if (!count.is_number_integer()) continue;
      const auto number = count.get<int64_t>();
      if (number >= 0 && number <= INT32_MAX) status.modes[mode] = number;
    }
  }
  if (const json* gates = reader.Raw("trippedGates"); gates != nullptr && gates->is_array()) {
    for (const json& element : *gates)
      status.tripped_gates.push_back(ReadTrippedGate(element));
  }
  if (const json* conditions = reader.Raw("conditions");
      conditions != nullptr && conditions->is_array()) {
    for (const json& condition : *conditions) {
      status.conditions.push_back(ConditionFromJson(condition));
    }
  }
  return status;
}

json ToJson(const LabelSelector& selector) {
  json object = json::object();
  if (!selector.match_labels.empty()) object["matchLabels"] = selector.match_labels;
  for (const LabelSelector::Requirement& requirement : selector.match_expressions) {
    json element = {{"key", requirement.key}, {"operator", ToString(requirement.op)}};
    if (!requirement.values.empty()) element["values"] = requirement.values;
    object["matchExpressions"].push_back(std::move(element));
  }
  return object;
}

}  // namespace

bool LabelSelector::Matches(const std::map<std::string, std::string>& labels) const {
  for (const auto& [key, value] : match_labels) {
    const auto label = labels.find(key);
    if (label == labels.end() || label->second != value) return false;
  }
  for (const Requirement& requirement : match_expressions) {
    const auto label = labels.find(requirement.key);
    const bool there = label != labels.end();
    const bool among = there && std::find(requirement.values.begin(), requirement.values.end(),
                                          label->second) != requirement.values.end();
    bool holds = false;
    switch (requirement.op) {
      case Operator::kIn:
        holds = among;
        break;
      case Operator::kNotIn:
        holds = !among;
        break;
      case Operator::kExists:
        holds = there;
        break;
      case Operator::kDoesNotExist:
        holds = !there;
        break;
    }
    if (!holds) return false;
  }
  return true;
}

ProxyConfigurationSpec ProxyConfigurationSpecFromJson(const json& spec_json,
                                                      std::vector<FieldError>& errors) {
  ProxyConfigurationSpec spec;
  ObjectReader reader(&spec_json, "spec", errors);
  if (!reader.Has("mode")) reader.Error("mode", "is needed: userspace, iptables, ipvs or nftables");
  ReadSettings(reader, UnknownFields::kReject, spec.settings);
  reader.Word<Provider>("provider", ParseProvider, kProviderWords, spec.provider);
  spec.kube_proxy = ReadKubeProxyPolicy(reader.Object("kubeProxy"));
  if (spec.kube_proxy == KubeProxyPolicy::kTakeOver && spec.provider != Provider::kNodeAgent) {
    reader.ErrorAt(
        "spec.kubeProxy.policy",
        "TakeOver needs provider NodeAgent: with provider KubeProxy it is kube-proxy that "
        "serves");
  }
  spec.node_selector = ReadSelector(reader.Object("nodeSelector"), errors);
  reader.Int("priority", -limits::kMaxPriority, limits::kMaxPriority, spec.priority);
  spec.rollout = ReadRollout(reader.Object("rollout"), errors);
  reader.RejectUnknown();
  return spec;
}

std::vector<FieldError> ValidateProxyConfiguration(const json& spec) {
  std::vector<FieldError> errors;
  ProxyConfigurationSpecFromJson(spec, errors);
  return errors;
}

ProxyConfiguration ProxyConfigurationFromJson(const json& object) {
  ProxyConfiguration configuration;
  std::vector<FieldError> ignored;  // the server made the metadata, this operator the status
  ObjectReader root(&object, "", ignored);
  ObjectReader metadata = root.Object("metadata");
  metadata.String("name", 253, configuration.name);
  metadata.String("uid", 128, configuration.uid);
  metadata.String("resourceVersion", 128, configuration.resource_version);
  metadata.Int("generation", 0, INT64_MAX, configuration.generation);
  std::string created;
  metadata.String("creationTimestamp", 64, created);
  configuration.created = ParseTime(created).value_or(TimePoint{});
  configuration.deleting = metadata.Has("deletionTimestamp");
  metadata.Strings("finalizers", 1000, [&](const std::string& text, const std::string&) {
    configuration.finalizers.push_back(text);
  });
  if (configuration.name.size() > limits::kMaxConfigurationName) {
    configuration.errors.push_back(
        {"metadata.name", "may have at most " + std::to_string(limits::kMaxConfigurationName) +
                              " characters: it becomes a label's value"});
  }
  const json* spec = root.Raw("spec");
  const json empty = json::object();
  configuration.spec =
      ProxyConfigurationSpecFromJson(spec != nullptr ? *spec : empty, configuration.errors);
  configuration.status = ReadProxyConfigurationStatus(root.Object("status"));
  return configuration;
}

json ToJson(const ProxyConfigurationSpec& spec) {
  json object = ToJson(spec.settings);
  const Rollout& rollout = spec.rollout;
  object["provider"] = ToString(spec.provider);
  object["kubeProxy"]["policy"] =
      spec.kube_proxy == KubeProxyPolicy::kTakeOver ? "TakeOver" : "Leave";
  object["nodeSelector"] = ToJson(spec.node_selector);
  object["priority"] = spec.priority;
  json canary = {{"nodes", rollout.canary.nodes}, {"soak", FormatDuration(rollout.canary.soak)}};
  if (rollout.canary.node_selector) {
    canary["nodeSelector"] = ToJson(*rollout.canary.node_selector);
  }
  object["rollout"] = {
      {"canary", std::move(canary)},
      {"paused", rollout.paused},
      {"minReady", FormatDuration(rollout.min_ready)},
      {"progressDeadline", FormatDuration(rollout.progress_deadline)},
      {"gates", ToJson(rollout.gates)},
      {"onFailure", rollout.on_failure == OnFailure::kPause ? "Pause" : "Rollback"},
      {"revisionHistoryLimit", rollout.revision_history_limit}};
  if (rollout.max_unavailable.percent) {
    object["rollout"]["maxUnavailable"] = std::to_string(rollout.max_unavailable.value) + "%";
  } else {
    object["rollout"]["maxUnavailable"] = rollout.max_unavailable.value;
  }
  if (rollout.rollback_to) object["rollout"]["rollbackTo"] = *rollout.rollback_to;
  return object;
}

json ToJson(const TrippedGate& tripped) {
  return {{"gate", tripped.gate},
          {"node", tripped.node},
          {"revision", tripped.revision},
          {"figure", tripped.figure},
          {"bound", tripped.bound}};
}

json ToJson(const ProxyConfigurationStatus& written) {
  ProxyConfigurationStatus status = written;
  KeepToSchema(status);
  json conditions = json::array();
  for (const Condition& condition : status.conditions)
    conditions.push_back(ToJson(condition));
  json gates = json::array();
  for (const TrippedGate& tripped : status.tripped_gates)
    gates.push_back(ToJson(tripped));
  return {{"observedGeneration", status.observed_generation},
          {"phase", status.phase},
          {"currentRevision", status.current_revision},
          {"updateRevision", status.update_revision},
          {"nodes",
           {{"desired", status.nodes.desired},
            {"updated", status.nodes.updated},
            {"ready", status.nodes.ready},
            {"fallback", status.nodes.fallback},
            {"degraded", status.nodes.degraded}}},
          {"modes", status.modes},
          {"trippedGates", std::move(gates)},
          {"conditions", std::move(conditions)}};
}

}  // namespace pointsman::kube

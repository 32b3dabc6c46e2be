// ProxyConfiguration: what the user wants, for which nodes, and how to get there.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "kube/pointsman/condition.h"
#include "kube/pointsman/field_error.h"
#include "kube/pointsman/int_or_percent.h"
#include "kube/pointsman/provider.h"
#include "kube/pointsman/proxy_settings.h"
#include "kube/pointsman/rollout_gates.h"
#include "kube/time/rfc3339.h"

namespace pointsman::kube {

// metav1.LabelSelector. Empty selects everything.
struct LabelSelector {
  enum class Operator : uint8_t { kIn, kNotIn, kExists, kDoesNotExist };
  struct Requirement {
    std::string key;
    Operator op = Operator::kExists;
    std::vector<std::string> values;
    bool operator==(const Requirement&) const = default;
  };
  std::map<std::string, std::string> match_labels;
  std::vector<Requirement> match_expressions;

  // As apimachinery's labels.Selector: all must hold; NotIn also holds where the label is absent.
  bool Matches(const std::map<std::string, std::string>& labels) const;
  bool operator==(const LabelSelector&) const = default;
};

enum class OnFailure : uint8_t { kRollback, kPause };

// What becomes of a kube-proxy on the nodes: it stands beside ours, or each node is taken out of
// its DaemonSet once ours serves there.
enum class KubeProxyPolicy : uint8_t { kLeave, kTakeOver };

struct Canary {
  int64_t nodes = 1;  // 0: no canary
  Duration soak = std::chrono::seconds(60);
  std::optional<LabelSelector> node_selector;  // instead of `nodes`
  bool operator==(const Canary&) const = default;
};

struct Rollout {
  IntOrPercent max_unavailable;
  Canary canary;
  bool paused = false;
  Duration min_ready = std::chrono::seconds(10);
  Duration progress_deadline = std::chrono::minutes(10);
  OnFailure on_failure = OnFailure::kRollback;
  RolloutGates gates;
  int64_t revision_history_limit = 10;
  std::optional<int64_t> rollback_to;
  bool operator==(const Rollout&) const = default;
};

struct ProxyConfigurationSpec {
  ProxySettings settings;
  Provider provider = Provider::kNodeAgent;
  KubeProxyPolicy kube_proxy = KubeProxyPolicy::kLeave;  // kubeProxy.policy
  LabelSelector node_selector;
  int64_t priority = 0;
  Rollout rollout;
  bool operator==(const ProxyConfigurationSpec&) const = default;
};

struct NodeCounts {
  int64_t desired = 0;   // nodes this configuration governs
  int64_t updated = 0;   // of them: asked to run the update revision, and running it
  int64_t ready = 0;     // of them: serving, whatever the revision
  int64_t fallback = 0;  // of the updated: in another mode than the one asked for
  int64_t degraded = 0;  // of the desired: with a problem
  bool operator==(const NodeCounts&) const = default;
};

// A bound of spec.rollout.gates that a node's figure was beyond.
struct TrippedGate {
  std::string gate;  // the field's name: "cutConnections"
  std::string node;
  int64_t revision = 0;  // that was being rolled out
  std::string figure;    // with its unit, as `bound`
  std::string bound;
  bool operator==(const TrippedGate&) const = default;
};

struct ProxyConfigurationStatus {
  int64_t observed_generation = 0;
  std::string phase;
  int64_t current_revision = 0;  // the last that ran on every node that can be reached; 0: none yet
  int64_t update_revision = 0;   // the one of the spec
  NodeCounts nodes;
  std::map<std::string, int64_t> modes;  // nodes by the mode that runs on them
  // What stopped the rollout of the update revision; kept while it is rolled back.
  std::vector<TrippedGate> tripped_gates;
  // Accepted, PreflightPassed, Progressing, Available, Degraded, Paused, RolledBack,
  // KubeProxyReplaced, ClockSkew, NodesWithoutAgent.
  std::vector<Condition> conditions;
  bool operator==(const ProxyConfigurationStatus&) const = default;
};

inline constexpr const char* kFinalizer = "pointsman.io/proxyconfiguration";

struct ProxyConfiguration {
  std::string name;
  std::string uid;
  std::string resource_version;
  int64_t generation = 0;
  TimePoint created{};
  bool deleting = false;
  std::vector<std::string> finalizers;
  ProxyConfigurationSpec spec;  // what could be read of it: see `errors`
  std::vector<FieldError> errors;
  ProxyConfigurationStatus status;
};

// Never throws: what is wrong with the spec is in `errors` (servers before 1.25 do not evaluate the
// schema's rules, so every spec is validated here in full).
ProxyConfiguration ProxyConfigurationFromJson(const nlohmann::json& object);

ProxyConfigurationSpec ProxyConfigurationSpecFromJson(const nlohmann::json& spec,
                                                      std::vector<FieldError>& errors);
// All members, also those that have their default.
nlohmann::json ToJson(const ProxyConfigurationSpec& spec);
nlohmann::json ToJson(const TrippedGate& tripped);
// Within the CRD's schema, whatever the status is (status_bounds.h).
nlohmann::json ToJson(const ProxyConfigurationStatus& status);

}  // namespace pointsman::kube

// NodeProxy: what the operator asks of one node, and what that node's agent says of itself.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "kube/pointsman/change_impact.h"
#include "kube/pointsman/condition.h"
#include "kube/pointsman/provider.h"
#include "kube/pointsman/proxy_settings.h"

namespace pointsman::kube {

// A revision whose preflight the operator wants to know before it changes any node.
struct NodeProxyCandidate {
  int64_t revision = 0;
  Mode mode = Mode::kIptables;
  std::vector<Mode> fallback_modes;
  std::string ipvs_scheduler;
  ModuleSettings modules;
  NeighbourSettings neighbours;
  Provider provider = Provider::kNodeAgent;
  bool operator==(const NodeProxyCandidate&) const = default;
};

struct NodeProxySpec {
  std::string configuration;  // name of the ProxyConfiguration
  // The revision to run, unique in the cluster (never the same number for two configurations).
  // 0: nothing is asked for yet but the candidate's preflight; the agent leaves the kernel as it is
  // and ignores mode and settings.
  int64_t revision = 0;
  // spec.state: "Active" or "Removed". Removed: the agent takes its rules out of the kernel and
  // says activeMode "". Deleting a NodeProxy alone removes nothing: a slip of the hand must not cut
  // off a node.
  bool removed = false;
  // spec.kubeProxy: "Leave" or "Remove". Remove: no kube-proxy runs on the node any more; what it
  // left in the kernel is to go.
  bool remove_kube_proxy = false;
  // KubeProxy: a kube-proxy that the operator configures serves the node. The agent programs
  // nothing, loads modules and says what kube-proxy does.
  Provider provider = Provider::kNodeAgent;
  // With provider KubeProxy: where that kube-proxy answers, as its file says it ("" is its
  // default).
  std::string healthz_bind_address;
  std::string metrics_bind_address;
  ProxySettings settings;
  std::optional<NodeProxyCandidate> candidate;
  bool operator==(const NodeProxySpec&) const = default;
};

struct ModuleStatus {
  std::string name;
  std::string state;  // Builtin | Loaded | LoadedNow | Missing
  bool operator==(const ModuleStatus&) const = default;
};

// A parameter of the kernel as it was read back: "net.ipv4.vs.conntrack", "1".
struct SysctlStatus {
  std::string name;
  std::string value;
  bool operator==(const SysctlStatus&) const = default;
};

// Who else was found at work on the node.
struct NeighbourStatus {
  std::string name;  // one of kNeighbourNames
  std::string kind;  // NetworkPlugin, PolicyEngine, ServiceProxy, Firewall, …
  // How each mode gets along with it: "ipvs" → Fine, Warning, Refused, or Accepted (what else would
  // be refused).
  std::map<std::string, std::string> modes;
  std::string message;
  bool operator==(const NeighbourStatus&) const = default;
};

struct CandidateStatus {
  int64_t revision = 0;
  std::string mode;     // the mode that would run, "" if none can
  bool passed = false;  // the desired mode itself can run
  std::string message;
  // As in the candidate. An agent that knows of no provider KubeProxy does not say it, and cannot
  // be asked for one.
  Provider provider = Provider::kNodeAgent;
  bool operator==(const CandidateStatus&) const = default;
};

// Whether one of the modes could run there, with the settings that the node has. Nothing is loaded
// for it.
struct ModePreflight {
  std::string mode;
  bool passed = false;
  std::string reason;  // as of condition PreflightPassed
  std::string message;
  bool operator==(const ModePreflight&) const = default;
};

// How far what kube-proxy left has been removed, as far as that is asked for.
inline constexpr const char* kKubeProxyDraining = "Draining";
inline constexpr const char* kKubeProxyRemoved = "Removed";
inline constexpr const char* kKubeProxyNotRemoved = "NotRemoved";
inline constexpr const char* kKubeProxyRunning = "Running";  // one does all the same
inline constexpr const char* kKubeProxyReturned =
    "Returned";  // after Removed: it has written again
struct KubeProxyStatus {
  std::string state;  // one of these
  std::string message;
  bool operator==(const KubeProxyStatus&) const = default;
};

struct NodeProxyStatus {
  int64_t observed_generation = 0;
  int64_t observed_revision =
      0;  // the revision that is fully applied (handover begun and verified)
  // With provider KubeProxy: the revision that kube-proxy may be restarted for. Whatever would be
  // missing meanwhile is served, and nothing is open any more that would be cut off, as far as that
  // can be had.
  int64_t prepared_revision = 0;
  std::string active_mode;  // "" when nothing is programmed
  std::string kernel_release;
  std::vector<ModuleStatus> modules;
  std::vector<NeighbourStatus> neighbours;
  std::vector<SysctlStatus> sysctls;  // what the running mode needs or has set
  int64_t services = 0;
  int64_t endpoints = 0;
  std::string last_sync;  // RFC 3339; moves only when something else in the status changes too
  std::string draining_mode;
  int64_t draining_connections = 0;
  std::string agent_version;
  std::optional<CandidateStatus> candidate;
  std::optional<ChangeImpact> impact;         // nullopt: no revision was asked for yet
  std::optional<KubeProxyStatus> kube_proxy;  // nullopt: its removal is not asked for
  // Of every mode; from time to time, so that people can be told before they ask for one.
  std::vector<ModePreflight> preflights;
  // PreflightPassed, ModulesLoaded, RulesSynced, ServicesAccepted, Ready, Degraded.
  std::vector<Condition> conditions;
  bool operator==(const NodeProxyStatus&) const = default;
};

// Annotations the operator keeps its clock in, so that a successor knows since when: RFC 3339.
inline constexpr const char* kUpdatedAtAnnotation = "pointsman.io/updated-at";  // spec changed
inline constexpr const char* kAskedAtAnnotation = "pointsman.io/asked-at";      // candidate set

struct NodeProxy {
  std::string name;
  std::string uid;
  std::string resource_version;
  int64_t generation = 0;
  bool deleting = false;
  std::string node_uid;    // of the Node that owns it, "" if none
  std::string updated_at;  // the annotations' values
  std::string asked_at;
  NodeProxySpec spec;
  NodeProxyStatus status;
};

// Throws std::invalid_argument that names the field ("spec.ipvs.scheduler: …"). Unknown fields are
// left alone (a newer operator may have written them).
NodeProxy NodeProxyFromJson(const nlohmann::json& object);
nlohmann::json ToJson(const NodeProxySpec& spec);
// Within the CRD's schema, whatever the status is (status_bounds.h).
nlohmann::json ToJson(const NodeProxyStatus& status);

}  // namespace pointsman::kube

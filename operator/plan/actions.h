// What the operator is to do next, as plain values.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "kube/pointsman/node_proxy.h"
#include "kube/pointsman/proxy_configuration.h"
#include "kube/time/rfc3339.h"
#include "operator/plan/revision.h"

namespace pointsman::op {

struct PlannedEvent {
  bool warning = false;
  std::string reason;
  std::string message;
};

struct NodeProxyChange {
  enum class Kind : uint8_t { kCreate, kUpdate, kDelete };
  Kind kind = Kind::kCreate;
  std::string name;
  // Preconditions of an update or a deletion: nobody changed the object meanwhile.
  std::string uid;
  std::string resource_version;
  std::string node_uid;  // the owner of a new one
  kube::NodeProxySpec spec;
  // The annotations to write, "" for those that stay as they are.
  std::string updated_at;
  std::string asked_at;
  // What to tell about it once it is done, if anything.
  std::optional<PlannedEvent> event;
};

// A Node's labels kKubeProxyLabel and kRevisionLabel (kube_proxy_daemon_set.h).
struct NodeLabelChange {
  std::string name;
  std::string uid;  // precondition: it is this Node, and none that came after it
  std::map<std::string, std::string> labels;  // "": it is taken off
  std::optional<PlannedEvent> event;
};

// Of kube-proxy's DaemonSet.
struct DaemonSetChange {
  std::string name;
  std::string uid;  // preconditions, as above
  std::string resource_version;
  nlohmann::json patch;  // a merge patch
  std::string what;      // for the log
};

// Of what belongs to kube-proxy in its namespace, but the DaemonSet above.
struct KubeProxyObjectChange {
  enum class Kind : uint8_t {
    kCreate,
    kPatch,   // a merge patch
    kDelete,  // with what it has made
    kOrphan,  // without
  };
  enum class Of : uint8_t { kConfigMap, kDaemonSet, kPod };
  Kind kind = Kind::kCreate;
  Of of = Of::kConfigMap;
  std::string name;
  std::string uid;               // preconditions, where it is there
  std::string resource_version;  // "": any
  nlohmann::json object;         // whole, or the patch
  std::string what;              // for the log
};

struct ConfigurationPlan {
  std::shared_ptr<const kube::ProxyConfiguration> configuration;
  bool add_finalizer = false;
  bool remove_finalizer = false;
  std::optional<Revision> create_revision;
  std::vector<std::string> delete_revisions;  // names
  std::vector<NodeProxyChange> changes;
  std::vector<NodeLabelChange> labels;
  kube::ProxyConfigurationStatus status;  // to be written if it differs from the configuration's
  std::vector<PlannedEvent> events;       // to be told once the status is written
};

struct Plan {
  std::vector<ConfigurationPlan> configurations;
  // NodeProxies that no ProxyConfiguration answers for: their Node or their configuration is gone.
  std::vector<NodeProxyChange> orphans;
  // Nodes out of kube-proxy's DaemonSet that no ProxyConfiguration answers for.
  std::vector<NodeLabelChange> labels;
  std::optional<DaemonSetChange> daemon_set;  // before any label
  // Before that. Each may be left out and done in a later pass.
  std::vector<KubeProxyObjectChange> kube_proxy_objects;
  // When something will be due though no object changes (minReady, soak, deadlines).
  std::optional<kube::TimePoint> wake_up;
};

}  // namespace pointsman::op

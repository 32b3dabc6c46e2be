// What to do next, as a function of what the API says: no IO, no clock, and no memory but of when
// something was seen (sightings.h). Killing the operator between any two writes loses nothing, for
// the next call starts from the same objects.
//
// What nodes write (NodeProxy.status) is taken for what it is: a node can say anything of itself,
// and only of itself. No number, time or mode of it is used unchecked.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kube/objects/daemon_set.h"
#include "kube/objects/node.h"
#include "kube/objects/pod.h"
#include "kube/pointsman/node_proxy.h"
#include "kube/pointsman/proxy_configuration.h"
#include "operator/plan/revision.h"
#include "operator/plan/sightings.h"

namespace pointsman::op {

struct PlanInput {
  std::vector<std::shared_ptr<const kube::ProxyConfiguration>> configurations;
  std::vector<std::shared_ptr<const kube::Node>> nodes;
  std::vector<std::shared_ptr<const kube::NodeProxy>> node_proxies;
  std::vector<Revision> revisions;
  // The node agents' own, in the operator's namespace (agent_nodes.h). Empty also when the operator
  // may not read them.
  std::vector<std::shared_ptr<const kube::Pod>> agent_pods;
  std::vector<std::shared_ptr<const kube::DaemonSet>> agent_daemon_sets;
  kube::TimePoint now{};  // to be written; may jump
  Instant instant{};      // to count by; never jumps
};

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

struct ConfigurationPlan {
  std::shared_ptr<const kube::ProxyConfiguration> configuration;
  bool add_finalizer = false;
  bool remove_finalizer = false;
  std::optional<Revision> create_revision;
  std::vector<std::string> delete_revisions;  // names
  std::vector<NodeProxyChange> changes;
  kube::ProxyConfigurationStatus status;  // to be written if it differs from the configuration's
  std::vector<PlannedEvent> events;       // to be told once the status is written
};

struct Plan {
  std::vector<ConfigurationPlan> configurations;
  // NodeProxies that no ProxyConfiguration answers for: their Node or their configuration is gone.
  std::vector<NodeProxyChange> orphans;
  // When something will be due though no object changes (minReady, soak, deadlines).
  std::optional<kube::TimePoint> wake_up;
};

// Costs O(nodes · configurations) at most, and O(nodes · log nodes) for each configuration.
// `sightings`: empty when this operator begins to lead, and then kept from pass to pass.
Plan MakePlan(const PlanInput& input, Sightings& sightings);

}  // namespace pointsman::op

// What the operator knows when it plans: the objects as the API has them, and the time.
#pragma once

#include <memory>
#include <vector>

#include "kube/objects/daemon_set.h"
#include "kube/objects/node.h"
#include "kube/objects/pod.h"
#include "kube/pointsman/node_proxy.h"
#include "kube/pointsman/proxy_configuration.h"
#include "kube/time/rfc3339.h"
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

}  // namespace pointsman::op

// Which endpoints of a Service port this node sends which traffic to: readiness, termination,
// locality and topology. The rules are kube-proxy's (pkg/proxy/topology.go, CategorizeEndpoints).
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kube/objects/endpoint_slice.h"
#include "kube/objects/service.h"
#include "node-agent/model/service_model.h"

namespace pointsman::agent {

using SlicePtr = std::shared_ptr<const kube::EndpointSlice>;

// What is known of this node. `zone` "": not known.
struct NodeTopology {
  std::string_view node_name;
  std::string_view zone;
};

// One endpoint of one Service port, with what the choice depends on.
struct CandidateEndpoint {
  Backend backend;
  bool ready : 1;
  bool serving : 1;
  bool terminating : 1;
  bool has_zone_hints : 1;
  bool hinted_zone : 1;  // for this node's zone
  bool has_node_hints : 1;
  bool hinted_node : 1;  // for this node
};

// Does the slice hold addresses of the family?
bool IsUsable(const kube::EndpointSlice& slice, net::Family family);
// On this node?
bool IsLocal(const kube::EndpointSlice& slice, const kube::Endpoint& endpoint,
             const NodeTopology& node);

struct EndpointChoice {
  std::vector<Backend> cluster;   // for a Cluster traffic policy: with topology
  std::vector<Backend> local;     // for a Local traffic policy
  bool any = false;               // is there a usable endpoint anywhere in the cluster?
  std::vector<Backend> draining;  // terminating and in none of the lists that were asked for
};

// `want_cluster`, `want_local`: which of the lists the Service port uses.
EndpointChoice ChooseEndpoints(const std::vector<CandidateEndpoint>& endpoints, bool want_cluster,
                               bool want_local);

// The number of addresses of ready endpoints on this node, whatever their ports: what a health
// check node port answers (pkg/proxy/endpointschangetracker.go, LocalReadyEndpoints).
int CountLocalReady(const std::vector<SlicePtr>& slices, net::Family family,
                    const NodeTopology& node);

}  // namespace pointsman::agent

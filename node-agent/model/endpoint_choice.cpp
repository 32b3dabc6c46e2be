#include "node-agent/model/endpoint_choice.h"

#include <algorithm>
#include <tuple>

namespace pointsman::agent {
namespace {

enum class Topology { kNone, kSameNode, kSameZone };

// Hints count only if every ready endpoint has them and one of them is for here; a hint for the
// node goes before one for the zone (KEP-3015). Neither the annotation nor trafficDistribution is
// looked at: they tell the EndpointSlice controller to write hints, and hints that are there are
// followed (kubernetes#116522).
Topology TopologyFromHints(const std::vector<CandidateEndpoint>& endpoints) {
  bool any_ready = false;
  bool all_for_nodes = true;
  bool all_for_zones = true;
  bool for_this_node = false;
  bool for_this_zone = false;
  for (const CandidateEndpoint& endpoint : endpoints) {
    if (!endpoint.ready) continue;
    any_ready = true;
    all_for_nodes &= endpoint.has_node_hints;
    all_for_zones &= endpoint.has_zone_hints;
    for_this_node |= endpoint.hinted_node;
    for_this_zone |= endpoint.hinted_zone;
  }
  if (!any_ready) return Topology::kNone;
  if (all_for_nodes && for_this_node) return Topology::kSameNode;
  if (all_for_zones && for_this_zone) return Topology::kSameZone;
  return Topology::kNone;
}

bool IsHere(const CandidateEndpoint& endpoint, Topology topology) {
  switch (topology) {
    case Topology::kNone:
      return true;
    case Topology::kSameNode:
      return endpoint.hinted_node;
    case Topology::kSameZone:
      return endpoint.hinted_zone;
  }
  return true;
}

bool IsLastResort(const CandidateEndpoint& endpoint) {
  return !endpoint.ready && endpoint.serving && endpoint.terminating;
}

template <typename Predicate>
std::vector<Backend> Filter(const std::vector<CandidateEndpoint>& endpoints, Predicate keep) {
  std::vector<Backend> backends;
  const auto count = std::count_if(endpoints.begin(), endpoints.end(), keep);
  backends.reserve(static_cast<size_t>(count));  // exactly: they stay in memory
  for (const CandidateEndpoint& endpoint : endpoints) {
    if (keep(endpoint)) backends.push_back(endpoint.backend);
  }
  return backends;
}

bool Contains(const std::vector<Backend>& sorted, const Backend& backend) {
  return std::binary_search(sorted.begin(), sorted.end(), backend);
}

}  // namespace

bool IsUsable(const kube::EndpointSlice& slice, net::Family family) {
  return !slice.fqdn && slice.family == family;
}

bool IsLocal(const kube::EndpointSlice& slice, const kube::Endpoint& endpoint,
             const NodeTopology& node) {
  return endpoint.node_name != 0 && slice.strings[endpoint.node_name] == node.node_name;
}

EndpointChoice ChooseEndpoints(const std::vector<CandidateEndpoint>& endpoints, bool want_cluster,
                               bool want_local) {
  EndpointChoice choice;
  if (want_cluster) {
    const Topology topology = TopologyFromHints(endpoints);
    choice.cluster = Filter(endpoints, [topology](const CandidateEndpoint& endpoint) {
      return endpoint.ready && IsHere(endpoint, topology);
    });
    // Topology never leaves nothing over, so there is no ready endpoint at all.
    if (choice.cluster.empty()) choice.cluster = Filter(endpoints, IsLastResort);
  }
  if (want_local) {
    choice.local = Filter(endpoints, [](const CandidateEndpoint& endpoint) {
      return endpoint.backend.local && endpoint.ready;
    });
    if (choice.local.empty()) {
      choice.local = Filter(endpoints, [](const CandidateEndpoint& endpoint) {
        return endpoint.backend.local && IsLastResort(endpoint);
      });
    }
  }
  choice.any = std::any_of(
      endpoints.begin(), endpoints.end(),
      [](const CandidateEndpoint& endpoint) { return endpoint.ready || IsLastResort(endpoint); });
  choice.draining = Filter(endpoints, [&choice](const CandidateEndpoint& endpoint) {
    return endpoint.terminating && !Contains(choice.cluster, endpoint.backend) &&
           !Contains(choice.local, endpoint.backend);
  });
  return choice;
}

int CountLocalReady(const std::vector<SlicePtr>& slices, net::Family family,
                    const NodeTopology& node) {
  std::vector<net::IpAddress> addresses;
  for (const SlicePtr& slice : slices) {
    if (!IsUsable(*slice, family)) continue;
    const bool has_port =
        std::any_of(slice->ports.begin(), slice->ports.end(),
                    [](const kube::EndpointPort& port) { return port.port != 0; });
    if (!has_port) continue;
    for (const kube::Endpoint& endpoint : slice->endpoints) {
      if (endpoint.ready && IsLocal(*slice, endpoint, node)) addresses.push_back(endpoint.address);
    }
  }
  std::sort(addresses.begin(), addresses.end());
  return static_cast<int>(std::unique(addresses.begin(), addresses.end()) - addresses.begin());
}

}  // namespace pointsman::agent

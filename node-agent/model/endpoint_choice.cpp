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

bool IsUsable(const kube::EndpointSlice& slice, net::Family family) {
  return !slice.fqdn && slice.family == family;
}

bool HasHint(const kube::EndpointSlice& slice, uint16_t set, std::string_view name) {
  if (set == 0 || name.empty()) return false;
  const std::vector<kube::InternedString>& names = slice.hint_sets[set];
  const auto found =
      std::lower_bound(names.begin(), names.end(), name,
                       [](std::string_view one, std::string_view other) { return one < other; });
  return found != names.end() && *found == name;
}

bool IsLocal(const kube::EndpointSlice& slice, const kube::Endpoint& endpoint,
             const NodeTopology& node) {
  return endpoint.node_name != 0 && slice.strings[endpoint.node_name] == node.node_name;
}

}  // namespace

std::vector<CandidateEndpoint> CollectEndpoints(const std::vector<SlicePtr>& slices,
                                                net::Family family, std::string_view port_name,
                                                Protocol protocol, const NodeTopology& node) {
  std::vector<CandidateEndpoint> endpoints;
  for (const SlicePtr& slice : slices) {
    if (!IsUsable(*slice, family)) continue;
    for (const kube::EndpointPort& port : slice->ports) {
      if (port.port == 0 || port.protocol != protocol || port.name != port_name) continue;
      endpoints.reserve(endpoints.size() + slice->endpoints.size());
      for (const kube::Endpoint& endpoint : slice->endpoints) {
        endpoints.push_back({.backend = {endpoint.address, port.port,
                                         IsLocal(*slice, endpoint, node), endpoint.node_name == 0},
                             .ready = endpoint.ready,
                             .serving = endpoint.serving,
                             .terminating = endpoint.terminating,
                             .has_zone_hints = endpoint.zone_hints != 0,
                             .hinted_zone = HasHint(*slice, endpoint.zone_hints, node.zone),
                             .has_node_hints = endpoint.node_hints != 0,
                             .hinted_node = HasHint(*slice, endpoint.node_hints, node.node_name)});
      }
    }
  }
  // Of two of the same address the better one comes first. All fields take part, so that the order
  // of the slices does not matter.
  const auto order = [](const CandidateEndpoint& a, const CandidateEndpoint& b) {
    if (const auto by_ip = a.backend.ip <=> b.backend.ip; by_ip != 0) return by_ip < 0;
    const auto rest = [](const CandidateEndpoint& e) {
      return std::tuple(e.backend.port, !e.backend.local, !e.ready, !e.serving, e.terminating,
                        !e.has_zone_hints, !e.hinted_zone, !e.has_node_hints, !e.hinted_node,
                        !e.backend.unplaced);
    };
    return rest(a) < rest(b);
  };
  std::sort(endpoints.begin(), endpoints.end(), order);
  const auto same = [](const CandidateEndpoint& a, const CandidateEndpoint& b) {
    return a.backend.ip == b.backend.ip && a.backend.port == b.backend.port;
  };
  endpoints.erase(std::unique(endpoints.begin(), endpoints.end(), same), endpoints.end());
  return endpoints;
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

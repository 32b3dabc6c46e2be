#include "node-agent/model/service_endpoints.h"

#include <algorithm>
#include <tuple>

namespace pointsman::agent {
namespace {

bool HasHint(const kube::EndpointSlice& slice, uint16_t set, std::string_view name) {
  if (set == 0 || name.empty()) return false;
  const std::vector<kube::InternedString>& names = slice.hint_sets[set];
  const auto found =
      std::lower_bound(names.begin(), names.end(), name,
                       [](std::string_view one, std::string_view other) { return one < other; });
  return found != names.end() && *found == name;
}

}  // namespace

ServiceEndpoints::ServiceEndpoints(const std::vector<SlicePtr>& slices, net::Family family,
                                   const NodeTopology& node, size_t most)
    : node_(node) {
  for (const SlicePtr& slice : slices) {
    if (!IsUsable(*slice, family)) continue;
    for (const kube::EndpointPort& port : slice->ports) {
      if (port.port == 0) continue;
      ports_.push_back(
          {port.name, port.protocol, port.port, static_cast<uint32_t>(slices_.size())});
    }
    slices_.push_back(slice.get());
    total_ += slice->endpoints.size();
  }
  std::sort(ports_.begin(), ports_.end(), [](const Port& a, const Port& b) {
    return std::tie(a.name, a.protocol) < std::tie(b.name, b.protocol);
  });
  kept_ = total_;
  if (total_ > most) Keep(most);
}

void ServiceEndpoints::Keep(size_t most) {
  struct Ranked {
    const kube::Endpoint* endpoint;
    size_t slice;
    bool usable;
    bool local;
  };
  std::vector<Ranked> all;
  all.reserve(total_);
  for (size_t i = 0; i < slices_.size(); ++i) {
    for (const kube::Endpoint& endpoint : slices_[i]->endpoints) {
      all.push_back({&endpoint, i, endpoint.ready || (endpoint.serving && endpoint.terminating),
                     IsLocal(*slices_[i], endpoint, node_)});
    }
  }
  const auto better = [](const Ranked& a, const Ranked& b) {
    if (a.usable != b.usable) return a.usable;
    if (a.local != b.local) return a.local;
    return a.endpoint->address < b.endpoint->address;
  };
  const auto end = all.begin() + static_cast<ptrdiff_t>(most);
  std::nth_element(all.begin(), end, all.end(), better);
  kept_of_.resize(slices_.size());
  for (auto at = all.begin(); at != end; ++at)
    kept_of_[at->slice].push_back(at->endpoint);
  kept_ = most;
}

void ServiceEndpoints::Add(const kube::EndpointSlice& slice, const kube::Endpoint& endpoint,
                           uint16_t port, std::vector<CandidateEndpoint>& to) const {
  to.push_back({.backend = {endpoint.address, port, IsLocal(slice, endpoint, node_),
                            endpoint.node_name == 0},
                .ready = endpoint.ready,
                .serving = endpoint.serving,
                .terminating = endpoint.terminating,
                .has_zone_hints = endpoint.zone_hints != 0,
                .hinted_zone = HasHint(slice, endpoint.zone_hints, node_.zone),
                .has_node_hints = endpoint.node_hints != 0,
                .hinted_node = HasHint(slice, endpoint.node_hints, node_.node_name)});
}

std::vector<CandidateEndpoint> ServiceEndpoints::Of(std::string_view port_name,
                                                    Protocol protocol) const {
  std::vector<CandidateEndpoint> endpoints;
  auto port = std::lower_bound(
      ports_.begin(), ports_.end(), std::tie(port_name, protocol),
      [](const Port& a, const auto& wanted) { return std::tie(a.name, a.protocol) < wanted; });
  for (; port != ports_.end() && port->name == port_name && port->protocol == protocol; ++port) {
    const kube::EndpointSlice& slice = *slices_[port->slice];
    if (kept_of_.empty()) {
      endpoints.reserve(endpoints.size() + slice.endpoints.size());
      for (const kube::Endpoint& endpoint : slice.endpoints)
        Add(slice, endpoint, port->number, endpoints);
    } else {
      for (const kube::Endpoint* endpoint : kept_of_[port->slice])
        Add(slice, *endpoint, port->number, endpoints);
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

}  // namespace pointsman::agent

// The endpoints of one Service in one family, by Service port.
#pragma once

#include <cstdint>
#include <limits>
#include <string_view>
#include <vector>

#include "node-agent/model/endpoint_choice.h"

namespace pointsman::agent {

// Built once a Service and family: looking through all ports of all slices for each port of the
// Service would be 400 million comparisons for one with the 20,000 ports that the API allows.
class ServiceEndpoints {
 public:
  static constexpr size_t kAll = std::numeric_limits<size_t>::max();

  // What is referred to outlives this. Of more than `most` endpoints those are kept that are usable
  // (ready, or serving while they terminate), of these the ones on this node, of these the lowest
  // addresses.
  ServiceEndpoints(const std::vector<SlicePtr>& slices, net::Family family,
                   const NodeTopology& node, size_t most = kAll);

  // Those of the slices that have a port of that name and protocol, sorted by backend address and
  // port, each once: of an endpoint that is in two slices (it is moving from one to the other) the
  // local, the ready, then the serving one counts.
  std::vector<CandidateEndpoint> Of(std::string_view port_name, Protocol protocol) const;

  // In all slices; how many of them are kept.
  size_t total() const { return total_; }
  size_t kept() const { return kept_; }

 private:
  struct Port {
    std::string_view name;
    Protocol protocol = Protocol::kTcp;
    uint16_t number = 0;
    uint32_t slice = 0;  // of slices_
  };
  void Keep(size_t most);
  void Add(const kube::EndpointSlice& slice, const kube::Endpoint& endpoint, uint16_t port,
           std::vector<CandidateEndpoint>& to) const;

  const NodeTopology node_;
  std::vector<const kube::EndpointSlice*> slices_;  // those of the family
  std::vector<Port> ports_;                         // sorted by name and protocol
  size_t total_ = 0;
  size_t kept_ = 0;
  // By slice; only when not all are kept.
  std::vector<std::vector<const kube::Endpoint*>> kept_of_;
};

}  // namespace pointsman::agent

// From one Service and its EndpointSlices to model entries: a pure function.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "kube/objects/service.h"
#include "node-agent/model/address_claims.h"
#include "node-agent/model/endpoint_choice.h"
#include "node-agent/model/service_model.h"

namespace pointsman::agent {

using AddressSet = std::unordered_set<net::IpAddress>;

// The addresses of a Service in one family that traffic can come to, the same for all its ports.
struct FamilyAddresses {
  net::IpAddress cluster_ip;
  std::vector<net::IpAddress> external_ips;       // sorted, none that is in the other two
  std::vector<net::IpAddress> load_balancer_ips;  // sorted, ipMode VIP only, not cluster_ip
};

// One element a family that has a cluster IP; none for a Service that gets no proxy (ExternalName,
// headless). Addresses that cannot be a Service's (loopback, multicast, unspecified) and
// `protected_addresses` are left out, and `problems`, if not null, says so.
std::vector<FamilyAddresses> AddressesOf(const kube::Service& service,
                                         const AddressSet& protected_addresses,
                                         std::vector<std::string>* problems);

// Every address with port and protocol that the Service wants, each once.
std::vector<AddressClaim> ClaimsOf(const kube::Service& service,
                                   const std::vector<FamilyAddresses>& families);

// The name of the Service that has the address, or "" when it is this one.
using WhoHas = std::function<std::string_view(const ServiceAddress&)>;

// What a Service's entries depend on beside its own objects.
struct ResolvedOn {
  NodeTopology topology;
  const std::vector<net::IpAddress>& source_addresses;  // NodeNetwork's
  bool masquerade_all = false;                          // ModelBuilder::SetMasqueradeAll
};

// The entries, sorted by id. An address that another Service has
// is left out and told in `problems`; a port whose cluster IP another Service has, altogether.
std::vector<ServicePortEntry> ResolveService(const kube::Service& service,
                                             const std::vector<FamilyAddresses>& families,
                                             const std::vector<SlicePtr>& slices,
                                             const ResolvedOn& node, const WhoHas& who_has,
                                             std::vector<std::string>& problems);

}  // namespace pointsman::agent

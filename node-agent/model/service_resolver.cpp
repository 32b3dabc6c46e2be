#include "node-agent/model/service_resolver.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>
#include <spdlog/fmt/fmt.h>

#include "node-agent/model/service_bounds.h"
#include "node-agent/model/service_endpoints.h"

namespace pointsman::agent {
namespace {

net::IpAddress Unspecified(net::Family family) {
  static constexpr uint8_t kZeros[16] = {};
  return net::IpAddress::FromBytes(kZeros, family == net::Family::kIPv4 ? 4 : 16);
}

void SortUnique(std::vector<net::IpAddress>& addresses) {
  std::sort(addresses.begin(), addresses.end());
  addresses.erase(std::unique(addresses.begin(), addresses.end()), addresses.end());
}

bool Contains(const std::vector<net::IpAddress>& sorted, const net::IpAddress& address) {
  return std::binary_search(sorted.begin(), sorted.end(), address);
}

// Load balancer IPs go before external IPs, and lower addresses before higher ones.
void BoundAddresses(FamilyAddresses& addresses, size_t ports, std::vector<std::string>* problems) {
  const size_t count = addresses.load_balancer_ips.size() + addresses.external_ips.size();
  const size_t room = kMostAddressPorts / std::max<size_t>(1, ports);
  if (count <= room) return;
  if (problems != nullptr) {
    problems->push_back(fmt::format(
        "{} {} load balancer and external IPs with {} ports each are {} and more than the {} that "
        "one Service may have: the first {} addresses are served, load balancer IPs before "
        "external IPs",
        count, net::ToString(addresses.cluster_ip.family()), ports, count * ports,
        kMostAddressPorts, room));
  }
  const size_t load_balancer = std::min(room, addresses.load_balancer_ips.size());
  addresses.load_balancer_ips.resize(load_balancer);
  addresses.external_ips.resize(std::min(room - load_balancer, addresses.external_ips.size()));
}

// "" when the address can be a Service's.
std::string_view RefusedBecause(const net::IpAddress& ip, const AddressSet& protected_addresses) {
  if (ip.IsUnspecified()) return "is the unspecified address";
  if (ip.IsLoopback()) return "is a loopback address";
  if (ip.IsMulticast()) return "is a multicast address";
  // kubernetes#66966, #75290, #93175, #104679, #127410: traffic of the node itself would end in the
  // Service, and the node would be cut off.
  if (protected_addresses.contains(ip)) return "is the address of a node or of the API server";
  return {};
}

// The ranges of `family` without those that another one covers.
std::vector<net::IpPrefix> SourceRanges(const kube::Service& service, net::Family family) {
  std::vector<net::IpPrefix> ranges;
  for (const net::IpPrefix& range : service.load_balancer_source_ranges) {
    if (range.family() == family) ranges.push_back(range);
  }
  // A covering range sorts before what it covers: the same or a lower address, and shorter.
  std::sort(ranges.begin(), ranges.end());
  std::vector<net::IpPrefix> kept;
  for (const net::IpPrefix& range : ranges) {
    if (kept.empty() || !kept.back().Contains(range.address())) kept.push_back(range);
  }
  kept.shrink_to_fit();
  return kept;
}

bool HasOneOf(const std::vector<net::IpPrefix>& ranges,
              const std::vector<net::IpAddress>& addresses) {
  return std::any_of(ranges.begin(), ranges.end(), [&](const net::IpPrefix& range) {
    return std::any_of(addresses.begin(), addresses.end(),
                       [&](const net::IpAddress& ip) { return range.Contains(ip); });
  });
}

// spec.externalTrafficPolicy counts only for Services that take traffic from outside
// (pkg/api/v1/service/util.go, ExternallyAccessible).
bool IsExternalLocal(const kube::Service& service) {
  const bool accessible = service.type == kube::ServiceType::kLoadBalancer ||
                          service.type == kube::ServiceType::kNodePort ||
                          !service.external_ips.empty();
  return accessible && service.external_traffic_policy == kube::TrafficPolicy::kLocal;
}

bool NeedsHealthCheck(const kube::Service& service) {
  return service.type == kube::ServiceType::kLoadBalancer && IsExternalLocal(service);
}

class Resolver {
 public:
  Resolver(const kube::Service& service, const std::vector<SlicePtr>& slices,
           const ResolvedOn& node, const WhoHas& who_has, std::vector<std::string>& problems)
      : service_(service),
        slices_(slices),
        node_(node),
        who_has_(who_has),
        problems_(problems),
        external_local_(IsExternalLocal(service)),
        internal_local_(service.internal_traffic_policy == kube::TrafficPolicy::kLocal) {}

  void AddFamily(const FamilyAddresses& addresses) {
    const net::Family family = addresses.cluster_ip.family();
    const std::vector<net::IpPrefix> ranges = BoundedRanges(addresses);
    const bool node_in_ranges = HasOneOf(ranges, node_.source_addresses);
    const ServiceEndpoints endpoints(slices_, family, node_.topology,
                                     kMostEndpointPorts / std::max<size_t>(1, PortCount()));
    if (endpoints.kept() < endpoints.total()) {
      problems_.push_back(fmt::format(
          "{} {} endpoints with {} ports each are {} and more than the {} that one Service may "
          "have: {} endpoints are served",
          endpoints.total(), net::ToString(family), PortCount(), endpoints.total() * PortCount(),
          kMostEndpointPorts, endpoints.kept()));
    }
    Seen seen;
    const int local_ready = NeedsHealthCheck(service_) && service_.health_check_node_port != 0
                                ? CountLocalReady(slices_, family, node_.topology)
                                : 0;
    for (const kube::ServicePort& port : service_.ports) {
      if (IsDuplicate(port, seen)) continue;
      const ServiceAddress cluster{addresses.cluster_ip, port.port, port.protocol};
      if (!Has(cluster, "clusterIP")) continue;
      ServicePortEntry& entry = entries_.emplace_back();
      entry.id = {service_.ns, service_.name, port.name, port.protocol, family};
      entry.created = service_.created;
      entry.cluster_ip = addresses.cluster_ip;
      entry.port = port.port;
      entry.external_ips = Owned(addresses.external_ips, port, "external IP");
      entry.load_balancer_ips = Owned(addresses.load_balancer_ips, port, "load balancer IP");
      if (port.node_port != 0 && !IsDuplicateNodePort(port, seen) &&
          Has({Unspecified(family), port.node_port, port.protocol}, "node port")) {
        entry.node_port = port.node_port;
      }
      entry.source_ranges = ranges;
      entry.source_ranges_deny_all = service_.source_ranges_given && ranges.empty();
      entry.node_in_source_ranges = node_in_ranges;
      if (service_.client_ip_affinity) entry.affinity_timeout = service_.affinity_timeout;
      if (NeedsHealthCheck(service_)) {
        entry.health_check_node_port = service_.health_check_node_port;
        entry.local_ready_endpoints = local_ready;
      }
      entry.ipvs_scheduler = service_.ipvs_scheduler;
      entry.ipvs_scheduler_flags = service_.ipvs_scheduler_flags;
      SetBackends(entry, endpoints);
    }
  }

  std::vector<ServicePortEntry> Take() {
    std::sort(entries_.begin(), entries_.end(),
              [](const ServicePortEntry& a, const ServicePortEntry& b) { return a.id < b.id; });
    return std::move(entries_);
  }

 private:
  // Of the ports of spec.ports so far.
  struct Seen {
    std::set<std::pair<Protocol, uint16_t>> numbers;
    std::set<std::pair<Protocol, std::string_view>> names;
    std::set<std::pair<Protocol, uint16_t>> node_ports;
  };

  size_t PortCount() const { return service_.ports.size(); }

  // Those beyond the bound are not let in.
  std::vector<net::IpPrefix> BoundedRanges(const FamilyAddresses& addresses) {
    const net::Family family = addresses.cluster_ip.family();
    std::vector<net::IpPrefix> ranges = SourceRanges(service_, family);
    const size_t places =
        std::max<size_t>(1, PortCount() * std::max<size_t>(1, addresses.load_balancer_ips.size()));
    const size_t room = kMostSourceRanges / places;
    if (ranges.size() <= room) return ranges;
    problems_.push_back(fmt::format(
        "spec.loadBalancerSourceRanges: {} ranges of {} for {} load balancer IPs and {} ports are "
        "{} and more than the {} that one Service may have: the first {} of them are let in, the "
        "others are not",
        ranges.size(), net::ToString(family), addresses.load_balancer_ips.size(), PortCount(),
        ranges.size() * places, kMostSourceRanges, room));
    ranges.resize(room);
    ranges.shrink_to_fit();
    return ranges;
  }

  // The API refuses such Services; a model with two entries of one id or address must not come of
  // one that got through.
  bool IsDuplicate(const kube::ServicePort& port, Seen& seen) {
    const bool fresh_number = seen.numbers.emplace(port.protocol, port.port).second;
    const bool fresh_name = seen.names.emplace(port.protocol, port.name).second;
    if (fresh_number && fresh_name) return false;
    problems_.push_back("spec.ports: " + std::to_string(port.port) + "/" +
                        std::string(kube::ToString(port.protocol)) +
                        " has the number or the name of another port and is left out");
    return true;
  }

  bool IsDuplicateNodePort(const kube::ServicePort& port, Seen& seen) {
    if (seen.node_ports.emplace(port.protocol, port.node_port).second) return false;
    problems_.push_back("spec.ports: node port " + std::to_string(port.node_port) + "/" +
                        std::string(kube::ToString(port.protocol)) +
                        " is that of another port too and is left out of " +
                        std::to_string(port.port));
    return true;
  }

  bool Has(const ServiceAddress& address, std::string_view what) {
    const std::string_view other = who_has_(address);
    if (other.empty()) return true;
    std::string problem(what);
    problem += " ";
    if (!address.ip.IsUnspecified()) {
      problem += address.ip.is_v4() ? address.ip.ToString() : "[" + address.ip.ToString() + "]";
      problem += ":";
    }
    problem += std::to_string(address.port) + "/";
    problem += kube::ToString(address.protocol);
    problem += " already leads to Service ";
    problem += other;
    problem += " and is left out";
    problems_.push_back(std::move(problem));
    return false;
  }

  std::vector<net::IpAddress> Owned(const std::vector<net::IpAddress>& addresses,
                                    const kube::ServicePort& port, std::string_view what) {
    std::vector<net::IpAddress> owned;
    for (const net::IpAddress& ip : addresses) {
      if (Has({ip, port.port, port.protocol}, what)) owned.push_back(ip);
    }
    owned.shrink_to_fit();
    return owned;
  }

  void SetBackends(ServicePortEntry& entry, const ServiceEndpoints& endpoints) {
    const bool accessible =
        entry.node_port != 0 || !entry.external_ips.empty() || !entry.load_balancer_ips.empty();
    entry.external_local = external_local_ && accessible;
    // Pods and the node itself reach the external addresses under a Cluster policy always.
    const bool want_cluster = !internal_local_ || accessible;
    const bool want_local = internal_local_ || entry.external_local;
    EndpointChoice choice = ChooseEndpoints(endpoints.Of(entry.id.port_name, entry.id.protocol),
                                            want_cluster, want_local);
    using WhenEmpty = BackendChoice::WhenEmpty;
    // No endpoint anywhere is an answer; endpoints elsewhere are no one's business here, and a
    // load balancer that tries this node meanwhile shall try another
    // (pkg/proxy/iptables/proxier.go).
    const WhenEmpty when_none_local = choice.any ? WhenEmpty::kDrop : WhenEmpty::kReject;
    const auto take = [&](bool local) {
      BackendChoice taken;
      taken.backends = local ? choice.local : choice.cluster;
      taken.when_empty = local ? when_none_local : WhenEmpty::kReject;
      return taken;
    };
    entry.internal = take(internal_local_);
    if (node_.masquerade_all) entry.internal_masquerade = Masquerade::kAlways;
    if (accessible) entry.external = take(entry.external_local);
    if (entry.external_local) entry.external_from_node = take(false);
    entry.draining = std::move(choice.draining);
  }

  const kube::Service& service_;
  const std::vector<SlicePtr>& slices_;
  const ResolvedOn& node_;
  const WhoHas& who_has_;
  std::vector<std::string>& problems_;
  const bool external_local_;
  const bool internal_local_;
  std::vector<ServicePortEntry> entries_;
};

}  // namespace

std::vector<FamilyAddresses> AddressesOf(const kube::Service& service,
                                         const AddressSet& protected_addresses,
                                         std::vector<std::string>* problems) {
  std::vector<FamilyAddresses> families;
  if (service.headless || service.type == kube::ServiceType::kExternalName) return families;
  const auto usable = [&](const net::IpAddress& ip, std::string_view what) {
    const std::string_view why = RefusedBecause(ip, protected_addresses);
    if (!why.empty() && problems != nullptr) {
      problems->push_back(std::string(what) + " " + ip.ToString() + " " + std::string(why) +
                          " and is left out");
    }
    return why.empty();
  };
  for (const net::IpAddress& cluster_ip : service.cluster_ips) {
    FamilyAddresses& addresses = families.emplace_back();
    addresses.cluster_ip = cluster_ip;
    for (const kube::LoadBalancerIngress& ingress : service.load_balancer_ingress) {
      if (ingress.ip.family() == cluster_ip.family() && !ingress.proxy_mode &&
          ingress.ip != cluster_ip && usable(ingress.ip, "load balancer IP")) {
        addresses.load_balancer_ips.push_back(ingress.ip);
      }
    }
    SortUnique(addresses.load_balancer_ips);
    for (const net::IpAddress& ip : service.external_ips) {
      // Of an address that is both, the source ranges must count: it is a load balancer's.
      if (ip.family() == cluster_ip.family() && ip != cluster_ip &&
          !Contains(addresses.load_balancer_ips, ip) && usable(ip, "external IP")) {
        addresses.external_ips.push_back(ip);
      }
    }
    SortUnique(addresses.external_ips);
    BoundAddresses(addresses, service.ports.size(), problems);
  }
  return families;
}

std::vector<AddressClaim> ClaimsOf(const kube::Service& service,
                                   const std::vector<FamilyAddresses>& families) {
  std::vector<AddressClaim> claims;
  for (const FamilyAddresses& addresses : families) {
    for (const kube::ServicePort& port : service.ports) {
      const auto claim = [&](const net::IpAddress& ip, ClaimRank rank) {
        claims.push_back({{ip, port.port, port.protocol}, rank});
      };
      claim(addresses.cluster_ip, ClaimRank::kAllocated);
      for (const net::IpAddress& ip : addresses.load_balancer_ips)
        claim(ip, ClaimRank::kLoadBalancer);
      for (const net::IpAddress& ip : addresses.external_ips)
        claim(ip, ClaimRank::kExternal);
      if (port.node_port != 0) {
        claims.push_back(
            {{Unspecified(addresses.cluster_ip.family()), port.node_port, port.protocol},
             ClaimRank::kAllocated});
      }
    }
  }
  std::sort(claims.begin(), claims.end());
  const auto same = [](const AddressClaim& a, const AddressClaim& b) {
    return a.address == b.address;
  };
  claims.erase(std::unique(claims.begin(), claims.end(), same), claims.end());
  return claims;
}

std::vector<ServicePortEntry> ResolveService(const kube::Service& service,
                                             const std::vector<FamilyAddresses>& families,
                                             const std::vector<SlicePtr>& slices,
                                             const ResolvedOn& node, const WhoHas& who_has,
                                             std::vector<std::string>& problems) {
  Resolver resolver(service, slices, node, who_has, problems);
  for (const FamilyAddresses& addresses : families)
    resolver.AddFamily(addresses);
  return resolver.Take();
}

}  // namespace pointsman::agent

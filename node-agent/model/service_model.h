// The service model: what must be reachable where on this node, with every Kubernetes semantic
// already decided, and no word about how (that is a dataplane's). One entry a Service port and
// family.
#pragma once

#include <chrono>
#include <compare>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "kube/net/ip_address.h"
#include "kube/objects/service.h"
#include "kube/time/rfc3339.h"

namespace pointsman::agent {

using kube::Protocol;

// Where a connection may go.
struct Backend {
  net::IpAddress ip;
  uint16_t port = 0;
  bool local = false;  // on this node
  // Its slice names no node (users' own slices seldom do): nobody knows where it is.
  bool unplaced = false;
  auto operator<=>(const Backend&) const = default;
  // It may come back to itself through this node, and needs a masquerade then.
  bool MayBeHere() const { return local || unplaced; }
};

// Which backends a class of traffic uses.
struct BackendChoice {
  // Sorted, no duplicates.
  std::vector<Backend> backends;
  // What happens when `backends` is empty: the Service has no endpoint anywhere (REJECT: ICMP port
  // unreachable), or only none on this node under a Local policy (DROP, as kube-proxy).
  enum class WhenEmpty : uint8_t { kReject, kDrop } when_empty = WhenEmpty::kReject;
  bool operator==(const BackendChoice&) const = default;
};

// Which connections get an address of this node as their source.
enum class Masquerade : uint8_t {
  kNever,
  kOffCluster,  // those that local_detector.h takes for no Pod's; none where nothing tells them
                // apart
  kAlways,
};

// "ns/name:port" with protocol and family: one Service port in one family.
struct ServicePortId {
  std::string ns;
  std::string name;
  std::string port_name;
  Protocol protocol = Protocol::kTcp;
  net::Family family = net::Family::kIPv4;
  auto operator<=>(const ServicePortId&) const = default;
  std::string ToString() const;  // "default/web:http/TCP/IPv4"
};

struct ServicePortEntry {
  ServicePortId id;
  kube::TimePoint created = kube::TimePoint::max();  // its Service (kube::Service)
  net::IpAddress cluster_ip;
  uint16_t port = 0;  // of cluster_ip, external_ips and load_balancer_ips
  uint16_t node_port = 0;
  // Of this family, sorted; no address is in both or is cluster_ip.
  std::vector<net::IpAddress> external_ips;
  std::vector<net::IpAddress> load_balancer_ips;  // ipMode VIP only, sorted
  // Who may come to load_balancer_ips; sorted, none inside another. Empty: everyone, unless
  // source_ranges_deny_all: ranges were given but none of this family.
  std::vector<net::IpPrefix> source_ranges;
  bool source_ranges_deny_all = false;
  // The node itself is one of them (NodeNetwork::source_addresses). Where a load balancer IP is
  // bound on the node, as MetalLB and cloud controllers do it, the node's own packets to it have it
  // as their source, and may come too.
  bool node_in_source_ranges = false;
  // Seconds of ClientIP affinity; 0: none.
  std::chrono::seconds affinity_timeout{0};
  // Traffic to cluster_ip (internalTrafficPolicy, topology).
  BackendChoice internal;
  Masquerade internal_masquerade = Masquerade::kOffCluster;
  // Traffic to external_ips, load_balancer_ips and node_port from outside (externalTrafficPolicy).
  // Left empty when there is none of these.
  BackendChoice external;
  // externalTrafficPolicy: Local. Outside traffic keeps its source address (no masquerade); pods
  // and the node itself reach the external addresses too, through `external_from_node`.
  bool external_local = false;
  BackendChoice external_from_node;  // = the Cluster choice; used only if external_local
  uint16_t health_check_node_port = 0;
  int local_ready_endpoints = 0;  // for the health check node port
  // Endpoints that are gone from the choices above but terminating (serving or not): they keep the
  // connections they have and get no new ones. Sorted.
  std::vector<Backend> draining;
  std::string ipvs_scheduler;        // "" = the configured default
  std::string ipvs_scheduler_flags;  // "" = none

  // Of traffic that uses `external`. What uses `external_from_node` keeps its source, except for
  // what this node itself sends: that may have the Service's own address as its source.
  Masquerade ExternalMasquerade() const {
    return external_local ? Masquerade::kNever : Masquerade::kAlways;
  }
  // Are only some let in? Without any backend nobody is, and all are refused alike.
  bool HasSourceRanges() const { return !source_ranges.empty() || source_ranges_deny_all; }
  // Is there anything that traffic to the external addresses and the node port, from wherever it
  // comes, is sent to?
  bool HasExternalBackends() const {
    return !external.backends.empty() || (external_local && !external_from_node.backends.empty());
  }
  bool operator==(const ServicePortEntry&) const = default;
};

using EntryPtr = std::shared_ptr<const ServicePortEntry>;

struct ServicePortIdHash {
  size_t operator()(const ServicePortId& id) const noexcept;
};

// Facts of this node that the dataplanes need beside the Services.
struct NodeNetwork {
  std::string node_name;
  // Addresses that answer node ports: chosen from the interfaces by nodePortAddresses; sorted.
  std::vector<net::IpAddress> node_port_addresses;
  // nodePortAddresses says nothing: every address of the node answers, also one that comes later.
  // `node_port_addresses` are those that there are now.
  bool every_address = true;
  bool localhost_node_ports = true;
  // What source ranges know the node by: its primary addresses, at most one a family; sorted.
  std::vector<net::IpAddress> source_addresses;
  // Those of NodeLocal DNSCache's interface but link-local ones, sorted (dns_cache.h).
  std::vector<net::IpAddress> dns_cache_addresses;
  bool operator==(const NodeNetwork&) const = default;
};

struct ServiceModel {
  std::unordered_map<ServicePortId, EntryPtr, ServicePortIdHash> entries;
  NodeNetwork node;
  size_t service_count = 0;
  size_t endpoint_count = 0;  // backends over all entries, each once an entry
};

// From one version of the model to the next: first the entries that went, then those that changed,
// then those that came. An address can pass from an entry of one kind to one of another.
struct EntryChange {
  EntryPtr before;  // null: added
  EntryPtr after;   // null: removed
};
struct ModelDelta {
  std::vector<EntryChange> changes;
  bool node_changed = false;  // ServiceModel::node differs: dataplanes do a full sync
  bool empty() const { return changes.empty() && !node_changed; }
};

}  // namespace pointsman::agent

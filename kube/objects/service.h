// What Pointsman reads of a v1 Service: a compact, immutable copy, decoded straight from JSON text.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kube/net/ip_address.h"
#include "kube/objects/interned_string.h"
#include "kube/time/rfc3339.h"

namespace pointsman::kube {

enum class Protocol : uint8_t { kTcp, kUdp, kSctp };
std::string_view ToString(Protocol protocol);  // "TCP", "UDP", "SCTP"
std::optional<Protocol> ParseProtocol(std::string_view text);

enum class ServiceType : uint8_t { kClusterIp, kNodePort, kLoadBalancer, kExternalName };
std::string_view ToString(ServiceType type);
enum class TrafficPolicy : uint8_t { kCluster, kLocal };

struct ServicePort {
  InternedString name;  // may be ""
  Protocol protocol = Protocol::kTcp;
  uint16_t port = 0;
  uint16_t node_port = 0;  // 0: none
};

struct LoadBalancerIngress {
  net::IpAddress ip;
  bool proxy_mode = false;  // ipMode: Proxy (KEP-1860): the node must not capture the address
};

struct Service {
  InternedString ns;
  std::string name;
  std::string uid;
  std::string resource_version;
  // metadata.creationTimestamp, which the API server sets and nobody changes later. One that is not
  // there or not understood is the latest there can be: such a Service comes before no other.
  TimePoint created = TimePoint::max();
  ServiceType type = ServiceType::kClusterIp;
  // Empty: headless ("None") or not allocated. At most one a family.
  std::vector<net::IpAddress> cluster_ips;
  bool headless = false;  // clusterIP: None
  std::vector<ServicePort> ports;
  std::vector<net::IpAddress> external_ips;
  std::vector<LoadBalancerIngress> load_balancer_ingress;
  std::vector<net::IpPrefix> load_balancer_source_ranges;
  // The list was not empty, even if nothing in it was understood.
  bool source_ranges_given = false;
  bool client_ip_affinity = false;
  std::chrono::seconds affinity_timeout{10800};
  TrafficPolicy external_traffic_policy = TrafficPolicy::kCluster;
  TrafficPolicy internal_traffic_policy = TrafficPolicy::kCluster;
  uint16_t health_check_node_port = 0;
  bool has_service_proxy_name = false;  // the label is there, be it with an empty value
  bool headless_label = false;          // label service.kubernetes.io/headless present
  InternedString ipvs_scheduler;        // annotation pointsman.io/ipvs-scheduler
  InternedString ipvs_scheduler_flags;  // annotation pointsman.io/ipvs-scheduler-flags
  // Values that were not understood ("spec.externalIPs[0]: not an IP address: …"); the rest is
  // used.
  std::vector<std::string> problems;

  std::string Key() const { return ns.str() + "/" + name; }
};

// Throws std::invalid_argument when the text is no Service object. An unusable single value is left
// out and described in `problems`. `json` need not be padded.
Service DecodeService(std::string_view json);

}  // namespace pointsman::kube

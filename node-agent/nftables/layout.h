// What our table looks like: its sets, its chains and their rules, as pure functions of the
// settings. None of it depends on the Services but for which traffic classes there are.
//
// A new connection (chains of type nat see nothing else) goes
//   prerouting or output → services: look up destination, protocol and port in map `services`, or
//   protocol and port in map `node-ports`; the value names the traffic class, and map `classes` has
//   the chain that carries it out: masquerade, source ranges, affinity, the choice among N
//   backends. The key of `from-node` has the number of backends in the same word as the policy.
// Services without endpoints are in `refused` and `refused-ports`, and cluster IPs, whose other
// ports nobody serves, in `cluster-ips`, for chains of type filter that come after. The backends
// are in map `endpoints` by (Service, number below N). So a Service is nothing but elements of
// maps: to change it needs no rule and no chain, and the kernel, which checks the whole table for
// loops whenever a rule or a verdict comes in, has nothing to check.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kube/pointsman/proxy_settings.h"
#include "node-agent/model/local_detector.h"
#include "node-agent/model/service_model.h"
#include "node-agent/nf_tables/objects.h"

namespace pointsman::agent::nft {

inline constexpr std::string_view kTable = "pointsman";
// The chains that take new connections, and what is in them while this mode is active.
inline constexpr std::string_view kPrerouting = "prerouting";
inline constexpr std::string_view kOutput = "output";
inline constexpr std::string_view kServicesChain = "services";
// Masquerades what is marked.
inline constexpr std::string_view kPostrouting = "postrouting";
// The chains that refuse those to Services without endpoints, after the translation.
inline constexpr std::string_view kRefusePrerouting = "refuse-prerouting";
inline constexpr std::string_view kRefuseOutput = "refuse-output";
inline constexpr std::string_view kRefuseChain = "refuse";
inline constexpr std::string_view kUnusedPortsChain = "unused-ports";

enum class SetId : uint8_t {
  kServices,      // address . protocol . port → Service . class
  kNodePorts,     // protocol . port → Service . class
  kFromNode,      // Service . policy → Service . class: for this node and its pods (Local policy)
  kRefused,       // address . protocol . port of Services without endpoints
  kRefusedPorts,  // protocol . port of their node ports
  kEndpoints,     // Service . number → address . port
  kAffinityEndpoints,  // Service . address . port: may affinity still send there?
  kSourceRanges,       // Service . source
  kNodeAddresses,      // addresses that answer node ports, unless all do
  kHairpin,          // address . address of the endpoints that may be on this node: what they send
                     // themselves
  kClusterIps,       // addresses on which nothing but Services answers
  kReplySources,     // block of addresses . protocol . port of endpoints (reply_sources.h)
  kClasses,          // class → chain
  kClassesFromNode,  // the same for the classes that `from-node` names: a chain whose rules look
                     // into the map that led to it would be a loop to the kernel
  kAffinity,         // Service . client → address . port: filled by the packets themselves
};
inline constexpr size_t kSets = 15;
// Those whose elements are made from the model, and are compared when the kernel is read back.
inline constexpr size_t kModelSets = 12;

// Does it lead packets into our chains? What a packet that is under way with the older rules may
// still look up is deleted only after the newer ones are in force; what leads packets to it goes
// together with them.
constexpr bool IsEntrance(SetId set) {
  return set == SetId::kServices || set == SetId::kNodePorts || set == SetId::kRefused ||
         set == SetId::kRefusedPorts || set == SetId::kClusterIps;
}

// The definition of each set, by SetId.
const std::vector<SetDefinition>& SetsOf(net::Family family);

// What happens to a new connection once it is known whose it is. Equal classes share a chain.
struct TrafficClass {
  enum Policy : uint32_t {
    kByNodePort = 1,    // the Service was found in `node-ports`
    kByFromNode = 2,    // … and from there in `from-node`
    kSourceRanges = 4,  // only the Service's source ranges may come
    kShortcut = 8,      // this node and its pods are sent on by `from-node`
    kMasqueradeOffCluster = 16,
    kMasquerade = 32,
    kReject = 64,  // no backends: left to chain `refuse`
    kDrop = 128,   // none on this node
  };
  uint32_t policy = 0;
  uint32_t backends = 0;
  uint32_t affinity = 0;  // seconds, 0: none
  auto operator<=>(const TrafficClass&) const = default;
  bool operator==(const TrafficClass&) const = default;
};

// Where its chain is found.
constexpr SetId ClassMap(const TrafficClass& traffic_class) {
  return (traffic_class.policy & TrafficClass::kByFromNode) != 0 ? SetId::kClassesFromNode
                                                                 : SetId::kClasses;
}
std::string ClassChainName(const TrafficClass& traffic_class);

// The facts that rules depend on.
struct LayoutSettings {
  // Throws std::invalid_argument that names the field.
  LayoutSettings(const kube::ProxySettings& settings, net::Family family);

  net::Family family;
  uint32_t mark = 0;
  bool drop_invalid = true;
  LocalDetector local;
};

// All chains but those of the classes, in the order in which they can be made. `guard`:
// RouteLocalnet::guard_comment.
std::vector<Chain> StaticChains(const LayoutSettings& settings, const NodeNetwork& node,
                                std::string_view guard);
Chain ClassChain(const LayoutSettings& settings, const TrafficClass& traffic_class);

}  // namespace pointsman::agent::nft

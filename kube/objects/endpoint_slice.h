// What Pointsman reads of a discovery.k8s.io EndpointSlice, v1 or v1beta1. There can be 100,000
// endpoints, so an endpoint is as small as it can be.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kube/net/ip_address.h"
#include "kube/objects/interned_string.h"
#include "kube/objects/service.h"
#include "kube/time/rfc3339.h"

namespace pointsman::kube {

struct Endpoint {
  net::IpAddress address;  // addresses[0]: the others are not used, as the API says
  // conditions; absent: ready, serving and not terminating, as kube-proxy takes them
  // (endpointslicecache.go).
  bool ready : 1 = true;
  bool serving : 1 = true;
  bool terminating : 1 = false;
  // Indexes into EndpointSlice::strings, 0: none.
  uint16_t node_name = 0;
  uint16_t zone = 0;
  // Indexes into EndpointSlice::hint_sets, 0: none.
  uint16_t zone_hints = 0;  // hints.forZones
  uint16_t node_hints = 0;  // hints.forNodes (KEP-4444)
};

struct EndpointPort {
  InternedString name;
  Protocol protocol = Protocol::kTcp;
  uint16_t port = 0;  // 0: the API's null, "all ports": not usable by a proxy
};

struct EndpointSlice {
  InternedString ns;
  std::string name;
  std::string resource_version;
  std::string service_name;  // label kubernetes.io/service-name; "" if none
  bool headless_label = false;
  bool has_service_proxy_name = false;  // the label is there, be it with an empty value
  net::Family family = net::Family::kIPv4;
  bool fqdn = false;  // addressType FQDN: nothing to proxy
  // What made the endpoints change last, by the controller's clock (annotation
  // endpoints.kubernetes.io/last-change-trigger-time); nullopt: not said.
  std::optional<TimePoint> last_change_trigger;
  std::vector<EndpointPort> ports;
  std::vector<Endpoint> endpoints;
  std::vector<InternedString> strings{""};  // each node name and zone once
  // Each set of hints once, sorted; the first is the empty one.
  std::vector<std::vector<InternedString>> hint_sets{{}};
  std::vector<std::string> problems;

  std::string Key() const { return ns.str() + "/" + name; }
};

// As DecodeService. v1beta1's topology map gives nodeName and zone.
EndpointSlice DecodeEndpointSlice(std::string_view json);

}  // namespace pointsman::kube

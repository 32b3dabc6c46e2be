// Names a resource type as the API's URLs do.
#pragma once

#include <string>
#include <string_view>

namespace pointsman::kube {

struct Resource {
  std::string group;  // "" for the core group
  std::string version;
  std::string plural;  // "endpointslices"
  std::string kind;    // "EndpointSlice"
  bool namespaced = true;

  // "v1" or "discovery.k8s.io/v1".
  std::string ApiVersion() const;
  // "/api/v1/namespaces/default/services/web/status"; empty parts are left out. Percent-encodes.
  std::string Path(std::string_view ns = "", std::string_view name = "",
                   std::string_view subresource = "") const;

  bool operator==(const Resource&) const = default;
};

namespace resources {
inline const Resource kServices{"", "v1", "services", "Service", true};
inline const Resource kNodes{"", "v1", "nodes", "Node", false};
inline const Resource kPods{"", "v1", "pods", "Pod", true};
inline const Resource kConfigMaps{"", "v1", "configmaps", "ConfigMap", true};
inline const Resource kNamespaces{"", "v1", "namespaces", "Namespace", false};
inline const Resource kEvents{"", "v1", "events", "Event", true};
inline const Resource kEndpointSlices{"discovery.k8s.io", "v1", "endpointslices", "EndpointSlice",
                                      true};
// Kubernetes 1.20 and before have no v1 (KEP-752).
inline const Resource kEndpointSlicesV1Beta1{"discovery.k8s.io", "v1beta1", "endpointslices",
                                             "EndpointSlice", true};
inline const Resource kLeases{"coordination.k8s.io", "v1", "leases", "Lease", true};
inline const Resource kDaemonSets{"apps", "v1", "daemonsets", "DaemonSet", true};
inline const Resource kProxyConfigurations{"pointsman.io", "v1alpha1", "proxyconfigurations",
                                           "ProxyConfiguration", false};
inline const Resource kNodeProxies{"pointsman.io", "v1alpha1", "nodeproxies", "NodeProxy", false};
}  // namespace resources

}  // namespace pointsman::kube

// Builds the service model from API objects, incrementally: only what an object touches is
// resolved again.
#pragma once

#include <compare>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include "kube/objects/endpoint_slice.h"
#include "kube/objects/node.h"
#include "kube/objects/service.h"
#include "node-agent/model/service_model.h"

namespace pointsman::agent {

// Something in an object that is not done as it was written.
struct ModelProblem {
  std::string kind;  // "Service" or "EndpointSlice"
  std::string key;   // "ns/name"
  std::string message;
  auto operator<=>(const ModelProblem&) const = default;
};

// Which Services are proxied and how follows kube-proxy (pkg/proxy/serviceport.go, endpoints.go,
// topology.go). Where two Services want the same address, port and protocol, one of them gets it:
// a cluster IP or node port goes before a load balancer's IP, that before an external IP, and
// between equals the older Service (address_claims.h); the other is a problem.
//
// Not thread-safe: the agent's sync thread owns it.
class ModelBuilder {
 public:
  // `node_name` is this node's; `service_proxy_name` is what the label service-proxy-name must be
  // for a Service to be ours ("" for the default proxy: Services without the label).
  explicit ModelBuilder(std::string node_name, std::string service_proxy_name = "");
  ~ModelBuilder();

  // null `service`/`slice`: deleted. Keys are "ns/name", the object's own; another key throws
  // std::invalid_argument.
  void SetService(const std::string& key, std::shared_ptr<const kube::Service> service);
  void SetEndpointSlice(const std::string& key, std::shared_ptr<const kube::EndpointSlice> slice);
  // This node's own object: its zone decides topology. null: not known (yet).
  void SetNode(std::shared_ptr<const kube::Node> node);
  void SetNodeNetwork(NodeNetwork network);
  // Addresses that no Service may have as an external IP or a load balancer's IP: those of nodes
  // and of API servers.
  void SetProtectedAddresses(std::unordered_set<net::IpAddress> addresses);

  // Everything counts as changed: the next Update makes the whole model anew from the objects, and
  // returns what that made different.
  void ResolveAll();

  bool HasChanges() const;
  // Resolves what changed since the last call and returns the difference. The cost is in proportion
  // to the changed Services, not to all.
  ModelDelta Update();
  // Valid after Update; the reference stays valid, the content changes with the next Update.
  const ServiceModel& model() const;
  // What the last Update left out, and what the decoders did; sorted. Empty in a sound cluster.
  std::vector<ModelProblem> problems() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pointsman::agent

// Builds the service model from API objects, incrementally: only what an object touches is
// resolved again.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kube/objects/endpoint_slice.h"
#include "kube/objects/node.h"
#include "kube/objects/service.h"
#include "node-agent/model/address_claims.h"
#include "node-agent/model/service_model.h"
#include "node-agent/model/service_resolver.h"
#include "node-agent/model/service_state.h"

namespace pointsman::agent {

// Something in an object that is not served as specified.
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
  // `node_name` is this node's. Services and slices with the label service-proxy-name are another
  // proxy's.
  explicit ModelBuilder(std::string node_name);

  // null `service`/`slice`: deleted. Keys are "ns/name", the object's own; another key throws
  // std::invalid_argument.
  void SetService(const std::string& key, std::shared_ptr<const kube::Service> service);
  void SetEndpointSlice(const std::string& key, std::shared_ptr<const kube::EndpointSlice> slice);
  // This node's own object: its zone decides topology. null: not known (yet).
  void SetNode(const std::shared_ptr<const kube::Node>& node);
  void SetNodeNetwork(NodeNetwork network);
  // masqueradeAll: whatever is sent to a cluster IP is masqueraded, and not only what comes from
  // outside the cluster.
  void SetMasqueradeAll(bool masquerade_all);
  // Addresses that no Service may have as an external IP or a load balancer's IP: those of nodes
  // and of API servers.
  void SetProtectedAddresses(AddressSet addresses);

  // Everything counts as changed: the next Update makes the whole model anew from the objects, and
  // returns what that made different.
  void ResolveAll();

  bool HasChanges() const;
  // Resolves what changed since the last call and returns the difference. The cost is in proportion
  // to the changed Services, not to all.
  ModelDelta Update();
  // Valid after Update; the reference stays valid, the content changes with the next Update.
  const ServiceModel& model() const { return model_; }
  // What the last Update left out, and what the decoders did; sorted. Empty in a sound cluster.
  std::vector<ModelProblem> problems() const;

 private:
  ServiceState* Find(const std::string& key);
  ServiceState& StateOf(const std::string& key);
  void MarkDirty(ServiceState& state);
  void Claim(ServiceState& state);
  void Release(ServiceState& state);
  std::vector<AddressClaim> Claims(const kube::Service& service) const;
  void Resolve(ServiceState& state, std::vector<EntryChange>& removed,
               std::vector<EntryChange>& changed, std::vector<EntryChange>& added);
  void SetProblems(const ServiceState& state, bool ours, std::vector<std::string> messages);

  const std::string node_name_;
  std::string zone_;
  AddressSet protected_;
  NodeNetwork network_;
  bool masquerade_all_ = false;
  // By their own keys: the views point into the states.
  std::unordered_map<std::string_view, std::unique_ptr<ServiceState>> services_;
  SliceSet slices_;  // those that are ours
  AddressClaims<ServiceState> claims_;
  std::vector<ServiceState*> dirty_;
  std::map<std::string, std::vector<ModelProblem>> problems_;  // by the Service's key
  ServiceModel model_;
};

}  // namespace pointsman::agent

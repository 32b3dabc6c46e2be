// What the commands ask of the cluster.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "kube/client/client.h"
#include "kube/objects/node.h"
#include "kube/objects/pod.h"
#include "kube/pointsman/node_proxy.h"
#include "kube/pointsman/proxy_configuration.h"
#include "operator/plan/revision.h"

namespace pointsman::plugin {

struct StoredRevision {
  op::Revision revision;
  std::string created;  // RFC 3339
};

struct Event {
  std::string type;       // Normal, Warning
  std::string component;  // who emitted it
  std::string reason;
  std::string message;
  std::string last;  // RFC 3339
  int64_t count = 1;
};

struct NodeProxies {
  std::vector<kube::NodeProxy> proxies;  // by name
  std::vector<std::string> unreadable;   // "NodeProxy x: …"
};

// Throws kube::ApiError and kube::TransportError beside what is said below. Not thread-safe.
class Api {
 public:
  // By this name the API server keeps what this program has set (metadata.managedFields).
  static constexpr const char* kFieldManager = "kubectl-pointsman";

  // `ns`: where the operator runs, and keeps its revisions.
  Api(kube::Client client, std::string ns) : client_(std::move(client)), ns_(std::move(ns)) {}

  std::vector<kube::ProxyConfiguration> Configurations();
  // `name` empty: the only one that there is. Throws Failure (kNotFound) that says which there are.
  kube::ProxyConfiguration Configuration(const std::string& name);
  // Nothing of any namespace, or of one node alone; nullopt: there is none.
  NodeProxies AllNodeProxies();
  std::optional<kube::NodeProxy> NodeProxy(const std::string& node);
  std::vector<kube::Node> Nodes();
  std::vector<StoredRevision> Revisions(const kube::ProxyConfiguration& of);  // by number
  // About an object without a namespace, the last one last.
  std::vector<Event> EventsAbout(std::string_view kind, const std::string& name);
  // Of kube-proxy, on that node or made for it, in the namespace that kube-proxies are in.
  std::vector<kube::Pod> KubeProxyPods(const std::string& node);
  kube::Json RawConfigurationOrNull(const std::string& name);

  // Patches a specification that nobody has changed since it was read: `make` gets it as it is now
  // and returns what to merge into "spec" (null: nothing to do). Read again, a few times, when
  // somebody was quicker. Returns it as it is afterwards.
  kube::ProxyConfiguration PatchSpec(
      const std::string& name,
      const std::function<kube::Json(const kube::ProxyConfiguration&)>& make);
  kube::ProxyConfiguration Create(const kube::Json& configuration);
  bool Delete(const kube::ProxyConfiguration& configuration);

  kube::Client& client() { return client_; }
  const std::string& ns() const { return ns_; }

 private:
  bool ServesPointsman();

  kube::Client client_;
  const std::string ns_;
};

}  // namespace pointsman::plugin

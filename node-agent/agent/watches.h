// The watches of the API server: what they see goes into the inbox, and can be looked up.
#pragma once

#include <atomic>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "kube/cache/informer.h"
#include "kube/client/client.h"
#include "kube/events/event_recorder.h"
#include "kube/objects/endpoint_slice.h"
#include "kube/objects/node.h"
#include "kube/objects/service.h"
#include "kube/pointsman/node_proxy.h"
#include "node-agent/agent/metrics.h"
#include "node-agent/health/proxy_health.h"
#include "node-agent/model/model_builder.h"
#include "node-agent/sync/change_inbox.h"

namespace pointsman::agent {

class Watches {
 public:
  // `node_proxy`: this node's NodeProxy is watched too. `client`, `inbox` and `health` outlive
  // this.
  Watches(kube::Client& client, std::string node_name, bool node_proxy, ChangeInbox& inbox,
          ProxyHealth& health);

  // Waits until the API server says which version of EndpointSlice it has, then starts all of them;
  // until then what is in the kernel goes on serving. False: `stop` came first. Called once.
  bool Start(std::stop_token stop);

  // The rest is thread-safe, and before Start nothing is known.

  // For an Event. With its uid, if it is known: `kubectl describe` looks for the Events of that
  // very object.
  kube::ObjectReference ReferenceTo(const std::string& kind, const std::string& ns,
                                    const std::string& name) const;
  // "ns/name" of the Service that the problem is about; the object itself where that is not known,
  // since an EndpointSlice that never could be read does not say.
  std::string ServiceOf(const ModelProblem& problem) const;
  // Services and EndpointSlices that the API server has and this program cannot read.
  std::vector<ModelProblem> Unreadable() const;
  void Show(Metrics& metrics) const;
  // When the watch of this node's NodeProxy last had a byte: bookmarks come once a minute. min:
  // never.
  std::chrono::steady_clock::time_point HeardOfNodeProxy() const;

 private:
  bool FindEndpointSlices(const std::stop_token& stop);
  void MakeInformers();

  kube::Client& client_;
  const std::string node_name_;
  const bool node_proxy_;
  ChangeInbox& inbox_;
  ProxyHealth& health_;
  kube::Resource slices_resource_;
  std::unique_ptr<kube::Informer<kube::Service>> services_;
  std::unique_ptr<kube::Informer<kube::EndpointSlice>> slices_;
  std::unique_ptr<kube::Informer<kube::Node>> nodes_;
  std::unique_ptr<kube::Informer<kube::NodeProxy>> proxies_;
  std::atomic<bool> made_ = false;  // they are there and stay
};

}  // namespace pointsman::agent

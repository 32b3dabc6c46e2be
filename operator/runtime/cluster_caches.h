// What the API server has of all that the planning needs: caches that watches keep up to date, and
// what this process wrote that they have not seen yet.
#pragma once

#include <array>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>

#include "kube/cache/informer.h"
#include "kube/client/client.h"
#include "kube/objects/daemon_set.h"
#include "kube/objects/node.h"
#include "kube/objects/pod.h"
#include "kube/pointsman/node_proxy.h"
#include "kube/pointsman/proxy_configuration.h"
#include "operator/plan/actions.h"
#include "operator/plan/input.h"
#include "operator/plan/revision.h"
#include "operator/runtime/metrics.h"
#include "operator/runtime/newer_objects.h"
#include "operator/runtime/provider_caches.h"

namespace pointsman::op {

extern const kube::Resource kControllerRevisions;

// A ControllerRevision with what it holds.
struct StoredRevision {
  std::string name;
  std::string uid;
  std::string resource_version;
  Revision revision;
};
// Throws std::invalid_argument.
StoredRevision StoredRevisionFromJson(const kube::Json& object);

// The DaemonSet that runs the cluster's kube-proxy, where there is one.
struct KubeProxyName {
  std::string ns = "kube-system";
  std::string name = "kube-proxy";
};

// HasSynced, Configuration and UpdateMetrics are thread-safe; the rest belongs to the worker.
class ClusterCaches {
 public:
  // Called on the watches' threads, one at a time for each resource.
  struct Handlers {
    std::function<void()> changed;  // something that the planning looks at, or a list is complete
    std::function<void(const kube::NodeProxy& before, const kube::NodeProxy& after)> node_proxy;
  };
  // `ns`: where the ControllerRevisions and the agent's Pods live. `client` outlives this.
  ClusterCaches(kube::Client& client, std::string ns, KubeProxyName kube_proxy, Handlers handlers);

  void Start();
  // All that nothing can be planned without.
  bool HasSynced() const;
  // False: stopped first.
  bool WaitUntilSynced(const std::stop_token& stop);
  // The leader before may have written what the caches have not seen: one look past every cache
  // keeps what is newer than in it. Before the caches are complete all of that would be held twice.
  // Throws kube::ApiError or kube::TransportError.
  void LookPast(const std::stop_token& stop);

  // Without the times. nullopt: the first list of the agent's Pods, of kube-proxy, or of what its
  // configuration is made of is under way. That they cannot be read is known: a role of before has
  // no right to, and rollouts must not stand for that.
  std::optional<PlanInput> Input();
  std::shared_ptr<const kube::ProxyConfiguration> Configuration(const std::string& name) const;
  void Wrote(kube::ProxyConfiguration object) { newer_configurations_.Wrote(std::move(object)); }
  void Wrote(kube::NodeProxy object) { newer_proxies_.Wrote(std::move(object)); }
  void Wrote(kube::Node object) { newer_nodes_.Wrote(std::move(object)); }
  void Wrote(KubeProxyDaemonSet object);
  void Wrote(KubeProxyConfigMap object) { provider_.Wrote(std::move(object)); }
  void Wrote(StoredRevision object) { newer_revisions_.Wrote(std::move(object)); }
  void Deleted(const kube::ProxyConfiguration& object) { newer_configurations_.Deleted(object); }
  void Deleted(const kube::NodeProxy& object) { newer_proxies_.Deleted(object); }
  void Deleted(const KubeProxyObjectChange& change);

  void UpdateMetrics(Metrics& metrics) const;

 private:
  template <typename T>
  void LookPastCache(const kube::Resource& resource, const kube::ListOptions& options,
                     const std::function<T(std::string_view)>& decode,
                     const kube::Informer<T>& cache, NewerObjects<T>& newer,
                     const std::stop_token& stop);

  bool KnowsAgents();
  // Why it is not known; "": it is. nullopt: not yet.
  std::optional<std::string> KubeProxyUnknown() const;
  KubeProxyInput KubeProxyNow();
  bool UsesProvider(const PlanInput& input) const;

  kube::Client& client_;
  const std::string ns_;
  const KubeProxyName kube_proxy_name_;
  const Handlers handlers_;
  std::mutex synced_mutex_;
  std::condition_variable_any synced_;
  bool told_agents_unknown_ = false;
  NewerObjects<kube::ProxyConfiguration> newer_configurations_;
  NewerObjects<kube::NodeProxy> newer_proxies_;
  NewerObjects<StoredRevision> newer_revisions_;
  NewerObjects<kube::Node> newer_nodes_;
  NewerObjects<KubeProxyDaemonSet> newer_kube_proxy_;
  // Last: their threads use all of the above.
  kube::Informer<kube::ProxyConfiguration> configurations_;
  kube::Informer<kube::NodeProxy> proxies_;
  kube::Informer<kube::Node> nodes_;
  kube::Informer<StoredRevision> revisions_;
  kube::Informer<kube::Pod> agent_pods_;
  kube::Informer<kube::DaemonSet> agent_daemon_sets_;
  kube::Informer<KubeProxyDaemonSet> kube_proxy_;
  std::array<std::unique_ptr<kube::Informer<kube::Pod>>, kKubeProxyPodLabels.size()>
      kube_proxy_pods_;
  ProviderCaches provider_;
};

}  // namespace pointsman::op

// What the API server has of the objects that provider KubeProxy works with, in kube-proxy's
// namespace: the ConfigMap with kube-proxy's file, and what was made for revisions of it. They are
// watched once something asks for it, for only then the operator needs the rights
// (manifests/overlays/kube-proxy-provider).
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "kube/cache/informer.h"
#include "kube/client/client.h"
#include "operator/plan/input.h"
#include "operator/plan/kube_proxy_daemon_set.h"
#include "operator/plan/revision_objects.h"
#include "operator/runtime/metrics.h"
#include "operator/runtime/newer_objects.h"

namespace pointsman::op {

// UpdateMetrics is thread-safe; the rest belongs to the worker.
class ProviderCaches {
 public:
  // `ns`: kube-proxy's. `changed` is called on the watches' threads. `client` outlives this.
  ProviderCaches(kube::Client& client, std::string ns, std::function<void()> changed)
      : client_(client), ns_(std::move(ns)), changed_(std::move(changed)) {}

  // From now on they are watched; the ConfigMap by the name that `own_set` has its file from,
  // whenever that changes. null: there is no DaemonSet.
  void Follow(const KubeProxyDaemonSet* own_set);
  bool following() const { return sets_ != nullptr; }
  // There is something of revisions to be cleared away, or that is not known yet.
  bool HasRemains() const;
  void Unfollow();

  // Only what Follow was called for. False: the first list of something is under way.
  bool Fill(KubeProxyInput& input);

  void Wrote(KubeProxyDaemonSet object) { newer_sets_.Wrote(std::move(object)); }
  void Wrote(KubeProxyConfigMap object) { newer_maps_.Wrote(std::move(object)); }
  // Whether they have gone already, or when, the watches say.
  void DeletedSet(const std::string& name) { newer_sets_.Forget(name); }
  void DeletedMap(const std::string& name) { newer_maps_.Forget(name); }

  void UpdateMetrics(Metrics& metrics) const;

 private:
  using Maps = kube::Informer<KubeProxyConfigMap>;
  using Sets = kube::Informer<KubeProxyDaemonSet>;

  std::shared_ptr<Maps> WatchMaps(kube::ReflectorOptions options) const;
  void WatchOwn(const std::string& name);
  // Why nothing is known; "": it is. nullopt: not yet.
  std::optional<std::string> Unknown() const;

  kube::Client& client_;
  const std::string ns_;
  const std::function<void()> changed_;
  NewerObjects<KubeProxyConfigMap> newer_maps_;
  NewerObjects<KubeProxyDaemonSet> newer_sets_;
  std::string own_name_;  // "": there is no such ConfigMap
  // Of the pointers: the worker sets them, and others copy them.
  mutable std::mutex mutex_;
  // Last: their threads use the above.
  std::shared_ptr<Maps> own_;
  std::shared_ptr<Maps> maps_;
  std::shared_ptr<Sets> sets_;
};

}  // namespace pointsman::op

#include "operator/runtime/provider_caches.h"

#include <stdexcept>
#include <utility>

#include "operator/plan/kube_proxy_config.h"

namespace pointsman::op {
namespace {

template <typename T>
std::string ObjectName(const T& object) {
  return object.name;
}

template <typename T>
bool SameObjectVersion(const T& a, const T& b) {
  return a.uid == b.uid && a.resource_version == b.resource_version;
}

// The name of the ConfigMap; "": its Pods have their file from none, which is the planning's to
// tell.
std::string ConfigMapOf(const KubeProxyDaemonSet& set) {
  try {
    return FindKubeProxyFile(set.pod_template.value("spec", nlohmann::json())).config_map;
  } catch (const std::invalid_argument&) {
    return "";
  }
}

}  // namespace

std::shared_ptr<ProviderCaches::Maps> ProviderCaches::WatchMaps(
    kube::ReflectorOptions options) const {
  options.ns = ns_;
  auto cache = std::make_shared<Maps>(client_, kube::resources::kConfigMaps, std::move(options),
                                      DecodeKubeProxyConfigMap, ObjectName<KubeProxyConfigMap>,
                                      SameObjectVersion<KubeProxyConfigMap>);
  cache->AddHandler([this](const auto&, const auto&) { changed_(); });
  cache->OnSynced(changed_);
  cache->Start();
  return cache;
}

void ProviderCaches::WatchOwn(const std::string& name) {
  std::shared_ptr<Maps> cache;
  // By name, as the role allows it, and since there can be thousands of others.
  if (!name.empty()) cache = WatchMaps({.field_selector = "metadata.name=" + name});
  {
    const std::lock_guard lock(mutex_);
    own_.swap(cache);
  }
  own_name_ = name;
}

void ProviderCaches::Follow(const KubeProxyDaemonSet* own_set) {
  if (!following()) {
    auto maps = WatchMaps({.label_selector = kRevisionLabel});
    auto sets =
        std::make_shared<Sets>(client_, kube::resources::kDaemonSets,
                               kube::ReflectorOptions{.ns = ns_, .label_selector = kRevisionLabel},
                               DecodeKubeProxyDaemonSet, ObjectName<KubeProxyDaemonSet>,
                               SameObjectVersion<KubeProxyDaemonSet>);
    sets->AddHandler([this](const auto&, const auto&) { changed_(); });
    sets->OnSynced(changed_);
    sets->Start();
    const std::lock_guard lock(mutex_);
    maps_ = std::move(maps);
    sets_ = std::move(sets);
  }
  const std::string name = own_set != nullptr ? ConfigMapOf(*own_set) : "";
  if (name != own_name_) WatchOwn(name);
}

bool ProviderCaches::HasRemains() const {
  if (!following()) return false;
  const std::optional<std::string> unknown = Unknown();
  if (!unknown) return true;
  return unknown->empty() && maps_->Size() + sets_->Size() > 0;
}

void ProviderCaches::Unfollow() {
  // Their threads end without the lock.
  std::shared_ptr<Maps> own;
  std::shared_ptr<Maps> maps;
  std::shared_ptr<Sets> sets;
  {
    const std::lock_guard lock(mutex_);
    own.swap(own_);
    maps.swap(maps_);
    sets.swap(sets_);
  }
  own_name_.clear();
}

std::optional<std::string> ProviderCaches::Unknown() const {
  std::string why;
  const auto look = [&](const auto& cache) {
    if (!cache || cache->HasSynced()) return true;
    if (std::string error = cache->Stats().last_error; !error.empty()) why = std::move(error);
    return false;
  };
  bool synced = look(own_);
  synced = look(maps_) && synced;
  synced = look(sets_) && synced;
  if (!why.empty()) {
    return "what provider KubeProxy works with, ConfigMaps and DaemonSets of namespace " + ns_ +
           ", cannot be read (" + why +
           "): kubectl apply -k manifests/overlays/kube-proxy-provider gives the operator the "
           "right; or use provider NodeAgent";
  }
  if (!synced) return std::nullopt;
  return "";
}

bool ProviderCaches::Fill(KubeProxyInput& input) {
  if (!following()) {
    input.no_provider = "no ProxyConfiguration asks for provider KubeProxy";
    return true;
  }
  const std::optional<std::string> unknown = Unknown();
  input.no_provider = unknown.value_or("the first list of its objects is under way");
  if (!input.no_provider.empty()) return unknown.has_value();
  std::vector<std::shared_ptr<const KubeProxyConfigMap>> maps;
  // The server has selected them so; a fake or an old one may not.
  for (auto& map : maps_->All()) {
    if (!map->revision.empty() && map->name != own_name_) maps.push_back(std::move(map));
  }
  if (own_) {
    if (auto own = own_->Get(own_name_)) maps.push_back(std::move(own));
  }
  input.config_maps = newer_maps_.Merge(std::move(maps));
  std::vector<std::shared_ptr<const KubeProxyDaemonSet>> sets = sets_->All();
  std::erase_if(sets, [](const auto& set) { return set->revision.empty(); });
  input.revision_sets = newer_sets_.Merge(std::move(sets));
  return true;
}

void ProviderCaches::UpdateMetrics(Metrics& metrics) const {
  std::unique_lock lock(mutex_);
  const auto own = own_;
  const auto maps = maps_;
  const auto sets = sets_;
  lock.unlock();
  const auto watch = [&metrics](const char* resource, const auto& cache) {
    if (!cache) return;
    metrics.SetWatch(resource, cache->HasSynced(), cache->Stats().errors, cache->DecodeErrors(),
                     cache->Undecodable().size());
  };
  watch("kube-proxy-configmap", own);
  watch("kube-proxy-revision-configmaps", maps);
  watch("kube-proxy-revision-daemonsets", sets);
}

}  // namespace pointsman::op

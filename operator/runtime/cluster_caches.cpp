#include "operator/runtime/cluster_caches.h"

#include <algorithm>
#include <set>
#include <stdexcept>
#include <utility>

#include <spdlog/spdlog.h>

#include "kube/objects/object_json.h"
#include "operator/plan/agent_nodes.h"

namespace pointsman::op {
namespace {

using kube::NodeProxy;
using kube::ProxyConfiguration;

ProxyConfiguration DecodeConfiguration(std::string_view text) {
  return kube::ProxyConfigurationFromJson(kube::ParseObject(text));
}

// As the planning needs it: what an agent says of its kernel's modules and parameters is for
// people.
NodeProxy DecodeNodeProxy(std::string_view text) {
  return kube::NodeProxyFromJson(kube::ParseObject(text, {kube::kManagedFields, "status.kernel"}));
}

StoredRevision DecodeRevision(std::string_view text) {
  return StoredRevisionFromJson(kube::ParseObject(text));
}

template <typename T>
std::string NameOf(const T& object) {
  return object.name;
}

template <typename T>
bool SameVersion(const T& a, const T& b) {
  return a.uid == b.uid && a.resource_version == b.resource_version;
}

// What of a Node matters to the planning: kubelets report on their Node every few minutes.
bool SameNode(const kube::Node& a, const kube::Node& b) {
  return a.uid == b.uid && a.labels == b.labels && a.taints == b.taints && a.ready == b.ready &&
         a.silent == b.silent && a.never_ready == b.never_ready && a.deleting == b.deleting;
}

// Of the agent's Pods only where they are matters, and of its DaemonSets which nodes they are for.
bool SamePod(const kube::Pod& a, const kube::Pod& b) {
  return a.uid == b.uid && a.node_name == b.node_name && a.over == b.over;
}
bool SameDaemonSet(const kube::DaemonSet& a, const kube::DaemonSet& b) {
  return a.uid == b.uid && a.placement == b.placement;
}
// Of kube-proxy's also whether they serve, whose they are, and by their labels what they were made
// from. Its DaemonSet is written, so each version matters.
bool SameKubeProxyPod(const kube::Pod& a, const kube::Pod& b) {
  return SamePod(a, b) && a.ready == b.ready && a.deleting == b.deleting &&
         a.controller_uid == b.controller_uid && a.labels == b.labels;
}

}  // namespace

const kube::Resource kControllerRevisions{"apps", "v1", "controllerrevisions", "ControllerRevision",
                                          true};

StoredRevision StoredRevisionFromJson(const kube::Json& object) {
  StoredRevision stored;
  stored.revision = RevisionFromJson(object);
  const kube::Json& metadata = object.at("metadata");
  stored.name = stored.revision.name;
  stored.uid = metadata.value("uid", "");
  stored.resource_version = metadata.value("resourceVersion", "");
  return stored;
}

ClusterCaches::ClusterCaches(kube::Client& client, std::string ns, KubeProxyName kube_proxy,
                             Handlers handlers)
    : client_(client),
      ns_(std::move(ns)),
      kube_proxy_name_(std::move(kube_proxy)),
      handlers_(std::move(handlers)),
      configurations_(client, kube::resources::kProxyConfigurations, {}, DecodeConfiguration,
                      NameOf<ProxyConfiguration>, SameVersion<ProxyConfiguration>),
      proxies_(client, kube::resources::kNodeProxies, {}, DecodeNodeProxy, NameOf<NodeProxy>,
               SameVersion<NodeProxy>),
      nodes_(client, kube::resources::kNodes, {}, kube::DecodeNode, NameOf<kube::Node>, SameNode),
      revisions_(client, kControllerRevisions, {.ns = ns_, .label_selector = kConfigurationLabel},
                 DecodeRevision, NameOf<StoredRevision>, SameVersion<StoredRevision>),
      agent_pods_(client, kube::resources::kPods, {.ns = ns_, .label_selector = kAgentSelector},
                  kube::DecodePod, NameOf<kube::Pod>, SamePod),
      agent_daemon_sets_(client, kube::resources::kDaemonSets,
                         {.ns = ns_, .label_selector = kAgentSelector}, kube::DecodeDaemonSet,
                         NameOf<kube::DaemonSet>, SameDaemonSet),
      // By name, as the role allows it.
      kube_proxy_(
          client, kube::resources::kDaemonSets,
          {.ns = kube_proxy_name_.ns, .field_selector = "metadata.name=" + kube_proxy_name_.name},
          DecodeKubeProxyDaemonSet, NameOf<KubeProxyDaemonSet>, SameVersion<KubeProxyDaemonSet>),
      provider_(client, kube_proxy_name_.ns, handlers_.changed) {
  const auto changed = [this](const auto&, const auto&) { handlers_.changed(); };
  configurations_.AddHandler(changed);
  nodes_.AddHandler(changed);
  proxies_.AddHandler([this](const auto& before, const auto& after) {
    if (before && after) handlers_.node_proxy(*before, *after);
    handlers_.changed();
  });
  revisions_.AddHandler(changed);
  agent_pods_.AddHandler(changed);
  agent_daemon_sets_.AddHandler(changed);
  kube_proxy_.AddHandler(changed);
  for (size_t i = 0; i < kube_proxy_pods_.size(); ++i) {
    kube_proxy_pods_[i] = std::make_unique<kube::Informer<kube::Pod>>(
        client, kube::resources::kPods,
        kube::ReflectorOptions{
            .ns = kube_proxy_name_.ns,
            .label_selector = std::string(kKubeProxyPodLabels[i]) + "=" + kKubeProxyPodLabel},
        kube::DecodePod, NameOf<kube::Pod>, SameKubeProxyPod);
    kube_proxy_pods_[i]->AddHandler(changed);
    kube_proxy_pods_[i]->OnSynced(handlers_.changed);
  }
  const auto synced = [this] {
    {
      const std::lock_guard lock(synced_mutex_);
      synced_.notify_all();
    }
    handlers_.changed();
  };
  configurations_.OnSynced(synced);
  nodes_.OnSynced(synced);
  proxies_.OnSynced(synced);
  revisions_.OnSynced(synced);
  agent_pods_.OnSynced(handlers_.changed);
  agent_daemon_sets_.OnSynced(handlers_.changed);
  kube_proxy_.OnSynced(handlers_.changed);
}

void ClusterCaches::Start() {
  configurations_.Start();
  nodes_.Start();
  proxies_.Start();
  revisions_.Start();
  agent_pods_.Start();
  agent_daemon_sets_.Start();
  kube_proxy_.Start();
  for (const auto& pods : kube_proxy_pods_)
    pods->Start();
}

bool ClusterCaches::HasSynced() const {
  return configurations_.HasSynced() && nodes_.HasSynced() && proxies_.HasSynced() &&
         revisions_.HasSynced();
}

bool ClusterCaches::WaitUntilSynced(const std::stop_token& stop) {
  std::unique_lock lock(synced_mutex_);
  return synced_.wait(lock, stop, [this] { return HasSynced(); });
}

template <typename T>
void ClusterCaches::LookPastCache(const kube::Resource& resource, const kube::ListOptions& options,
                                  const std::function<T(std::string_view)>& decode,
                                  const kube::Informer<T>& cache, NewerObjects<T>& newer,
                                  const std::stop_token& stop) {
  newer.Clear();
  client_.ListItems(
      resource, resource.namespaced ? ns_ : "", options,
      [&](std::string_view item) {
        try {
          T object = decode(item);
          const auto cached = cache.Get(object.name);
          if (cached && SameVersion(*cached, object)) return;
          newer.Wrote(std::move(object));
        } catch (const std::invalid_argument& error) {
          // The cache has left it out, too, and said which.
          spdlog::error("{}: object left out: {}", resource.plural, error.what());
        }
      },
      [&] { newer.Clear(); }, stop);
}

void ClusterCaches::LookPast(const std::stop_token& stop) {
  LookPastCache<ProxyConfiguration>(kube::resources::kProxyConfigurations, {}, DecodeConfiguration,
                                    configurations_, newer_configurations_, stop);
  LookPastCache<NodeProxy>(kube::resources::kNodeProxies, {}, DecodeNodeProxy, proxies_,
                           newer_proxies_, stop);
  LookPastCache<StoredRevision>(kControllerRevisions, {.label_selector = kConfigurationLabel},
                                DecodeRevision, revisions_, newer_revisions_, stop);
}

bool ClusterCaches::KnowsAgents() {
  std::string missing;
  for (const auto& [synced, stats] :
       {std::pair(agent_pods_.HasSynced(), agent_pods_.Stats()),
        std::pair(agent_daemon_sets_.HasSynced(), agent_daemon_sets_.Stats())}) {
    if (synced) continue;
    if (stats.last_error.empty()) return false;
    missing = stats.last_error;
  }
  if (!missing.empty() && !std::exchange(told_agents_unknown_, true)) {
    spdlog::warn(
        "the node agent's Pods and DaemonSets in namespace {} cannot be read, so every Linux node "
        "is taken to run it: {}",
        ns_, missing);
  }
  return true;
}

std::optional<std::string> ClusterCaches::KubeProxyUnknown() const {
  std::string why;
  const auto look = [&](const auto& cache) {
    if (cache.HasSynced()) return true;
    const kube::ReflectorStats stats = cache.Stats();
    if (!stats.last_error.empty()) why = stats.last_error;
    return !stats.last_error.empty();
  };
  bool looked = look(kube_proxy_);
  for (const auto& pods : kube_proxy_pods_)
    looked = look(*pods) && looked;
  if (!looked) return std::nullopt;
  if (why.empty()) return "";
  return "DaemonSet " + kube_proxy_name_.ns + "/" + kube_proxy_name_.name +
         " and kube-proxy's Pods cannot be read (" + why + ")";
}

KubeProxyInput ClusterCaches::KubeProxyNow() {
  KubeProxyInput input;
  input.name = kube_proxy_name_.ns + "/" + kube_proxy_name_.name;
  input.unknown = KubeProxyUnknown().value_or("its first list is under way");
  if (!input.unknown.empty()) return input;
  // The server has selected by name; a fake or an old one may not.
  for (const auto& set : newer_kube_proxy_.Merge(kube_proxy_.All())) {
    if (set->name == kube_proxy_name_.name) input.daemon_set = set;
  }
  std::set<std::string> seen;
  for (const auto& cache : kube_proxy_pods_) {
    for (const auto& pod : cache->All()) {
      if (seen.insert(pod->name).second) input.pods.push_back(pod);
    }
  }
  return input;
}

// Anything of it is to be done, or undone. Nobody's role needs a right for what he does not use, so
// nothing is asked for otherwise.
bool ClusterCaches::UsesProvider(const PlanInput& input) const {
  constexpr kube::Provider kAsked = kube::Provider::kKubeProxy;
  const auto any = [](const auto& objects, const auto& holds) {
    return std::any_of(objects.begin(), objects.end(), holds);
  };
  return provider_.HasRemains() ||
         any(input.configurations, [](const auto& of) { return of->spec.provider == kAsked; }) ||
         any(input.revisions, [](const Revision& of) { return of.provider == kAsked; }) ||
         any(input.nodes, [](const auto& node) { return !BoundTo(*node).empty(); }) ||
         any(input.kube_proxy.pods,
             [](const auto& pod) { return pod->labels.contains(kRevisionLabel); });
}

void ClusterCaches::Wrote(KubeProxyDaemonSet object) {
  if (object.name == kube_proxy_name_.name) {
    newer_kube_proxy_.Wrote(std::move(object));
  } else {
    provider_.Wrote(std::move(object));
  }
}

void ClusterCaches::Deleted(const KubeProxyObjectChange& change) {
  if (change.of == KubeProxyObjectChange::Of::kConfigMap) provider_.DeletedMap(change.name);
  if (change.of == KubeProxyObjectChange::Of::kDaemonSet) provider_.DeletedSet(change.name);
}

std::optional<PlanInput> ClusterCaches::Input() {
  if (!KnowsAgents() || !KubeProxyUnknown()) return std::nullopt;
  PlanInput input;
  input.configurations = newer_configurations_.Merge(configurations_.All());
  input.nodes = newer_nodes_.Merge(nodes_.All());
  input.kube_proxy = KubeProxyNow();
  input.node_proxies = newer_proxies_.Merge(proxies_.All());
  for (const auto& stored : newer_revisions_.Merge(revisions_.All()))
    input.revisions.push_back(stored->revision);
  if (agent_pods_.HasSynced() && agent_daemon_sets_.HasSynced()) {
    input.agent_pods = agent_pods_.All();
    input.agent_daemon_sets = agent_daemon_sets_.All();
  }
  if (UsesProvider(input)) {
    provider_.Follow(input.kube_proxy.daemon_set.get());
  } else {
    provider_.Unfollow();
  }
  if (!provider_.Fill(input.kube_proxy)) return std::nullopt;
  return input;
}

std::shared_ptr<const ProxyConfiguration> ClusterCaches::Configuration(
    const std::string& name) const {
  return configurations_.Get(name);
}

void ClusterCaches::UpdateMetrics(Metrics& metrics) const {
  const auto watch = [&metrics](const char* resource, const auto& informer) {
    metrics.SetWatch(resource, informer.HasSynced(), informer.Stats().errors,
                     informer.DecodeErrors(), informer.Undecodable().size());
  };
  watch("proxyconfigurations", configurations_);
  watch("nodeproxies", proxies_);
  watch("nodes", nodes_);
  watch("controllerrevisions", revisions_);
  watch("pods", agent_pods_);
  watch("daemonsets", agent_daemon_sets_);
  watch("kube-proxy-daemonset", kube_proxy_);
  for (size_t i = 0; i < kube_proxy_pods_.size(); ++i)
    watch(i == 0 ? "kube-proxy-pods" : "kube-proxy-pods-by-component", *kube_proxy_pods_[i]);
  provider_.UpdateMetrics(metrics);
}

}  // namespace pointsman::op

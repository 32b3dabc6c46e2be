#include "operator/runtime/controller.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "kube/cache/informer.h"
#include "kube/events/event_recorder.h"
#include "kube/objects/node.h"
#include "kube/objects/object_json.h"
#include "kube/pointsman/node_proxy.h"
#include "kube/queue/work_queue.h"
#include "operator/plan/agent_nodes.h"
#include "operator/plan/plan.h"
#include "operator/runtime/newer_objects.h"
#include "operator/runtime/write_pace.h"

namespace pointsman::op {
namespace {

using kube::Json;
using kube::NodeProxy;
using kube::ProxyConfiguration;

const kube::Resource kControllerRevisions{"apps", "v1", "controllerrevisions", "ControllerRevision",
                                          true};

// All is planned together: which configuration governs a node depends on all of them.
constexpr const char* kPass = "pass";
// Changes that come together are planned together: 5,000 agents report within seconds.
constexpr std::chrono::milliseconds kGather{50};
// While the first list of the agent's Pods is under way.
constexpr std::chrono::milliseconds kLookForAgents{200};
// So that status and metrics follow also while thousands of NodeProxies are written.
constexpr size_t kMostWritesAPass = 200;
// Between two writes of one ProxyConfiguration.
constexpr std::chrono::seconds kStatusInterval{1};

struct StoredRevision {
  std::string name;
  std::string uid;
  std::string resource_version;
  Revision revision;
};

StoredRevision StoredRevisionFromJson(const Json& object) {
  StoredRevision stored;
  stored.revision = RevisionFromJson(object);
  const Json& metadata = object.at("metadata");
  stored.name = stored.revision.name;
  stored.uid = metadata.value("uid", "");
  stored.resource_version = metadata.value("resourceVersion", "");
  return stored;
}

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

kube::ObjectReference ReferenceTo(const ProxyConfiguration& configuration) {
  return {kube::resources::kProxyConfigurations.ApiVersion(), "ProxyConfiguration", "",
          configuration.name, configuration.uid};
}

}  // namespace

class Controller::Impl {
 public:
  Impl(kube::Client& client, std::string ns, Metrics& metrics)
      : client_(client),
        ns_(std::move(ns)),
        metrics_(metrics),
        writer_(client),
        event_writer_(client.WithGuard([this] { return MayTell(); })),
        recorder_(event_writer_, "pointsman-operator", ""),
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
                           NameOf<kube::DaemonSet>, SameDaemonSet) {
    configurations_.AddHandler([this](const auto&, const auto&) { Gather(); });
    nodes_.AddHandler([this](const auto& before, const auto& after) {
      if (before && after && SameNode(*before, *after)) return;
      Gather();
    });
    proxies_.AddHandler([this](const auto& before, const auto& after) {
      if (before && after) TellOf(*before, *after);
      Gather();
    });
    revisions_.AddHandler([this](const auto&, const auto&) { Gather(); });
    agent_pods_.AddHandler([this](const auto&, const auto&) { Gather(); });
    agent_daemon_sets_.AddHandler([this](const auto&, const auto&) { Gather(); });
    configurations_.OnSynced([this] { Synced(); });
    nodes_.OnSynced([this] { Synced(); });
    proxies_.OnSynced([this] { Synced(); });
    revisions_.OnSynced([this] { Synced(); });
    agent_pods_.OnSynced([this] { Gather(); });
    agent_daemon_sets_.OnSynced([this] { Gather(); });
  }

  void Start() {
    configurations_.Start();
    nodes_.Start();
    proxies_.Start();
    revisions_.Start();
    agent_pods_.Start();
    agent_daemon_sets_.Start();
  }

  bool HasSynced() const {
    return configurations_.HasSynced() && nodes_.HasSynced() && proxies_.HasSynced() &&
           revisions_.HasSynced();
  }

  void Lead(std::stop_token stop, std::function<bool()> held) {
    const Office office(*this, std::move(stop), std::move(held));
    // Before the caches are complete all that the look past them finds would be held twice.
    if (!WaitForCaches()) return;
    LookPastCache<ProxyConfiguration>(kube::resources::kProxyConfigurations, {},
                                      DecodeConfiguration, configurations_, newer_configurations_);
    LookPastCache<NodeProxy>(kube::resources::kNodeProxies, {}, DecodeNodeProxy, proxies_,
                             newer_proxies_);
    LookPastCache<StoredRevision>(kControllerRevisions, {.label_selector = kConfigurationLabel},
                                  DecodeRevision, revisions_, newer_revisions_);
    sightings_ = {};
    const auto queue = std::make_shared<kube::WorkQueue>();
    metrics_.BeginQueue();
    SetQueue(queue);
    metrics_.SetLeader(true);
    const std::stop_callback on_stop(stop_, [&] { queue->ShutDown(); });
    spdlog::info("leading");
    queue->Add(kPass);
    while (const auto key = queue->Get()) {
      gathering_ = false;
      const bool done = Pass(*queue);
      if (done) {
        queue->Forget(*key);
      } else {
        queue->AddRateLimited(*key);
      }
      queue->Done(*key);
    }
    metrics_.SetLeader(false);
    UpdateQueueMetrics();
    SetQueue(nullptr);
    spdlog::info("no longer leading");
  }

  void UpdateQueueMetrics() const {
    if (const auto queue = Queue())
      metrics_.SetQueue(queue->Depth(), queue->Adds(), queue->Retries());
  }

  void UpdateMetrics() const {
    UpdateQueueMetrics();
    const auto watch = [this](const char* resource, const auto& informer) {
      metrics_.SetWatch(resource, informer.HasSynced(), informer.Stats().errors,
                        informer.DecodeErrors(), informer.Undecodable().size());
    };
    watch("proxyconfigurations", configurations_);
    watch("nodeproxies", proxies_);
    watch("nodes", nodes_);
    watch("controllerrevisions", revisions_);
    watch("pods", agent_pods_);
    watch("daemonsets", agent_daemon_sets_);
  }

 private:
  using Clock = std::chrono::steady_clock;

  // The time of one leadership: who writes, and until when.
  class Office {
   public:
    Office(Impl& impl, std::stop_token stop, std::function<bool()> held) : impl_(impl) {
      impl_.stop_ = stop;
      impl_.writer_ = impl_.client_.WithStop(std::move(stop)).WithGuard(held);
      impl_.SetHeld(std::move(held));
    }
    ~Office() {
      impl_.SetHeld(nullptr);
      impl_.writer_ = impl_.client_.WithGuard([] { return false; });
    }
    Office(const Office&) = delete;
    Office& operator=(const Office&) = delete;

   private:
    Impl& impl_;
  };

  // nullptr: the office is over. What was done in it may still be told, unless it was lost: then
  // another leads, and nothing at all is written any more.
  void SetHeld(std::function<bool()> held) {
    const std::lock_guard lock(office_mutex_);
    if (held_ && !held) lost_ = !held_();
    held_ = std::move(held);
  }
  bool MayTell() const {
    const std::lock_guard lock(office_mutex_);
    return held_ ? held_() : !lost_;
  }
  bool MayWrite() const {
    if (stop_.stop_requested()) return false;
    const std::lock_guard lock(office_mutex_);
    return held_ && held_();
  }

  void Synced() {
    {
      const std::lock_guard lock(office_mutex_);
      synced_.notify_all();
    }
    Gather();
  }
  // False: stopped first.
  bool WaitForCaches() {
    std::unique_lock lock(office_mutex_);
    return synced_.wait(lock, stop_, [this] { return HasSynced(); });
  }

  // The leader before may have written what this process' caches have not seen: one look past every
  // cache keeps what is newer than in it.
  template <typename T>
  void LookPastCache(const kube::Resource& resource, const kube::ListOptions& options,
                     const std::function<T(std::string_view)>& decode,
                     const kube::Informer<T>& cache, NewerObjects<T>& newer) {
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
        [&] { newer.Clear(); }, stop_);
  }

  std::shared_ptr<kube::WorkQueue> Queue() const {
    const std::lock_guard lock(queue_mutex_);
    return queue_;
  }
  void SetQueue(std::shared_ptr<kube::WorkQueue> queue) {
    const std::lock_guard lock(queue_mutex_);
    queue_ = std::move(queue);
    gathering_ = false;
  }

  // A pass soon; many calls, one pass.
  void Gather() {
    const auto queue = Queue();
    if (queue && !gathering_.exchange(true)) queue->AddAfter(kPass, kGather);
  }

  // What a node's agent has reached, told on the configuration.
  void TellOf(const NodeProxy& before, const NodeProxy& after) {
    if (!Queue()) return;  // only the leader tells
    const auto& status = after.status;
    const bool arrived = after.spec.revision > 0 && !after.spec.removed &&
                         status.observed_revision == after.spec.revision &&
                         (before.status.observed_revision != status.observed_revision ||
                          before.status.active_mode != status.active_mode);
    const auto configuration = configurations_.Get(after.spec.configuration);
    if (!arrived || !configuration || status.active_mode.empty()) return;
    const auto asked = kube::ToString(after.spec.settings.mode);
    if (status.active_mode == asked) {
      recorder_.Emit(ReferenceTo(*configuration), kube::EventType::kNormal, "NodeUpdated",
                     fmt::format("node {} runs {} at revision {}", after.name, status.active_mode,
                                 status.observed_revision));
      return;
    }
    const kube::Condition* preflight = FindCondition(status.conditions, "PreflightPassed");
    recorder_.Emit(
        ReferenceTo(*configuration), kube::EventType::kWarning, "NodeFallback",
        fmt::format("node {} runs {} instead of {}: {}", after.name, status.active_mode, asked,
                    preflight != nullptr ? preflight->message : "no reason given"));
  }

  // Returns false when something failed and has to be tried again.
  bool Pass(kube::WorkQueue& queue) {
    if (!HasSynced()) return true;  // OnSynced brings the next one
    if (!KnowsAgents()) {
      queue.AddAfter(kPass, kLookForAgents);
      return true;
    }
    const auto started = Clock::now();
    PlanInput input;
    input.configurations = newer_configurations_.Merge(configurations_.All());
    input.nodes = nodes_.All();
    input.node_proxies = newer_proxies_.Merge(proxies_.All());
    for (const auto& stored : newer_revisions_.Merge(revisions_.All())) {
      input.revisions.push_back(stored->revision);
    }
    if (agent_pods_.HasSynced() && agent_daemon_sets_.HasSynced()) {
      input.agent_pods = agent_pods_.All();
      input.agent_daemon_sets = agent_daemon_sets_.All();
    }
    input.now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
    input.instant = std::chrono::floor<Instant>(Clock::now().time_since_epoch());
    const Plan plan = MakePlan(input, sightings_);
    metrics_.Planned(Clock::now() - started);

    bool failed = false;
    size_t writes = 0;
    Clock::duration status_due = Clock::duration::zero();
    std::map<std::string, kube::ProxyConfigurationStatus> statuses;
    for (const ConfigurationPlan& part : plan.configurations) {
      if (!(part.configuration->deleting && part.remove_finalizer)) {
        statuses[part.configuration->name] = part.status;
      }
      failed |= !Try("ProxyConfiguration " + part.configuration->name,
                     [&] { Perform(part, writes, status_due); });
    }
    for (const NodeProxyChange& change : plan.orphans) {
      if (++writes > kMostWritesAPass || !MayWrite()) break;
      failed |= !Try("NodeProxy " + change.name, [&] { Change(change); });
    }
    metrics_.SetConfigurations(std::move(statuses));
    metrics_.Reconciled(Clock::now() - started, failed);
    if (writes >= kMostWritesAPass) queue.Add(kPass);
    if (status_due > Clock::duration::zero()) {
      queue.AddAfter(kPass, std::chrono::ceil<std::chrono::milliseconds>(status_due));
    }
    if (plan.wake_up) WakeUp(queue, *plan.wake_up, input.now);
    return !failed;
  }

  // Where the agent's Pods are, or that it cannot be known: a role of before has no right to read
  // them, and rollouts must not stand for that.
  bool KnowsAgents() {
    std::string missing;
    for (const auto& [synced, stats] :
         {std::pair(agent_pods_.HasSynced(), agent_pods_.Stats()),
          std::pair(agent_daemon_sets_.HasSynced(), agent_daemon_sets_.Stats())}) {
      if (synced) continue;
      if (stats.errors == 0) return false;
      missing = stats.last_error;
    }
    if (!missing.empty() && !std::exchange(told_agents_unknown_, true)) {
      spdlog::warn(
          "the node agent's Pods and DaemonSets in namespace {} cannot be read, so every Linux "
          "node "
          "is taken to run it: {}",
          ns_, missing);
    }
    return true;
  }

  // Something is due at that time. Each pass says anew when: the queue keeps one time for the key,
  // the earliest, so a pass that comes sooner takes this one's place.
  static void WakeUp(kube::WorkQueue& queue, kube::TimePoint when, kube::TimePoint now) {
    // At least until the next full second: the API's times have no finer grain.
    queue.AddAfter(kPass,
                   std::chrono::ceil<std::chrono::milliseconds>(
                       std::max<kube::TimePoint::duration>(when - now, std::chrono::seconds(1))));
  }

  // True: done, or no longer ours to do.
  bool Try(const std::string& what, const std::function<void()>& action) {
    if (!MayWrite()) return true;
    try {
      action();
      return true;
    } catch (const kube::ApiError& error) {
      // Somebody else wrote first, mostly an agent its status: the next pass sees it.
      if (error.IsConflict() || error.IsAlreadyExists() || error.IsNotFound()) {
        spdlog::debug("{}: {}", what, error.what());
      } else {
        spdlog::warn("{}: {} ({})", what, error.what(), error.code());
      }
    } catch (const kube::TransportError& error) {
      if (!MayWrite()) return true;
      spdlog::warn("{}: {}", what, error.what());
    } catch (const std::exception& error) {
      spdlog::error("{}: {}", what, error.what());
    }
    return false;
  }

  // The order is such that being killed after any write loses nothing. `status_due`: how long a
  // write of the ProxyConfiguration has to wait, if it does, and is shorter than what is there.
  void Perform(const ConfigurationPlan& part, size_t& writes, Clock::duration& status_due) {
    const ProxyConfiguration& configuration = *part.configuration;
    const kube::ObjectReference about = ReferenceTo(configuration);
    std::string version = configuration.resource_version;
    if (part.add_finalizer) {
      std::vector<std::string> finalizers = configuration.finalizers;
      finalizers.emplace_back(kube::kFinalizer);
      version = PatchConfiguration(configuration, version, {{"finalizers", finalizers}}, nullptr);
    }
    if (part.create_revision) {
      newer_revisions_.Wrote(StoredRevisionFromJson(
          writer_.Create(kControllerRevisions, ns_, ToJson(*part.create_revision, ns_))));
      Gather();
    }
    bool failed = false;
    for (const NodeProxyChange& change : part.changes) {
      if (++writes > kMostWritesAPass || !MayWrite()) break;
      const bool done = Try("NodeProxy " + change.name, [&] { Change(change); });
      failed |= !done;
      if (done && change.event) Tell(about, *change.event);
    }
    PerformLast(part, version, status_due);
    if (failed) throw std::runtime_error("not all NodeProxies could be written");
  }

  // What may wait until the ProxyConfiguration may be written again: its status, and what counts on
  // that being written.
  void PerformLast(const ConfigurationPlan& part, std::string version,
                   Clock::duration& status_due) {
    const ProxyConfiguration& configuration = *part.configuration;
    const bool new_status = !(part.status == configuration.status);
    if (new_status || part.remove_finalizer) {
      const Clock::duration wait = pace_.Wait(configuration.uid, Clock::now());
      if (wait > Clock::duration::zero()) {
        const bool other = status_due > Clock::duration::zero();
        status_due = other ? std::min(status_due, wait) : wait;
        return;
      }
    }
    if (part.remove_finalizer) {
      DeleteRevisions(part);
      std::vector<std::string> finalizers = configuration.finalizers;
      std::erase(finalizers, kube::kFinalizer);
      PatchConfiguration(configuration, version, {{"finalizers", finalizers}}, nullptr);
      spdlog::info("ProxyConfiguration {}: its rules are gone, its finalizer too",
                   configuration.name);
      return;
    }
    if (new_status) {
      PatchConfiguration(configuration, version, nullptr,
                         StatusPatch(configuration.status, part.status));
      for (const PlannedEvent& event : part.events)
        Tell(ReferenceTo(configuration), event);
    }
    DeleteRevisions(part);
  }

  void DeleteRevisions(const ConfigurationPlan& part) {
    for (const std::string& name : part.delete_revisions) {
      writer_.Delete(kControllerRevisions, ns_, name);
    }
  }

  // A merge patch that leaves of the old status nothing but what the new one says.
  static Json StatusPatch(const kube::ProxyConfigurationStatus& before,
                          const kube::ProxyConfigurationStatus& after) {
    Json patch = ToJson(after);
    for (const auto& [mode, count] : before.modes) {
      if (!after.modes.contains(mode)) patch["modes"][mode] = nullptr;
    }
    return patch;
  }

  // Returns the new resourceVersion.
  std::string PatchConfiguration(const ProxyConfiguration& configuration,
                                 const std::string& version, Json metadata, const Json& status) {
    Json patch = {{"metadata", metadata.is_null() ? Json::object() : std::move(metadata)}};
    patch["metadata"]["resourceVersion"] = version;
    if (!status.is_null()) patch["status"] = status;
    pace_.Wrote(configuration.uid, Clock::now());
    const Json answer =
        writer_.Patch(kube::resources::kProxyConfigurations, "", configuration.name,
                      kube::PatchType::kMerge, patch, status.is_null() ? "" : "status");
    ProxyConfiguration written = kube::ProxyConfigurationFromJson(answer);
    std::string now = written.resource_version;
    const bool gone = written.deleting && written.finalizers.empty();
    if (gone) {
      newer_configurations_.Deleted(written);
    } else {
      newer_configurations_.Wrote(std::move(written));
    }
    return now;
  }

  void Change(const NodeProxyChange& change) {
    const kube::Resource& resource = kube::resources::kNodeProxies;
    if (change.kind == NodeProxyChange::Kind::kDelete) {
      writer_.Delete(resource, "", change.name, change.uid);
      NodeProxy gone;
      gone.name = change.name;
      gone.uid = change.uid;
      newer_proxies_.Deleted(gone);
      return;
    }
    Json metadata = {{"annotations", Json::object()}};
    if (!change.updated_at.empty()) {
      metadata["annotations"][kube::kUpdatedAtAnnotation] = change.updated_at;
    }
    if (!change.asked_at.empty()) {
      metadata["annotations"][kube::kAskedAtAnnotation] = change.asked_at;
    }
    Json object = {{"metadata", std::move(metadata)}, {"spec", ToJson(change.spec)}};
    if (change.kind == NodeProxyChange::Kind::kCreate) {
      object["apiVersion"] = resource.ApiVersion();
      object["kind"] = resource.kind;
      object["metadata"]["name"] = change.name;
      // The garbage collector takes it away with its Node.
      object["metadata"]["ownerReferences"] = {{{"apiVersion", "v1"},
                                                {"kind", "Node"},
                                                {"name", change.name},
                                                {"uid", change.node_uid}}};
      newer_proxies_.Wrote(kube::NodeProxyFromJson(writer_.Create(resource, "", object)));
      return;
    }
    object["metadata"]["uid"] = change.uid;
    object["metadata"]["resourceVersion"] = change.resource_version;
    if (!change.spec.candidate) object["spec"]["candidate"] = nullptr;
    newer_proxies_.Wrote(kube::NodeProxyFromJson(
        writer_.Patch(resource, "", change.name, kube::PatchType::kMerge, object)));
  }

  void Tell(const kube::ObjectReference& about, const PlannedEvent& event) {
    spdlog::info("ProxyConfiguration {}: {}: {}", about.name, event.reason, event.message);
    recorder_.Emit(about, event.warning ? kube::EventType::kWarning : kube::EventType::kNormal,
                   event.reason, event.message);
  }

  kube::Client& client_;
  const std::string ns_;
  Metrics& metrics_;
  mutable std::mutex office_mutex_;
  std::condition_variable_any synced_;
  std::function<bool()> held_;  // empty: not in office
  bool lost_ = false;           // the office before ended so
  std::stop_token stop_;        // of the office; the worker's own
  kube::Client writer_;         // for all writes but Events; the worker's own
  kube::Client event_writer_;
  kube::EventRecorder recorder_;
  mutable std::mutex queue_mutex_;
  std::shared_ptr<kube::WorkQueue> queue_;  // null: not leading
  std::atomic<bool> gathering_{false};
  // The worker's own:
  Sightings sightings_;
  bool told_agents_unknown_ = false;
  NewerObjects<ProxyConfiguration> newer_configurations_;
  NewerObjects<NodeProxy> newer_proxies_;
  NewerObjects<StoredRevision> newer_revisions_;
  WritePace pace_{kStatusInterval};
  // Last: their threads use all of the above.
  kube::Informer<ProxyConfiguration> configurations_;
  kube::Informer<NodeProxy> proxies_;
  kube::Informer<kube::Node> nodes_;
  kube::Informer<StoredRevision> revisions_;
  kube::Informer<kube::Pod> agent_pods_;
  kube::Informer<kube::DaemonSet> agent_daemon_sets_;
};

Controller::Controller(kube::Client& client, std::string ns, Metrics& metrics)
    : impl_(std::make_unique<Impl>(client, std::move(ns), metrics)) {}
Controller::~Controller() = default;
void Controller::Start() {
  impl_->Start();
}
bool Controller::HasSynced() const {
  return impl_->HasSynced();
}
void Controller::Lead(std::stop_token stop, std::function<bool()> held) {
  impl_->Lead(std::move(stop), std::move(held));
}
void Controller::UpdateMetrics() const {
  impl_->UpdateMetrics();
}

}  // namespace pointsman::op

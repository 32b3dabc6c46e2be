#include "node-agent/agent/agent.h"

#include <fstream>
#include <set>
#include <sys/utsname.h>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <malloc.h>
#include <spdlog/spdlog.h>

#include "kube/cache/informer.h"
#include "kube/client/discovery.h"
#include "kube/client/observed_transport.h"
#include "kube/events/event_recorder.h"
#include "kube/process/version.h"
#include "kube/serve/retrying_http_server.h"
#include "node-agent/agent/agent_lock.h"
#include "node-agent/agent/kernel_environment.h"
#include "node-agent/agent/metrics.h"
#include "node-agent/agent/node_addresses.h"
#include "node-agent/agent/node_sysctls.h"
#include "node-agent/conntrack/stale_flows.h"
#include "node-agent/handover/sync_period.h"
#include "node-agent/health/health_check_ports.h"
#include "node-agent/health/proxy_health.h"
#include "node-agent/health/service_health.h"
#include "node-agent/model/model_builder.h"
#include "node-agent/status/kernel_sysctls.h"
#include "node-agent/status/status_builder.h"
#include "node-agent/status/status_writer.h"
#include "node-agent/sync/change_inbox.h"

namespace pointsman::agent {
namespace {

using Clock = std::chrono::steady_clock;

// Services and slices of another proxy or of headless Services never reach us: kube-proxy's
// selector.
constexpr char kOurs[] =
    "!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name";

// Observations of a metric that wait for a sync to succeed.
constexpr size_t kMostTriggers = 100'000;

template <typename T>
bool SameVersion(const T& a, const T& b) {
  return !a.resource_version.empty() && a.resource_version == b.resource_version;
}

bool HasIpv6(const kube::Node& node) {
  const auto is_v6 = [](const auto& item) { return item.family() == net::Family::kIPv6; };
  return std::any_of(node.internal_ips.begin(), node.internal_ips.end(), is_v6) ||
         std::any_of(node.pod_cidrs.begin(), node.pod_cidrs.end(), is_v6);
}

// How long userspace mode's connections have to end when the agent is told to: less than the
// manifest's terminationGracePeriodSeconds, after which nothing is left that could tidy up.
constexpr std::chrono::seconds kEndDrain{20};

// "10.0.0.1:6443" of "https://10.0.0.1:6443", for the metrics.
std::string HostOf(const std::string& url) {
  const size_t begin = url.find("://");
  const std::string host = begin == std::string::npos ? url : url.substr(begin + 3);
  return host.substr(0, host.find('/'));
}

kube::ServedResponse ToResponse(const ProxyHealth::Answer& health) {
  return {.status = health.status, .content_type = "application/json", .body = health.body};
}

std::vector<std::string> TextsOf(const std::vector<net::IpPrefix>& prefixes) {
  std::vector<std::string> texts;
  for (const net::IpPrefix& prefix : prefixes)
    texts.push_back(prefix.ToString());
  return texts;
}

std::string KernelRelease() {
  utsname names{};
  uname(&names);
  return names.release;
}

kube::Resource EndpointSliceResource(kube::Client& client) {
  if (kube::ServesResource(client, kube::resources::kEndpointSlices)) {
    return kube::resources::kEndpointSlices;
  }
  spdlog::info("the API server has no discovery.k8s.io/v1: using v1beta1");
  return kube::resources::kEndpointSlicesV1Beta1;
}

}  // namespace

class Agent::Impl {
 public:
  Impl(Options options, const kube::Config& api, std::optional<KubeProxyConfiguration> standalone)
      : options_(std::move(options)),
        standalone_(std::move(standalone)),
        metrics_(kVersion),
        client_(MakeClient(api)),
        events_(client_, "pointsman-node-agent", options_.node_name),
        health_(std::chrono::seconds(60)),
        environment_(options_.modules_root.string(), api.server, options_.forwarder_launcher,
                     options_.log_format.value_or("text")),
        modes_(environment_),
        model_(options_.node_name),
        addresses_([this] { inbox_.PutAddressesChanged(); }),
        kernel_release_(KernelRelease()),
        service_health_([this] { return health_.Livez().status == 200; },
                        [this](const ServiceHealth::Service& service, const std::string& message) {
                          TellServiceHealthProblem(service, message);
                        }) {
    ServeOwn();
    if (standalone_) ServeInThePlaceOfKubeProxy();
  }

  void Run(std::stop_token stop) {
    const std::stop_callback on_stop(stop, [this] { inbox_.Stop(); });
    if (!WaitForServer(stop)) return;
    StartWatches();
    if (standalone_) {
      auto proxy = std::make_shared<kube::NodeProxy>();
      proxy->name = options_.node_name;
      proxy->spec.revision = 1;
      proxy->spec.settings = standalone_->settings;
      Accept(proxy);
    }
    next_refresh_ = Clock::now() + RefreshPeriod();
    while (true) {
      auto batch = inbox_.Take(not_before_, std::min({modes_.NextDeadline(), removal_retry_,
                                                      candidate_retry_, next_refresh_}));
      if (!batch) {
        const auto drains = modes_.steps().Try("leave", "", [this] { return LeaveToKernel(); });
        if (!drains || !*drains) break;
        continue;
      }
      HandleGuarded(*batch);
      if (ending_ && !modes_.state().draining) break;
    }
    spdlog::info("stopping; the kernel's rules stay in place");
  }

 private:
  kube::Client MakeClient(const kube::Config& api) {
    kube::Client client(kube::ObserveRequests(
        kube::MakeTransport(api), [this, host = HostOf(api.server)](const auto& outcome) {
          metrics_.RequestDone(host, outcome);
        }));
    if (options_.api_qps < 0) return client;
    return client.WithLimit(
        std::make_shared<kube::RateLimiter>(options_.api_qps, options_.api_burst));
  }

  // The watches need to know which version of EndpointSlice there is; until the server answers,
  // what is in the kernel goes on serving.
  bool WaitForServer(std::stop_token stop) {
    kube::Client client = client_.WithStop(stop);  // it may accept and never answer
    std::mutex mutex;
    std::condition_variable_any wake;
    std::chrono::milliseconds delay{500};
    while (!stop.stop_requested()) {
      try {
        slices_resource_ = EndpointSliceResource(client);
        return true;
      } catch (const std::exception& error) {
        spdlog::warn("the API server does not answer, will try again: {}", error.what());
      }
      std::unique_lock lock(mutex);
      wake.wait_for(lock, stop, delay, [] { return false; });
      delay = std::min(delay * 2, std::chrono::milliseconds(15'000));
    }
    return false;
  }

  void StartWatches() {
    const kube::ReflectorOptions ours{.label_selector = kOurs};
    services_ = std::make_unique<kube::Informer<kube::Service>>(
        client_, kube::resources::kServices, ours, kube::DecodeService,
        [](const kube::Service& service) { return service.Key(); }, SameVersion<kube::Service>);
    // Told to health_ here and not only when it is handled: a sync thread that hangs handles
    // nothing.
    services_->AddHandler([this](const auto& before, const auto& after) {
      health_.ChangeQueued();
      inbox_.PutService((after ? after : before)->Key(), after);
    });
    slices_ = std::make_unique<kube::Informer<kube::EndpointSlice>>(
        client_, slices_resource_, ours, kube::DecodeEndpointSlice,
        [](const kube::EndpointSlice& slice) { return slice.Key(); },
        SameVersion<kube::EndpointSlice>);
    slices_->AddHandler([this](const auto& before, const auto& after) {
      health_.ChangeQueued();
      inbox_.PutEndpointSlice((after ? after : before)->Key(), after);
    });
    const kube::ReflectorOptions this_node{.field_selector = "metadata.name=" + options_.node_name};
    nodes_ = std::make_unique<kube::Informer<kube::Node>>(
        client_, kube::resources::kNodes, this_node, kube::DecodeNode,
        [](const kube::Node& node) { return node.name; }, SameVersion<kube::Node>);
    nodes_->AddHandler([this](const auto&, const auto& after) { inbox_.PutNode(after); });
    if (!standalone_) {
      proxies_ = std::make_unique<kube::Informer<kube::NodeProxy>>(
          client_, kube::resources::kNodeProxies, this_node,
          [](std::string_view json) {
            return kube::NodeProxyFromJson(kube::Json::parse(json.begin(), json.end()));
          },
          [](const kube::NodeProxy& proxy) { return proxy.name; }, SameVersion<kube::NodeProxy>);
      proxies_->AddHandler([this](const auto&, const auto& after) { inbox_.PutNodeProxy(after); });
      writer_.emplace(client_, options_.node_name, StatusWriter::Options{});
    }
    services_->OnSynced([this] { inbox_.PutCacheSynced(CacheId::kServices); });
    slices_->OnSynced([this] { inbox_.PutCacheSynced(CacheId::kEndpointSlices); });
    nodes_->OnSynced([this] { inbox_.PutCacheSynced(CacheId::kNode); });
    services_->Start();
    slices_->Start();
    nodes_->Start();
    if (proxies_) proxies_->Start();
    watching_ = true;
  }

  // Told to end, where userspace mode's forwarder ends with this Pod: without it the rules would
  // refuse every connection until the next agent is there, which may be as long as an image takes
  // to be pulled. True: it still drains.
  bool LeaveToKernel() {
    if (options_.forwarder_launcher.empty() || !proxy_ || !applied_ || !CachesSynced())
      return false;
    ending_ = modes_.LeaveToKernel(model_.model(), kEndDrain);
    Report();
    return ending_;
  }

  // A shorter one would leave the node no time for anything else.
  Clock::duration RefreshPeriod() const {
    return std::max<Clock::duration>(options_.config_sync_period, std::chrono::seconds(1));
  }

  // Everything that the lists held has been taken from the inbox.
  bool CachesSynced() const { return synced_.all(); }

  kube::Duration ActiveMinSyncPeriod() const {
    if (!proxy_ || !modes_.state().active) return kube::Duration(0);
    return MinSyncPeriod(proxy_->spec.settings, *modes_.state().active);
  }

  void Accept(std::shared_ptr<const kube::NodeProxy> proxy) {
    if (!proxy) {
      // A slip of the hand or an operator that makes it anew: what runs goes on, as it was asked.
      spdlog::warn("NodeProxy {} is gone; this node keeps serving as it was last asked",
                   options_.node_name);
      if (writer_) writer_->Forget();
      return;
    }
    if (writer_) writer_->Observed(proxy->status);
    if (!proxy_ || proxy_->uid != proxy->uid) status_ = proxy->status;
    if (!proxy_ || !(proxy_->spec == proxy->spec)) apply_ = true;
    proxy_ = std::move(proxy);
  }

  bool NeedsPodCidrs() const {
    return proxy_ && proxy_->spec.settings.detect_local_mode == kube::DetectLocalMode::kNodeCidr;
  }

  // The settings with what only this node knows: its own pod CIDRs.
  kube::ProxySettings ResolvedSettings() const {
    kube::ProxySettings settings = proxy_->spec.settings;
    if (NeedsPodCidrs()) settings.cluster_cidrs = pod_cidrs_;
    return settings;
  }

  // A Node that is made anew has no pod CIDRs for a while (kubernetes#111321): what runs goes on
  // with those it had, since its pods have not moved.
  void SetNode(std::shared_ptr<const kube::Node> node) {
    node_ = std::move(node);
    model_.SetNode(node_);
    health_.SetNodeEligible(node_ && !node_->deleting && !node_->to_be_deleted);
    if (!node_ || node_->pod_cidrs.empty() || node_->pod_cidrs == pod_cidrs_) return;
    if (NeedsPodCidrs() && applied_) {
      spdlog::info("detectLocalMode NodeCIDR: this Node's spec.podCIDRs are now {}",
                   fmt::join(TextsOf(node_->pod_cidrs), ", "));
      apply_ = true;
    }
    pod_cidrs_ = node_->pod_cidrs;
  }

  // kube-proxy waits for it with everything; here Services are served meanwhile, which a new node's
  // network may need to get its CIDR at all.
  std::string Missing() const {
    if (!NeedsPodCidrs() || !pod_cidrs_.empty()) return "";
    return "detectLocalMode is NodeCIDR, but the Node has no spec.podCIDRs yet: until it has, "
           "traffic from outside the cluster to a cluster IP is not masqueraded, and all traffic "
           "counts as from outside under externalTrafficPolicy: Local";
  }

  // What is thrown here and not caught nearer by is a fault of this program. It must be seen, and
  // must not end what the node's other Services live on.
  void HandleGuarded(ChangeBatch& batch) {
    if (modes_.steps().TryTo("handle changes", "", [&] { Handle(batch); })) return;
    if (must_end_) std::rethrow_exception(must_end_);
    health_.SyncFailed();
    // Nobody knows how far it came: all is compared with the kernel again.
    model_.ResolveAll();
    modes_.Rebuild();
    flows_in_doubt_ = true;
    apply_ = true;
    next_refresh_ = std::min(next_refresh_, Clock::now() + ModeController::kRetry);
  }

  void Handle(ChangeBatch& batch) {
    const Clock::time_point started = Clock::now();
    const bool refresh = started >= next_refresh_;
    if (refresh) next_refresh_ = started + RefreshPeriod();
    health_.SyncBegins();
    metrics_.ChangesSeen(batch.services.size(), batch.endpoint_slices.size());
    synced_ |= batch.synced;
    for (auto& [key, service] : batch.services)
      model_.SetService(key, std::move(service));
    for (auto& [key, slice] : batch.endpoint_slices) {
      // Changes from before this agent's time say nothing of it, as in kube-proxy.
      const auto trigger = slice ? slice->last_change_trigger : std::nullopt;
      if (trigger && *trigger > began_ && triggers_.size() < kMostTriggers) {
        triggers_.push_back(*trigger);
      }
      model_.SetEndpointSlice(key, std::move(slice));
    }
    if (batch.node) SetNode(*std::move(batch.node));
    if (batch.node_proxy && !ending_) Accept(std::move(*batch.node_proxy));
    // A node that nothing is asked of is late with nothing: its agent must not be restarted for it.
    if (!proxy_ || !CachesSynced()) {
      // Without the whole picture nothing is written: a partial one would cut Services off. Nothing
      // can be late with that.
      health_.Synced();
      Report();
      return;
    }
    health_.CachesComplete();
    if (refresh) {
      // configSyncPeriod. kube-proxy's informers hand out all objects again; what that is to heal
      // is a model that went astray from them, and a kernel from the model.
      spdlog::debug("configSyncPeriod: the model is made anew, the kernel compared with it");
      model_.ResolveAll();
      modes_.ResyncNow();
    }
    if (batch.addresses_changed || batch.node || apply_) RefreshAddresses();
    if (batch.node && node_ && HasIpv6(*node_)) ServeIpv6();
    Program(batch, started);
    Report();
  }

  // A cluster without IPv6 is spared the second set of rules.
  void ServeIpv6() {
    if (std::exchange(ipv6_asked_, true)) return;
    const std::string refused = environment_.ServeIpv6();
    if (refused.empty()) {
      spdlog::info("IPv6 is to be served too");
      modes_.Rebuild();
      apply_ = true;
      return;
    }
    spdlog::error("IPv6 Services are not served: {}", refused);
    events_.Emit({"v1", "Node", "", options_.node_name, node_ ? node_->uid : ""},
                 kube::EventType::kWarning, "IPv6NotServed",
                 "this node's kernel cannot serve IPv6 Services: " + refused);
  }

  void RefreshAddresses() {
    try {
      const std::vector<HostAddress> addresses = addresses_.Read();
      model_.SetNodeNetwork(
          ChooseNodeNetwork(options_.node_name, addresses, proxy_->spec.settings, node_.get()));
      // A Service that takes the API server's address would cut this node off from it
      // (kubernetes#66966, #104679, #127410). Where the API server runs on this node it may share
      // the address: a node's own addresses are given to Services on purpose (externalIPs of bare
      // metal clusters, load balancers that forward on the node, kube-vip), in each mode such a
      // Service takes its own ports there and nothing else.
      std::unordered_set<net::IpAddress> protected_addresses;
      if (const auto server = environment_.ApiServerAddress()) protected_addresses.insert(*server);
      for (const HostAddress& own : addresses)
        protected_addresses.erase(own.address);
      model_.SetProtectedAddresses(std::move(protected_addresses));
    } catch (const std::exception& error) {
      spdlog::error("this node's addresses could not be read: {}", error.what());
    }
  }

  void Program(const ChangeBatch& batch, Clock::time_point started) {
    const ModelDelta delta = model_.Update();
    const ServiceModel& model = model_.model();
    // These add up deltas, so they are given each before anything can fail.
    local_policies_.Apply(delta);
    health_ports_changed_ |= health_ports_.Apply(delta) || delta.node_changed;
    if (!ipv6_asked_ && std::any_of(delta.changes.begin(), delta.changes.end(), [](const auto& c) {
          return c.after && c.after->id.family == net::Family::kIPv6;
        })) {
      ServeIpv6();
    }
    TellProblems();
    const uint64_t full_before = modes_.state().full_syncs;
    const uint64_t partial_before = modes_.state().syncs;
    const uint64_t restores_failed_before = environment_.RestoreFailures();
    if (proxy_->spec.removed) {
      if (apply_ || Clock::now() >= removal_retry_) {
        const auto problems = modes_.RemoveAll();
        for (const SyncProblem& problem : problems) {
          spdlog::error("removing {}: {}", problem.object, problem.message);
        }
        if (problems.empty()) spdlog::info("all rules were removed, as asked");
        sysctls_.emplace();
        servers_.clear();
        retrying_servers_.clear();
        in_the_place_of_kube_proxy_ = false;
        applied_ = problems.empty();
        removal_retry_ =
            applied_ ? Clock::time_point::max() : Clock::now() + ModeController::kRetry;
      }
    } else if (proxy_->spec.revision == 0) {
      // Not this node's turn yet: the operator only asks what the candidate would do here. What
      // runs goes on.
      applied_ = false;
      modes_.Sync(model, delta);
    } else if (apply_ && !ending_) {
      const kube::ProxySettings settings = ResolvedSettings();
      health_.SetTimeout(2 * SyncPeriod(settings, settings.mode));
      modes_.Apply(settings, model);
      // After the mode has loaded connection tracking: before, a fresh node has no such parameters.
      modes_.steps().TryTo("set node sysctls", "", [&] { ApplyNodeSysctls(settings); });
      applied_ = true;
      removal_retry_ = Clock::time_point::max();
      ServeInThePlaceOfKubeProxy();
    } else {
      modes_.Sync(model, delta);
    }
    apply_ = false;
    if (!proxy_->spec.removed) modes_.Tick(model);
    const bool full = modes_.state().full_syncs != full_before;
    if (!delta.changes.empty() || (flows_in_doubt_ && full)) CleanConntrack(model, delta);
    modes_.steps().TryTo("serve health checks", "", [this] { ServeServiceHealth(); });

    const bool wrote = full || modes_.state().syncs != partial_before;
    // Only what wrote holds up the next change: a Node's heartbeat does not.
    if (wrote && !batch.empty()) not_before_ = started + ActiveMinSyncPeriod();
    const uint64_t restores_failed = environment_.RestoreFailures() - restores_failed_before;
    if (restores_failed > 0) metrics_.RestoreFailed(restores_failed, /*partial=*/!full);
    if (wrote && !modes_.state().problems.empty() &&
        modes_.state().active == kube::Mode::kNftables) {
      metrics_.NftablesSyncFailed();
    }
    // What a full sync and the lists before it took and gave back belongs to the node again.
    if (full) malloc_trim(0);
    // As often as the kernel's rules are looked at whole, and not at every change.
    if (full) modes_.steps().TryTo("read sysctls", "", [this] { ReadSysctlsBack(); });
    if (modes_.state().failed) {
      health_.SyncFailed();
    } else {
      health_.Synced();
      const Clock::time_point now = Clock::now();
      if (wrote) metrics_.SyncDone(full, now - started);
      if (wrote && batch.oldest && !delta.changes.empty()) {
        metrics_.ChangeReachedKernel(now - *batch.oldest);
      }
      TellTriggers();
    }
    TellWarnings();
    CheckCandidate();
  }

  void ReadSysctlsBack() {
    std::vector<std::string> names = NodeSysctlNames(proxy_->spec.settings);
    std::vector<std::string> of_mode = modes_.ActiveSysctls();
    std::move(of_mode.begin(), of_mode.end(), std::back_inserter(names));
    sysctls_ = ReadSysctls(names);
  }

  // What they changed is in the kernel now, unless nothing is asked of this node.
  void TellTriggers() {
    const auto now = std::chrono::system_clock::now();
    const bool serves = modes_.state().active && modes_.state().synced_once;
    for (const kube::TimePoint trigger : std::exchange(triggers_, {})) {
      // Another machine's clock said it.
      if (serves) metrics_.NetworkProgrammed(std::max(now - trigger, decltype(now - trigger){}));
    }
  }

  void ServeServiceHealth() {
    const bool serves = !proxy_->spec.removed && modes_.state().active.has_value();
    const bool changed = std::exchange(health_ports_changed_, false);
    if (!changed && serves == serves_service_health_) return;
    serves_service_health_ = serves;
    const kube::ProxySettings& settings = proxy_->spec.settings;
    const bool everywhere = settings.node_port_addresses.empty() && !settings.node_port_primary;
    service_health_.Set(
        serves ? health_ports_.Services() : ServiceHealth::Services{},
        everywhere ? std::vector<net::IpAddress>{} : model_.model().node.node_port_addresses);
  }

  // On the thread that serves the ports.
  void TellServiceHealthProblem(const ServiceHealth::Service& service, const std::string& message) {
    spdlog::error("Service {}/{}: {}", service.ns, service.name, message);
    events_.Emit(ServiceReference(service.ns, service.name), kube::EventType::kWarning,
                 "FailedToStartServiceHealthcheck", options_.node_name + ": " + message);
  }

  // With its uid: `kubectl describe` looks for the Events of that very object. On any thread.
  kube::ObjectReference ServiceReference(const std::string& ns, const std::string& name) const {
    const auto service = services_->Get(ns + "/" + name);
    return {"v1", "Service", ns, name, service ? service->uid : ""};
  }

  void CleanConntrack(const ServiceModel& model, const ModelDelta& delta) {
    // What one clean-up left behind is in no later delta.
    try {
      const Clock::time_point begin = Clock::now();
      const StaleFlows::Result result =
          flows_in_doubt_ ? stale_flows_.CleanAll(model) : stale_flows_.Clean(model, delta);
      flows_in_doubt_ = !result.sync.ok();
      if (result.looked_at > 0) {
        metrics_.ConntrackCleaned(Clock::now() - begin, result.sync.kernel_writes);
      }
      for (const SyncProblem& problem : result.sync.problems) {
        spdlog::error("stale flow {}: {}", problem.object, problem.message);
      }
    } catch (const std::exception& error) {
      flows_in_doubt_ = true;
      spdlog::error("stale connection tracking entries could not be removed: {}", error.what());
    }
  }

  // What the API server has and this program cannot read: served as it was, or not at all.
  template <typename T>
  static void AddUnreadable(const char* kind, const kube::Informer<T>& informer,
                            std::vector<ModelProblem>& problems) {
    for (const auto& [key, why] : informer.Undecodable()) {
      const bool kept = informer.Get(key) != nullptr;
      problems.push_back({kind, key,
                          fmt::format("it cannot be read and {}: {}",
                                      kept ? "is served as it was before" : "is not served", why)});
    }
  }

  // Objects that cannot be served as they are written: an Event on each, once, since the person who
  // wrote the Service looks there and not into this log.
  void TellProblems() {
    std::vector<ModelProblem> problems = model_.problems();
    AddUnreadable("Service", *services_, problems);
    AddUnreadable("EndpointSlice", *slices_, problems);
    std::sort(problems.begin(), problems.end());
    if (problems == told_problems_) return;
    for (const ModelProblem& problem : problems) {
      if (std::binary_search(told_problems_.begin(), told_problems_.end(), problem)) continue;
      spdlog::warn("{} {}: {}", problem.kind, problem.key, problem.message);
      const size_t slash = problem.key.find('/');
      if (slash == std::string::npos) continue;  // not even its name could be read
      const std::string ns = problem.key.substr(0, slash);
      const std::string name = problem.key.substr(slash + 1);
      const kube::ObjectReference about =
          problem.kind == "Service"
              ? ServiceReference(ns, name)
              : kube::ObjectReference{slices_resource_.ApiVersion(), problem.kind, ns, name, ""};
      events_.Emit(about, kube::EventType::kWarning, "NotServedAsWritten",
                   options_.node_name + ": " + problem.message);
    }
    told_problems_ = std::move(problems);
  }

  void TellWarnings() {
    const std::vector<ServiceWarning>& warnings = modes_.state().warnings;
    if (warnings == told_warnings_) return;
    for (const ServiceWarning& warning : warnings) {
      if (std::binary_search(told_warnings_.begin(), told_warnings_.end(), warning)) continue;
      spdlog::warn("Service {}/{}: {}", warning.ns, warning.service, warning.message);
      events_.Emit(ServiceReference(warning.ns, warning.service), kube::EventType::kWarning,
                   "NotServedAsWritten", options_.node_name + ": " + warning.message);
    }
    told_warnings_ = warnings;
  }

  // Whose Service it is about; the object itself where that is not known, since an EndpointSlice
  // that never could be read does not say.
  std::string ServiceOf(const ModelProblem& problem) const {
    if (problem.kind == "Service") return problem.key;
    const auto slice = slices_->Get(problem.key);
    if (slice && !slice->service_name.empty())
      return problem.key.substr(0, problem.key.find('/') + 1) + slice->service_name;
    return problem.kind + " " + problem.key;
  }

  // Those of which an Event NotServedAsWritten still holds.
  size_t ServicesNotServedAsWritten() const {
    std::set<std::string> services;
    for (const ModelProblem& problem : told_problems_)
      services.insert(ServiceOf(problem));
    for (const ServiceWarning& warning : told_warnings_)
      services.insert(warning.ns + "/" + warning.service);
    return services.size();
  }

  std::vector<SyncProblem> SomeNotServedAsWritten() const {
    constexpr size_t kSome = 3;
    std::vector<SyncProblem> some;
    for (const ModelProblem& problem : told_problems_) {
      if (some.size() == kSome) return some;
      const bool service = problem.kind == "Service";
      some.push_back({service ? problem.key : problem.kind + " " + problem.key, problem.message});
    }
    for (const ServiceWarning& warning : told_warnings_) {
      if (some.size() == kSome) return some;
      some.push_back({warning.ns + "/" + warning.service, warning.message});
    }
    return some;
  }

  static std::vector<kube::Mode> ModesOf(const kube::NodeProxyCandidate& candidate) {
    std::vector<kube::Mode> modes{candidate.mode};
    modes.insert(modes.end(), candidate.fallback_modes.begin(), candidate.fallback_modes.end());
    return modes;
  }

  // The operator asks what a revision would do here before it changes any node.
  void CheckCandidate() {
    const auto& asked = proxy_->spec.candidate;
    if (candidate_asked_ && candidate_asked_ != asked) {
      // Of a question that is not asked any more nothing is tried again.
      for (const kube::Mode mode : ModesOf(*candidate_asked_))
        modes_.steps().Forget("answer for", kube::ToString(mode));
    }
    if (!asked) {
      candidate_.reset();
      candidate_asked_.reset();
      candidate_retry_ = Clock::time_point::max();
      return;
    }
    if (candidate_asked_ == asked && Clock::now() < candidate_retry_) return;
    candidate_retry_ = Clock::time_point::max();
    kube::ProxySettings settings = proxy_->spec.settings;
    settings.modules = asked->modules;
    settings.ipvs.scheduler = asked->ipvs_scheduler;
    kube::CandidateStatus answer;
    answer.revision = asked->revision;
    for (const kube::Mode mode : ModesOf(*asked)) {
      // What cannot be answered is a "no" for now, and no reason to leave what runs.
      const auto tried = modes_.steps().Try("answer for", kube::ToString(mode), [&] {
        return environment_.Preflight(mode, settings, /*load=*/false);
      });
      if (!tried) candidate_retry_ = Clock::now() + ModeController::kPreflightRetry;
      const PreflightResult result = tried.value_or(PreflightResult{
          .message = fmt::format("the preflight of mode {} could not be made; the agent's log and "
                                 "the node's condition Degraded say why",
                                 kube::ToString(mode))});
      if (mode == asked->mode) {
        answer.passed = result.passed;
        answer.message = result.message;
      }
      if (result.passed) {
        answer.mode = kube::ToString(mode);
        break;
      }
    }
    candidate_ = answer;
    candidate_asked_ = asked;
  }

  void Report() {
    if (proxy_ && writer_) {
      StatusInput input;
      input.proxy = proxy_.get();
      input.modes = &modes_.state();
      input.services = model_.model().service_count;
      input.endpoints = model_.model().endpoint_count;
      input.caches_synced = CachesSynced();
      input.applied = applied_ && !apply_;
      input.kernel_release = kernel_release_;
      input.agent_version = kVersion;
      input.sysctls = sysctls_;
      input.candidate = candidate_;
      input.services_not_as_written = ServicesNotServedAsWritten();
      input.not_as_written = SomeNotServedAsWritten();
      input.failing_steps = &modes_.steps().failing();
      input.missing = Missing();
      input.now = kube::NowRfc3339();
      status_ = BuildStatus(input, status_);
      writer_->Want(status_);
    }
    const std::lock_guard lock(shown_mutex_);
    shown_ = modes_.state();
    shown_warnings_ = ServicesNotServedAsWritten();
    shown_counts_.service_count = model_.model().service_count;
    shown_counts_.endpoint_count = model_.model().endpoint_count;
    shown_policies_ = local_policies_;
    shown_steps_ = modes_.steps();
  }

  std::string RenderMetrics() {
    {
      const std::lock_guard lock(shown_mutex_);
      metrics_.SetState(shown_, shown_counts_, shown_warnings_);
      metrics_.SetSteps(shown_steps_);
      metrics_.SetLocalPolicies(shown_policies_);
    }
    metrics_.SetPending(inbox_.PendingChanges());
    if (watching_) {  // before that the watches do not exist
      const auto set = [this](const char* resource, const auto& informer) {
        metrics_.SetWatch(resource, informer.Stats().errors, informer.HasSynced(),
                          informer.DecodeErrors(), informer.Undecodable().size());
      };
      set("services", *services_);
      set("endpointslices", *slices_);
      set("nodes", *nodes_);
      if (proxies_) {
        set("nodeproxies", *proxies_);
        metrics_.SetStatusWrites(writer_->Writes(), writer_->Failures());
      }
    }
    return metrics_.Render();
  }

  std::string ActiveMode() {
    const std::lock_guard lock(shown_mutex_);
    return shown_.active && shown_.synced_once ? std::string(kube::ToString(*shown_.active)) : "";
  }

  kube::HttpServer::Handler MetricsHandler();
  void ServeOwn();
  void ServeInThePlaceOfKubeProxy();
  void Listen(std::unique_ptr<kube::HttpServer> server, const std::string& what);

  const Options options_;
  const std::optional<KubeProxyConfiguration> standalone_;
  Metrics metrics_;  // the client's requests are counted in it
  kube::Client client_;
  kube::EventRecorder events_;
  ProxyHealth health_;
  ChangeInbox inbox_;

  // The sync thread's.
  KernelEnvironment environment_;
  ModeController modes_;
  ModelBuilder model_;
  NodeAddresses addresses_;
  StaleFlows stale_flows_;
  bool flows_in_doubt_ = false;                // a clean-up failed
  std::vector<ModelProblem> told_problems_;    // sorted
  std::vector<ServiceWarning> told_warnings_;  // sorted
  const std::string kernel_release_;
  std::shared_ptr<const kube::NodeProxy> proxy_;
  std::shared_ptr<const kube::Node> node_;
  std::vector<net::IpPrefix> pod_cidrs_;  // the last that the Node had
  kube::NodeProxyStatus status_;
  std::optional<std::vector<kube::SysctlStatus>> sysctls_;  // nullopt: not read yet
  std::optional<kube::CandidateStatus> candidate_;
  std::optional<kube::NodeProxyCandidate> candidate_asked_;
  CacheSet synced_;
  const std::chrono::system_clock::time_point began_ = std::chrono::system_clock::now();
  std::vector<kube::TimePoint> triggers_;  // of changes that are not in the kernel yet
  LocalPolicies local_policies_;
  HealthCheckPorts health_ports_;
  bool health_ports_changed_ = false;
  bool serves_service_health_ = false;
  bool ipv6_asked_ = false;  // the node or a Service has IPv6
  bool apply_ = false;       // proxy_'s settings are to be given to the mode controller
  bool applied_ = false;     // they were
  bool ending_ = false;      // told to end; what drains is waited for
  Clock::time_point removal_retry_ = Clock::time_point::max();
  Clock::time_point candidate_retry_ = Clock::time_point::max();  // an answer could not be given
  Clock::time_point not_before_{};  // what comes sooner is held back (minSyncPeriod)
  Clock::time_point next_refresh_ = Clock::time_point::max();

  std::mutex shown_mutex_;
  ModeState shown_;  // for /metrics and /proxyMode
  ServiceModel shown_counts_;
  size_t shown_warnings_ = 0;
  LocalPolicies shown_policies_;
  Steps shown_steps_;

  std::atomic<bool> watching_ = false;
  std::optional<StatusWriter> writer_;
  kube::Resource slices_resource_;
  // Last: their threads use all of the above.
  std::unique_ptr<kube::Informer<kube::Service>> services_;
  std::unique_ptr<kube::Informer<kube::EndpointSlice>> slices_;
  std::unique_ptr<kube::Informer<kube::Node>> nodes_;
  std::unique_ptr<kube::Informer<kube::NodeProxy>> proxies_;
  // After the informers: its thread asks services_ for a Service of which it has something to tell.
  ServiceHealth service_health_;
  std::exception_ptr must_end_;  // what is no step to be tried again
  bool in_the_place_of_kube_proxy_ = false;
  std::vector<std::unique_ptr<kube::RetryingHttpServer>> own_servers_;
  std::vector<std::unique_ptr<kube::HttpServer>> servers_;
  std::vector<std::unique_ptr<kube::RetryingHttpServer>> retrying_servers_;
};

void Agent::Impl::Listen(std::unique_ptr<kube::HttpServer> server, const std::string& what) {
  if (options_.bind_address_hard_fail) {
    try {
      server->Start();
    } catch (...) {
      must_end_ = std::current_exception();  // bindAddressHardFail asks for just that
      throw;
    }
    servers_.push_back(std::move(server));
  } else {
    retrying_servers_.push_back(
        std::make_unique<kube::RetryingHttpServer>(std::move(server), what));
  }
}

kube::HttpServer::Handler Agent::Impl::MetricsHandler() {
  return [this](const kube::ServedRequest&) {
    return kube::ServedResponse{.content_type = "text/plain; version=0.0.4; charset=utf-8",
                                .body = RenderMetrics()};
  };
}

void Agent::Impl::ServeOwn() {
  // Not kube-proxy's: livez asks whether a restart would help, readyz is late as 10256's livez is.
  const auto probes = [this](kube::HttpServer& server) {
    server.HandleAtOnce("/livez",
                        [this](const kube::ServedRequest&) { return ToResponse(health_.Alive()); });
    server.HandleAtOnce("/readyz",
                        [this](const kube::ServedRequest&) { return ToResponse(health_.Livez()); });
  };
  // A port that is taken does not keep the node from being served; kubelet sees that nothing
  // answers there.
  const auto serve = [this](std::unique_ptr<kube::HttpServer> server, const char* what) {
    own_servers_.push_back(std::make_unique<kube::RetryingHttpServer>(std::move(server), what));
  };
  if (!options_.agent_bind_address.empty()) {
    auto server = std::make_unique<kube::HttpServer>(options_.agent_bind_address, 2);
    server->Handle("/metrics", MetricsHandler());
    probes(*server);
    serve(std::move(server), "the agent's own port (--agent-bind-address)");
  }
  if (!options_.livez_bind_address.empty()) {
    auto server = std::make_unique<kube::HttpServer>(options_.livez_bind_address);
    probes(*server);
    serve(std::move(server), "liveness (--livez-bind-address)");
  }
}

// kube-proxy's ports. Not before the node is ours: an agent that waits would take them from a
// kube-proxy that is restarted, and answer its load balancers.
void Agent::Impl::ServeInThePlaceOfKubeProxy() {
  if (std::exchange(in_the_place_of_kube_proxy_, true)) return;
  const auto text = [](std::string body) { return kube::ServedResponse{.body = std::move(body)}; };
  const std::string metrics_address = options_.metrics_bind_address.value_or("127.0.0.1:10249");
  if (!metrics_address.empty()) {
    auto server = std::make_unique<kube::HttpServer>(metrics_address);
    server->Handle("/metrics", MetricsHandler());
    server->HandleAtOnce("/proxyMode",
                         [this, text](const kube::ServedRequest&) { return text(ActiveMode()); });
    server->HandleAtOnce("/healthz", [text](const kube::ServedRequest&) { return text("ok"); });
    Listen(std::move(server), "metrics (metricsBindAddress)");
  }
  const std::string health_address = options_.healthz_bind_address.value_or("0.0.0.0:10256");
  if (!health_address.empty()) {
    auto server = std::make_unique<kube::HttpServer>(health_address);
    server->HandleAtOnce("/healthz", [this](const kube::ServedRequest&) {
      const ProxyHealth::Answer health = health_.Healthz();
      metrics_.HealthzAnswered(health.status);
      return ToResponse(health);
    });
    server->HandleAtOnce("/livez", [this](const kube::ServedRequest&) {
      const ProxyHealth::Answer health = health_.Livez();
      metrics_.LivezAnswered(health.status);
      return ToResponse(health);
    });
    Listen(std::move(server), "health (healthzBindAddress)");
  }
}

Agent::Agent(Options options, const kube::Config& api,
             std::optional<KubeProxyConfiguration> standalone)
    : impl_(std::make_unique<Impl>(std::move(options), api, std::move(standalone))) {}

Agent::~Agent() = default;

void Agent::Run(std::stop_token stop) {
  impl_->Run(stop);
}

namespace {

// CapEff of /proc/self/status.
bool MayChangeTheNetwork() {
  constexpr uint64_t kNetAdmin = uint64_t{1} << 12;  // CAP_NET_ADMIN
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    uint64_t effective = 0;
    if (word == "CapEff:" && status >> std::hex >> effective) return (effective & kNetAdmin) != 0;
  }
  return true;  // then the kernel says so itself
}

}  // namespace

int RunCleanup(const Options& options) {
  if (!MayChangeTheNetwork()) {
    spdlog::error("--cleanup needs root, or the capability CAP_NET_ADMIN; nothing was changed");
    return 1;
  }
  AgentLock lock;
  if (const std::string holder = lock.TryTake(); !holder.empty()) {
    spdlog::error(
        "nothing was removed: an agent runs in this network namespace, and would make it all anew "
        "({}). End it first",
        holder);
    return 1;
  }
  KernelEnvironment environment(options.modules_root.string(), "", options.forwarder_launcher,
                                options.log_format.value_or("text"));
  // What an earlier agent may have served.
  if (const std::string refused = environment.ServeIpv6(); !refused.empty())
    spdlog::info("this kernel has no IPv6 rules to remove: {}", refused);
  ModeController modes(environment);
  const std::vector<SyncProblem> problems = modes.RemoveAll();
  for (const SyncProblem& problem : problems) {
    spdlog::error("not removed: {}: {}", problem.object, problem.message);
  }
  if (problems.empty()) spdlog::info("everything of Pointsman's is out of this node's kernel");
  return problems.empty() ? 0 : 1;
}

}  // namespace pointsman::agent

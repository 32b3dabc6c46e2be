#include "node-agent/agent/agent.h"

#include <sys/utsname.h>

#include "kube/cache/informer.h"
#include "kube/client/discovery.h"
#include "kube/events/event_recorder.h"
#include "kube/serve/http_server.h"
#include "node-agent/agent/kernel_environment.h"
#include "node-agent/agent/metrics.h"
#include "node-agent/agent/node_addresses.h"
#include "node-agent/agent/node_sysctls.h"
#include "node-agent/agent/version.h"
#include "node-agent/conntrack/stale_flows.h"
#include "node-agent/health/proxy_health.h"
#include "node-agent/model/model_builder.h"
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

template <typename T>
bool SameVersion(const T& a, const T& b) {
  return !a.resource_version.empty() && a.resource_version == b.resource_version;
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
        client_(std::shared_ptr<kube::Transport>(kube::MakeTransport(api))),
        events_(client_, "pointsman-node-agent", options_.node_name),
        metrics_(kVersion),
        health_(std::chrono::seconds(60)),
        environment_(options_.modules_root.string(), api.server),
        modes_(environment_),
        model_(options_.node_name),
        addresses_([this] { inbox_.PutAddressesChanged(); }),
        kernel_release_(KernelRelease()) {
    Serve();
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
    Clock::time_point not_before = Clock::now();
    while (true) {
      auto batch = inbox_.Take(not_before, std::min(modes_.NextDeadline(), removal_retry_));
      if (!batch) break;
      if (!batch->empty()) not_before = Clock::now() + MinSyncPeriod();
      Handle(*batch);
    }
    spdlog::info("stopping; the kernel's rules stay in place");
  }

 private:
  // The watches need to know which version of EndpointSlice there is; until the server answers,
  // what is in the kernel goes on serving.
  bool WaitForServer(std::stop_token stop) {
    std::mutex mutex;
    std::condition_variable_any wake;
    std::chrono::milliseconds delay{500};
    while (!stop.stop_requested()) {
      try {
        slices_resource_ = EndpointSliceResource(client_);
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
    services_->AddHandler([this](const auto& before, const auto& after) {
      inbox_.PutService((after ? after : before)->Key(), after);
    });
    slices_ = std::make_unique<kube::Informer<kube::EndpointSlice>>(
        client_, slices_resource_, ours, kube::DecodeEndpointSlice,
        [](const kube::EndpointSlice& slice) { return slice.Key(); },
        SameVersion<kube::EndpointSlice>);
    slices_->AddHandler([this](const auto& before, const auto& after) {
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
    const auto synced = [this] { inbox_.PutCachesSynced(); };
    services_->OnSynced(synced);
    slices_->OnSynced(synced);
    nodes_->OnSynced(synced);
    if (proxies_) proxies_->OnSynced(synced);
    services_->Start();
    slices_->Start();
    nodes_->Start();
    if (proxies_) proxies_->Start();
    watching_ = true;
  }

  bool CachesSynced() const {
    return services_->HasSynced() && slices_->HasSynced() && nodes_->HasSynced();
  }

  kube::Duration MinSyncPeriod() const {
    if (!proxy_ || !modes_.state().active) return kube::Duration(0);
    const kube::ProxySettings& settings = proxy_->spec.settings;
    switch (*modes_.state().active) {
      case kube::Mode::kIpvs:
        return settings.ipvs.min_sync_period;
      case kube::Mode::kNftables:
        return settings.nftables.min_sync_period;
      case kube::Mode::kIptables:
      case kube::Mode::kUserspace:
        return settings.iptables.min_sync_period;
    }
    return kube::Duration(0);
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

  // The settings with what only this node knows: its own pod CIDRs.
  kube::ProxySettings ResolvedSettings() const {
    kube::ProxySettings settings = proxy_->spec.settings;
    if (settings.detect_local_mode == kube::DetectLocalMode::kNodeCidr && node_) {
      settings.cluster_cidrs = node_->pod_cidrs;
    }
    return settings;
  }

  void Handle(ChangeBatch& batch) {
    const Clock::time_point started = Clock::now();
    metrics_.ChangesSeen(batch.services.size(), batch.endpoint_slices.size());
    for (auto& [key, service] : batch.services)
      model_.SetService(key, std::move(service));
    for (auto& [key, slice] : batch.endpoint_slices) {
      model_.SetEndpointSlice(key, std::move(slice));
    }
    if (batch.node) {
      node_ = *batch.node;
      model_.SetNode(node_);
      health_.SetNodeEligible(node_ && !node_->deleting && !node_->to_be_deleted);
    }
    if (batch.node_proxy) Accept(std::move(*batch.node_proxy));
    // A node that nothing is asked of is late with nothing: its agent must not be restarted for it.
    if (batch.oldest && proxy_) health_.ChangeQueued(*batch.oldest);
    if (!proxy_ || !CachesSynced()) {
      // Without the whole picture nothing is written: a partial one would cut Services off.
      Report();
      return;
    }
    if (batch.addresses_changed || apply_) RefreshAddresses();
    Program(batch, started);
    Report();
  }

  void RefreshAddresses() {
    try {
      const std::vector<HostAddress> addresses = addresses_.Read();
      model_.SetNodeNetwork(
          ChooseNodeNetwork(options_.node_name, addresses, proxy_->spec.settings, node_.get()));
      // A Service that takes the API server's address would cut this node off from it
      // (kubernetes#66966). Where the API server runs on this node it may share the address.
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
    TellProblems();
    const uint64_t full_before = modes_.state().full_syncs;
    const uint64_t partial_before = modes_.state().syncs;
    if (proxy_->spec.removed) {
      if (apply_ || Clock::now() >= removal_retry_) {
        const auto problems = modes_.RemoveAll();
        for (const SyncProblem& problem : problems) {
          spdlog::error("removing {}: {}", problem.object, problem.message);
        }
        if (problems.empty()) spdlog::info("all rules were removed, as asked");
        applied_ = problems.empty();
        removal_retry_ =
            applied_ ? Clock::time_point::max() : Clock::now() + ModeController::kRetry;
      }
    } else if (proxy_->spec.revision == 0) {
      // Not this node's turn yet: the operator only asks what the candidate would do here. What
      // runs goes on.
      applied_ = false;
      modes_.Sync(model, delta);
    } else if (apply_) {
      const kube::ProxySettings settings = ResolvedSettings();
      health_.SetTimeout(2 * settings.ipvs.sync_period);
      modes_.Apply(settings, model);
      // After the modules were loaded: before that the kernel may have no connection tracking to
      // set.
      ApplyNodeSysctls(settings);
      applied_ = true;
      removal_retry_ = Clock::time_point::max();
    } else {
      modes_.Sync(model, delta);
    }
    apply_ = false;
    if (!proxy_->spec.removed) modes_.Tick(model);
    if (!delta.changes.empty()) CleanConntrack(model, delta);

    const bool full = modes_.state().full_syncs != full_before;
    const bool wrote = full || modes_.state().syncs != partial_before;
    if (modes_.state().problems.empty()) {
      health_.Synced();
      const Clock::time_point now = Clock::now();
      if (wrote) metrics_.SyncDone(full, now - started);
      if (wrote && batch.oldest && !delta.changes.empty()) {
        metrics_.ChangeReachedKernel(now - *batch.oldest);
      }
    }
    CheckCandidate();
  }

  void CleanConntrack(const ServiceModel& model, const ModelDelta& delta) {
    try {
      const StaleFlows::Result result = stale_flows_.Clean(model, delta);
      for (const SyncProblem& problem : result.sync.problems) {
        spdlog::error("stale flow {}: {}", problem.object, problem.message);
      }
    } catch (const std::exception& error) {
      spdlog::error("stale connection tracking entries could not be removed: {}", error.what());
    }
  }

  // Objects that cannot be served as they are written: an Event on each, once, since the person who
  // wrote the Service looks there and not into this log.
  void TellProblems() {
    std::vector<ModelProblem> problems = model_.problems();
    if (problems == told_problems_) return;
    for (const ModelProblem& problem : problems) {
      if (std::binary_search(told_problems_.begin(), told_problems_.end(), problem)) continue;
      spdlog::warn("{} {}: {}", problem.kind, problem.key, problem.message);
      const size_t slash = problem.key.find('/');
      events_.Emit({problem.kind == "Service" ? "v1" : slices_resource_.ApiVersion(), problem.kind,
                    problem.key.substr(0, slash), problem.key.substr(slash + 1), ""},
                   kube::EventType::kWarning, "NotServedAsWritten",
                   options_.node_name + ": " + problem.message);
    }
    told_problems_ = std::move(problems);
  }

  // The operator asks what a revision would do here before it changes any node.
  void CheckCandidate() {
    const auto& asked = proxy_->spec.candidate;
    if (!asked) {
      candidate_.reset();
      candidate_asked_.reset();
      return;
    }
    if (candidate_asked_ == asked) return;
    kube::ProxySettings settings = proxy_->spec.settings;
    settings.modules = asked->modules;
    settings.ipvs.scheduler = asked->ipvs_scheduler;
    kube::CandidateStatus answer;
    answer.revision = asked->revision;
    std::vector<kube::Mode> modes{asked->mode};
    modes.insert(modes.end(), asked->fallback_modes.begin(), asked->fallback_modes.end());
    for (const kube::Mode mode : modes) {
      PreflightResult result;
      if (environment_.Supports(mode)) {
        result = environment_.Preflight(mode, settings, /*load=*/false);
      } else {
        result.message = fmt::format("this agent has no {} dataplane", kube::ToString(mode));
      }
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
      input.candidate = candidate_;
      input.now = kube::NowRfc3339();
      status_ = BuildStatus(input, status_);
      writer_->Want(status_);
    }
    const std::lock_guard lock(shown_mutex_);
    shown_ = modes_.state();
    shown_counts_.service_count = model_.model().service_count;
    shown_counts_.endpoint_count = model_.model().endpoint_count;
  }

  std::string RenderMetrics() {
    {
      const std::lock_guard lock(shown_mutex_);
      metrics_.SetState(shown_, shown_counts_);
    }
    if (watching_) {  // before that the watches do not exist
      const auto set = [this](const char* resource, const auto& informer) {
        metrics_.SetWatch(resource, informer.Stats().errors, informer.HasSynced());
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

  void Serve();

  const Options options_;
  const std::optional<KubeProxyConfiguration> standalone_;
  kube::Client client_;
  kube::EventRecorder events_;
  Metrics metrics_;
  ProxyHealth health_;
  ChangeInbox inbox_;

  // The sync thread's.
  KernelEnvironment environment_;
  ModeController modes_;
  ModelBuilder model_;
  NodeAddresses addresses_;
  StaleFlows stale_flows_;
  std::vector<ModelProblem> told_problems_;  // sorted
  const std::string kernel_release_;
  std::shared_ptr<const kube::NodeProxy> proxy_;
  std::shared_ptr<const kube::Node> node_;
  kube::NodeProxyStatus status_;
  std::optional<kube::CandidateStatus> candidate_;
  std::optional<kube::NodeProxyCandidate> candidate_asked_;
  bool apply_ = false;    // proxy_'s settings are to be given to the mode controller
  bool applied_ = false;  // they were
  Clock::time_point removal_retry_ = Clock::time_point::max();

  std::mutex shown_mutex_;
  ModeState shown_;  // for /metrics and /proxyMode
  ServiceModel shown_counts_;

  std::atomic<bool> watching_ = false;
  std::optional<StatusWriter> writer_;
  kube::Resource slices_resource_;
  // Last: their threads use all of the above.
  std::unique_ptr<kube::Informer<kube::Service>> services_;
  std::unique_ptr<kube::Informer<kube::EndpointSlice>> slices_;
  std::unique_ptr<kube::Informer<kube::Node>> nodes_;
  std::unique_ptr<kube::Informer<kube::NodeProxy>> proxies_;
  std::unique_ptr<kube::HttpServer> metrics_server_;
  std::unique_ptr<kube::HttpServer> health_server_;
};

void Agent::Impl::Serve() {
  const auto text = [](std::string body) { return kube::ServedResponse{.body = std::move(body)}; };
  if (!options_.metrics_bind_address.empty()) {
    metrics_server_ = std::make_unique<kube::HttpServer>(options_.metrics_bind_address);
    metrics_server_->Handle("/metrics", [this](const kube::ServedRequest&) {
      return kube::ServedResponse{.content_type = "text/plain; version=0.0.4; charset=utf-8",
                                  .body = RenderMetrics()};
    });
    metrics_server_->Handle(
        "/proxyMode", [this, text](const kube::ServedRequest&) { return text(ActiveMode()); });
    metrics_server_->Handle("/healthz", [text](const kube::ServedRequest&) { return text("ok"); });
    metrics_server_->Start();
  }
  if (!options_.healthz_bind_address.empty()) {
    health_server_ = std::make_unique<kube::HttpServer>(options_.healthz_bind_address);
    const auto answer = [](const ProxyHealth::Answer& health) {
      return kube::ServedResponse{health.status, "application/json", health.body};
    };
    health_server_->Handle("/healthz", [this, answer](const kube::ServedRequest&) {
      return answer(health_.Healthz());
    });
    health_server_->Handle(
        "/livez", [this, answer](const kube::ServedRequest&) { return answer(health_.Livez()); });
    health_server_->Start();
  }
}

Agent::Agent(Options options, kube::Config api, std::optional<KubeProxyConfiguration> standalone)
    : impl_(std::make_unique<Impl>(std::move(options), api, std::move(standalone))) {}

Agent::~Agent() = default;

void Agent::Run(std::stop_token stop) {
  impl_->Run(stop);
}

int RunCleanup(const Options& options) {
  KernelEnvironment environment(options.modules_root.string(), "");
  ModeController modes(environment);
  const std::vector<SyncProblem> problems = modes.RemoveAll();
  for (const SyncProblem& problem : problems) {
    spdlog::error("not removed: {}: {}", problem.object, problem.message);
  }
  if (problems.empty()) spdlog::info("everything of Pointsman's is out of this node's kernel");
  return problems.empty() ? 0 : 1;
}

}  // namespace pointsman::agent

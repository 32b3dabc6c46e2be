#include "node-agent/agent/sync_loop.h"

#include <algorithm>
#include <exception>
#include <iterator>
#include <utility>

#include <malloc.h>
#include <spdlog/spdlog.h>

#include "kube/process/kernel_release.h"
#include "kube/process/version.h"
#include "kube/time/rfc3339.h"
#include "node-agent/agent/node_sysctls.h"
#include "node-agent/dataplane/mode_traits.h"
#include "node-agent/dataplane/sync_problems.h"
#include "node-agent/kube_proxy/hook_hold.h"
#include "node-agent/status/kernel_sysctls.h"
#include "node-agent/status/status_builder.h"

namespace pointsman::agent {
namespace {

// How long userspace mode's connections have to end when the agent is told to: less than the
// manifest's terminationGracePeriodSeconds, after which nothing is left that could tidy up.
constexpr std::chrono::seconds kEndDrain{20};

bool BringsIpv6(const ModelDelta& delta) {
  return std::any_of(delta.changes.begin(), delta.changes.end(), [](const EntryChange& change) {
    return change.after && change.after->id.family == net::Family::kIPv6;
  });
}

}  // namespace

SyncLoop::SyncLoop(const Surroundings& surroundings, const std::string& api_server)
    : with_(surroundings),
      environment_(with_.options.modules_root.string(), api_server,
                   with_.options.forwarder_launcher, with_.options.log_format.value_or("text")),
      modes_(environment_),
      model_(with_.options.node_name),
      node_(with_.options.node_name, model_,
            [inbox = &with_.inbox] { inbox->PutAddressesChanged(); }),
      service_events_(with_.events, with_.watches, with_.options.node_name),
      candidate_(environment_, modes_.steps(), modes_.state()),
      preflights_(environment_, modes_.state()),
      kube_proxy_(
          ThisKernel(with_.options.modules_root.string(),
                     [endpoints = &with_.endpoints] { return endpoints->TakenByAnother(); })),
      kube_proxy_return_(ThisReturn(with_.options.modules_root.string())),
      stock_(ThisKubeProxy(with_.options.modules_root.string(),
                           [this](const kube::ProxySettings& settings) {
                             return PreflightOfKubeProxy(environment_, settings);
                           })),
      bridge_(ThisBridge(
          [this](const kube::ProxySettings& settings) { return WhyNoBridge(settings); })),
      former_mode_(ThisFormerMode(with_.options.modules_root.string(),
                                  [this] { return proxy_->spec.settings.mode; })),
      flows_(with_.metrics, KernelEnvironment::LooksAfterItsOwn),
      measure_(with_.metrics, environment_, modes_.state()),
      health_checks_(with_.health, with_.events, with_.watches, with_.options.node_name),
      kernel_release_(kube::KernelRelease()) {}

void SyncLoop::Run() {
  next_refresh_ = Clock::now() + RefreshPeriod();
  while (true) {
    auto batch = with_.inbox.Take(
        not_before_,
        std::min({modes_.NextDeadline(), removal_retry_, candidate_.due(), kube_proxy_.due(),
                  stock_.due(), former_mode_.due(), next_refresh_}));
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

// Told to end, where userspace mode's forwarder ends with this Pod: without it the rules would
// refuse every connection until the next agent is there, which may be as long as an image takes
// to be pulled. True: it still drains.
bool SyncLoop::LeaveToKernel() {
  if (with_.options.forwarder_launcher.empty() || !proxy_ || !applied_ || !CachesSynced())
    return false;
  ending_ = modes_.LeaveToKernel(model_.model(), kEndDrain);
  Report();
  return ending_;
}

// A shorter one would leave the node no time for anything else.
SyncLoop::Clock::duration SyncLoop::RefreshPeriod() const {
  return std::max<Clock::duration>(with_.options.config_sync_period, std::chrono::seconds(1));
}

kube::Duration SyncLoop::ActiveMinSyncPeriod() const {
  if (!proxy_ || !modes_.state().active) return kube::Duration(0);
  return TraitsOf(*modes_.state().active).min_sync_period(proxy_->spec.settings);
}

void SyncLoop::Accept(std::shared_ptr<const kube::NodeProxy> proxy) {
  if (!proxy) {
    // Deleted by mistake, or about to be made again by the operator: what runs goes on.
    spdlog::warn("NodeProxy {} is gone; this node keeps serving with its last specification",
                 with_.options.node_name);
    if (with_.status != nullptr) with_.status->Forget();
    if (proxy_ && proxy_->spec.remove_kube_proxy) {
      // Nobody would tell any more that kube-proxy is to come back.
      auto kept = std::make_shared<kube::NodeProxy>(*proxy_);
      kept->spec.remove_kube_proxy = false;
      proxy_ = std::move(kept);
    }
    return;
  }
  if (with_.status != nullptr) with_.status->Observed(proxy->status);
  const int64_t revision = proxy->spec.revision;
  if (!proxy_ || proxy_->uid != proxy->uid) {
    status_ = proxy->status;
    kube_proxy_.Continue(status_.kube_proxy);
    bridge_.Continue(status_);
    change_.Continue(revision, status_.impact, modes_.state().toll);
  } else if (proxy_->spec.revision != revision) {
    const bool known = applied_ && CachesSynced() && proxy_->spec.revision > 0;
    change_.Begin(revision, known ? std::optional(service_events_.Count()) : std::nullopt,
                  modes_.state().toll);
  }
  if (!proxy_ || !(proxy_->spec == proxy->spec)) apply_ = true;
  proxy_ = std::move(proxy);
}

void SyncLoop::SetNode(std::shared_ptr<const kube::Node> node) {
  const bool other_settings =
      node_.Set(std::move(node), proxy_ && applied_ ? &proxy_->spec.settings : nullptr);
  if (other_settings) apply_ = true;
  with_.health.SetNodeEligible(node_.eligible());
}

// What is thrown here and not caught nearer by is a fault of this program. It must be seen, and
// must not end what the node's other Services live on.
void SyncLoop::HandleGuarded(ChangeBatch& batch) {
  if (modes_.steps().TryTo("handle changes", "", [&] { Handle(batch); })) return;
  if (with_.endpoints.fatal()) std::rethrow_exception(with_.endpoints.fatal());
  with_.health.SyncFailed();
  // How far it came is not known: all is compared with the kernel again.
  model_.ResolveAll();
  modes_.Rebuild();
  flows_.Doubt();
  apply_ = true;
  next_refresh_ = std::min(next_refresh_, Clock::now() + ModeController::kRetry);
}

void SyncLoop::UpdateObjects(ChangeBatch& batch) {
  with_.metrics.ChangesSeen(batch.services.size(), batch.endpoint_slices.size());
  synced_ |= batch.synced;
  for (auto& [key, service] : batch.services)
    model_.SetService(key, std::move(service));
  for (auto& [key, slice] : batch.endpoint_slices) {
    if (slice) measure_.SawTrigger(*slice);
    model_.SetEndpointSlice(key, std::move(slice));
  }
  if (batch.node) SetNode(*std::move(batch.node));
  if (batch.node_proxy && !ending_) Accept(std::move(*batch.node_proxy));
}

void SyncLoop::Handle(ChangeBatch& batch) {
  const Clock::time_point started = Clock::now();
  const bool refresh = started >= next_refresh_;
  if (refresh) next_refresh_ = started + RefreshPeriod();
  with_.health.SyncBegins();
  UpdateObjects(batch);
  // A node that nothing is asked of is late with nothing: its agent must not be restarted for it.
  if (!proxy_ || !CachesSynced()) {
    // Without the whole picture nothing is written: a partial one would cut Services off. Nothing
    // can be late with that.
    with_.health.Synced();
    Report();
    return;
  }
  with_.health.CachesComplete();
  if (refresh) {
    // configSyncPeriod. kube-proxy's informers hand out all objects again; what that is to heal
    // is a model that went astray from them, and a kernel from the model.
    spdlog::debug("configSyncPeriod: the model is made again, the kernel compared with it");
    model_.ResolveAll();
    modes_.ResyncNow();
  }
  if (apply_) model_.SetMasqueradeAll(proxy_->spec.settings.MasqueradesAll());
  if (batch.addresses_changed || batch.node || apply_)
    node_.ReadAddresses(proxy_->spec.settings, environment_.ApiServerAddress());
  if (batch.node && node_.HasIpv6()) ServeIpv6();
  Program(batch, started);
  Report();
}

// A cluster without IPv6 is spared the second set of rules.
void SyncLoop::ServeIpv6() {
  if (std::exchange(ipv6_asked_, true)) return;
  ipv6_refused_ = environment_.ServeIpv6();
  if (ipv6_refused_.empty()) {
    spdlog::info("IPv6 is to be served too");
    modes_.Rebuild();
    apply_ = true;
    return;
  }
  spdlog::error("IPv6 Services are not served: {}", ipv6_refused_);
  with_.events.Emit({"v1", "Node", "", with_.options.node_name, node_.uid()},
                    kube::EventType::kWarning, "IPv6NotServed",
                    "this node's kernel cannot serve IPv6 Services: " + ipv6_refused_);
}

void SyncLoop::Program(const ChangeBatch& batch, Clock::time_point started) {
  const ModelDelta delta = model_.Update();
  const ServiceModel& model = model_.model();
  // These add up deltas, so they are given each before anything can fail.
  local_policies_.Apply(delta);
  health_checks_.Apply(delta);
  if (!ipv6_asked_ && BringsIpv6(delta)) ServeIpv6();
  service_events_.SetProblems(model_.problems());

  const bool only_changes = !apply_ && !delta.changes.empty();
  measure_.Begin();
  WriteKernel(model, delta);
  measure_.End();
  // Those of a stock kube-proxy are its own matter.
  if (!IsStock()) flows_.Clean(model, delta, measure_.full());
  modes_.steps().TryTo("serve health checks", "", [&] {
    const bool serves = !proxy_->spec.removed && !IsStock() && modes_.state().active.has_value();
    health_checks_.Serve(serves, model.node);
  });
  // Only what wrote holds up the next change: a Node's heartbeat does not.
  if (measure_.wrote() && !batch.empty()) not_before_ = started + ActiveMinSyncPeriod();
  if (measure_.full()) {
    // What a full sync and the lists before it took and gave back belongs to the node again.
    malloc_trim(0);
    // As often as the kernel's rules are looked at whole, and not at every change.
    modes_.steps().TryTo("read sysctls", "", [this] { ReadSysctlsBack(); });
  }
  if (modes_.state().failed) {
    with_.health.SyncFailed();
  } else {
    with_.health.Synced();
  }
  measure_.Report(started, delta.changes.empty() ? std::nullopt : batch.oldest);
  if (only_changes && measure_.wrote() && !modes_.state().failed)
    change_.SyncTook(Clock::now() - started);
  service_events_.SetWarnings(modes_.state().warnings);
  kube_proxy_.Look(proxy_->spec.remove_kube_proxy && !proxy_->spec.removed,
                   with_.watches.HeardOfNodeProxy(), WhyKubeProxysRulesStay(),
                   proxy_->spec.settings.drain_timeout, Clock::now());
  const bool asked = candidate_.Check(proxy_->spec);
  modes_.steps().TryTo("hold the hooks of NAT", "", [this] { HoldHooks(); });
  if (measure_.full() || asked || !neighbours_.known)
    modes_.steps().TryTo("look at neighbours", "", [this] { LookAtNeighbours(); });
  // Standalone there is no status to read them in.
  if (with_.status != nullptr) preflights_.Look(proxy_->spec.settings);
}

// What is not in the kernel as ours may be there as kube-proxy's.
std::string SyncLoop::WhyKubeProxysRulesStay() const {
  const ModeState& state = modes_.state();
  if (ending_ || !applied_ || !state.active || !state.synced_once)
    return "this node's Services are not served by Pointsman yet";
  if (!state.problems.empty()) return Describe(state.problems);
  if (!state.watching.empty()) return state.watching;
  if (!ipv6_refused_.empty()) return "IPv6 Services are not served: " + ipv6_refused_;
  return "";
}

// Another one programs this node.
bool SyncLoop::IsStock() const {
  return proxy_ && proxy_->spec.provider == kube::Provider::kKubeProxy &&
         proxy_->spec.revision > 0 && !proxy_->spec.removed;
}

const ModeState& SyncLoop::State() const {
  return IsStock() ? stock_.state() : modes_.state();
}

const std::optional<kube::KubeProxyStatus>& SyncLoop::Leftovers() const {
  return IsStock() ? former_mode_.status() : kube_proxy_.status();
}

ProviderState SyncLoop::Provided() const {
  ProviderState state;
  if (!proxy_ || proxy_->spec.revision == 0 || proxy_->spec.removed) return state;
  state.provider = proxy_->spec.provider;
  state.found = stock_.found();
  state.missing_service_ports = stock_.MissingServicePorts();
  state.bridged = IsStock() && bridge_.wanted();
  if (const auto& leftovers = Leftovers()) state.leftovers = leftovers->state;
  return state;
}

void SyncLoop::ServeAsStock(const ServiceModel& model, const ModelDelta& delta) {
  // Before it is looked at: what answers there is to be kube-proxy.
  if (apply_) with_.endpoints.LeaveThePlaceOfKubeProxy();
  stock_.Look(proxy_->spec, model, node_.HasIpv6(), Clock::now());
  bridge_.Look(proxy_->spec, stock_.state().active, stock_.InEffect(), Clock::now());
  if (bridge_.wanted()) {
    WriteBridge(model, delta);
  } else {
    const bool bridged = std::exchange(bridges_, false);
    if (apply_ || bridged || Clock::now() >= removal_retry_) RemoveAll();
  }
  stock_.WaitFor(bridge_.waits_for());
  apply_ = false;
  // Whatever the operator asks for now, that one's mode is the other.
  const auto now = Clock::now();
  former_mode_.Look(stock_.InEffect(), now, "", proxy_->spec.settings.drain_timeout, now);
}

// As in a mode of our own, but for what is kube-proxy's matter as long as it is there: its ports,
// the node's parameters.
void SyncLoop::WriteBridge(const ServiceModel& model, const ModelDelta& delta) {
  if (apply_ || !std::exchange(bridges_, true)) {
    modes_.Apply(node_.Resolve(KubeProxyBridge::Settings(proxy_->spec.settings)), model);
  } else {
    modes_.Sync(model, delta);
  }
  modes_.Tick(model);
  applied_ = false;
  const ModeState& state = modes_.state();
  std::string problem;
  if (state.active != KubeProxyBridge::kMode || !state.synced_once || state.failed) {
    problem = state.problems.empty() ? state.fallback_reason : Describe(state.problems);
    if (problem.empty()) problem = "they are not there yet";
  }
  const auto told = modes_.steps().TryTo("prepare kube-proxy's restart", "", [&] {
    bridge_.Wrote(problem, proxy_->spec.settings.drain_timeout, Clock::now());
  });
  // What cannot be counted is not waited for longer than rules would be.
  if (!told) bridge_.Wrote("the kernel does not tell what is open", {}, Clock::now());
}

std::string SyncLoop::WhyNoBridge(const kube::ProxySettings& settings) {
  const PreflightResult result =
      environment_.Preflight(settings.mode, node_.Resolve(settings), /*load=*/true);
  return result.passed ? "" : result.message;
}

// From the question whether a node could run it until kube-proxy does: the label that ends its Pod
// may come at any time.
void SyncLoop::HoldHooks() {
  const auto& candidate = proxy_->spec.candidate;
  const bool wanted = (candidate && candidate->provider == kube::Provider::kKubeProxy) ||
                      (IsStock() && !stock_.InEffect());
  if (holds_hooks_ == wanted) return;
  const std::string root = with_.options.modules_root.string();
  if (wanted) {
    kube_proxy::HoldHooks(root);
  } else {
    kube_proxy::ReleaseHooks(root);
  }
  holds_hooks_ = wanted;
}

void SyncLoop::ForgetStock() {
  stock_.Forget();
  bridge_.Forget();
  bridges_ = false;
  former_mode_.Look(false, {}, "", {}, Clock::now());
}

void SyncLoop::WriteKernel(const ServiceModel& model, const ModelDelta& delta) {
  if (proxy_->spec.removed) return WriteRemoved(model, delta);
  kube_proxy_return_.Forget();
  removal_waits_.clear();
  if (IsStock()) return ServeAsStock(model, delta);
  ForgetStock();
  if (proxy_->spec.revision == 0) {
    // Not this node's turn yet: the operator only asks what the candidate would do here. What
    // runs goes on.
    applied_ = false;
    modes_.Sync(model, delta);
  } else if (apply_ && !ending_) {
    ApplySettings(model);
  } else {
    modes_.Sync(model, delta);
  }
  apply_ = false;
  modes_.Tick(model);
}

void SyncLoop::ApplySettings(const ServiceModel& model) {
  const kube::ProxySettings settings = node_.Resolve(proxy_->spec.settings);
  with_.health.SetTimeout(2 * TraitsOf(settings.mode).sync_period(settings));
  modes_.Apply(settings, model);
  // After the mode has loaded connection tracking: before, a fresh node has no such parameters.
  modes_.steps().TryTo("set node sysctls", "", [&] { ApplyNodeSysctls(settings); });
  applied_ = true;
  removal_retry_ = Clock::time_point::max();
  with_.endpoints.ServeInThePlaceOfKubeProxy();
}

void SyncLoop::WriteRemoved(const ServiceModel& model, const ModelDelta& delta) {
  ForgetStock();
  if (!apply_ && Clock::now() < removal_retry_) {
    if (modes_.state().active) modes_.Sync(model, delta);
    return;
  }
  // An agent that was started anew does not know its rules yet, and they are waited with all the
  // same. What cannot be looked at holds up nothing.
  const auto why = modes_.steps().Try("look for kube-proxy", "", [&] {
    return kube_proxy_return_.WhyWait(model, node_.HasIpv6(), proxy_->spec.settings.drain_timeout,
                                      Clock::now());
  });
  removal_waits_ = why.value_or("");
  apply_ = false;
  if (removal_waits_.empty()) return RemoveAll();
  applied_ = false;
  removal_retry_ = Clock::now() + KubeProxyReturn::kPoll;
  modes_.Sync(model, delta);
  modes_.Tick(model);
}

void SyncLoop::RemoveAll() {
  const std::vector<SyncProblem> problems = modes_.RemoveAll();
  for (const SyncProblem& problem : problems)
    spdlog::error("removing {}: {}", problem.object, problem.message);
  if (problems.empty())
    spdlog::info("all rules were removed: {}",
                 proxy_->spec.removed ? "spec.state is Removed" : "spec.provider is KubeProxy");
  sysctls_.emplace();
  with_.endpoints.LeaveThePlaceOfKubeProxy();
  applied_ = problems.empty();
  removal_retry_ = applied_ ? Clock::time_point::max() : Clock::now() + ModeController::kRetry;
}

void SyncLoop::ReadSysctlsBack() {
  std::vector<std::string> names = NodeSysctlNames(proxy_->spec.settings);
  std::vector<std::string> of_mode = modes_.ActiveSysctls();
  std::move(of_mode.begin(), of_mode.end(), std::back_inserter(names));
  sysctls_ = ReadSysctls(names);
}

void SyncLoop::LookAtNeighbours() {
  const kube::ProxySettings& settings = proxy_->spec.settings;
  neighbours_ = environment_.LookAtNeighbours(IsStock() ? WithoutNeighbours(settings) : settings,
                                              State().active);
}

void SyncLoop::ReportStatus() {
  StatusInput input;
  input.proxy = proxy_.get();
  input.modes = &State();
  input.services = model_.model().service_count;
  input.endpoints = model_.model().endpoint_count;
  input.caches_synced = CachesSynced();
  input.applied = applied_ && !apply_ && (!IsStock() || stock_.InEffect());
  input.kernel_release = kernel_release_;
  input.agent_version = kVersion;
  input.sysctls = sysctls_;
  input.neighbours = neighbours_;
  input.candidate = candidate_.answer();
  input.prepared_revision = IsStock() ? bridge_.prepared_revision() : 0;
  input.kube_proxy = Leftovers();
  input.preflights = preflights_.answers();
  input.services_not_as_written = service_events_.Count();
  input.not_as_written = service_events_.Some();
  input.failing_steps = &modes_.steps().failing();
  input.removal_waits = removal_waits_;
  input.missing = node_.Missing(proxy_->spec.settings);
  input.impact = change_.Report(IsInEffect(input), service_events_.Count(), modes_.state().toll);
  input.now = kube::NowRfc3339();
  status_ = BuildStatus(input, status_);
  with_.status->Want(status_);
}

void SyncLoop::Report() {
  if (proxy_ && with_.status != nullptr) ReportStatus();
  with_.shown.Set(State(), modes_.steps(), model_.model(), local_policies_, service_events_.Count(),
                  neighbours_.neighbours, Provided());
}

}  // namespace pointsman::agent

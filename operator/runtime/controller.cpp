#include "operator/runtime/controller.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <optional>
#include <utility>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "operator/plan/kube_proxy_daemon_set.h"
#include "operator/plan/plan.h"

namespace pointsman::op {
namespace {

// All is planned together: which configuration governs a node depends on all of them.
constexpr const char* kPass = "pass";
// Changes that come together are planned together: 5,000 agents report within seconds.
constexpr std::chrono::milliseconds kGather{50};
// While the first lists of the agent's Pods and of kube-proxy's objects are under way.
constexpr std::chrono::milliseconds kLookAgain{200};

// Something is due at that time. Each pass says anew when: the queue keeps one time for the key,
// the earliest, so a pass that comes sooner takes this one's place.
void WakeUp(kube::WorkQueue& queue, kube::TimePoint when, kube::TimePoint now) {
  // At least until the next full second: the API's times have no finer grain.
  queue.AddAfter(kPass,
                 std::chrono::ceil<std::chrono::milliseconds>(
                     std::max<kube::TimePoint::duration>(when - now, std::chrono::seconds(1))));
}

// What is shown of the ProxyConfigurations that are there after the plan.
std::map<std::string, kube::ProxyConfigurationStatus> StatusesOf(const Plan& plan) {
  std::map<std::string, kube::ProxyConfigurationStatus> statuses;
  for (const ConfigurationPlan& part : plan.configurations) {
    if (!(part.configuration->deleting && part.remove_finalizer))
      statuses[part.configuration->name] = part.status;
  }
  return statuses;
}

}  // namespace

Controller::Controller(kube::Client& client, std::string ns, KubeProxyName kube_proxy,
                       Metrics& metrics)
    : client_(client),
      ns_(std::move(ns)),
      kube_proxy_(std::move(kube_proxy)),
      metrics_(metrics),
      event_client_(client.WithGuard([this] { return tenure_.MayEmitEvents(); })),
      recorder_(event_client_, "pointsman-operator", ""),
      caches_(client, ns_, kube_proxy_,
              {.changed = [this] { Gather(); },
               .node_proxy = [this](const auto& before,
                                    const auto& after) { EmitArrival(before, after); }}) {}

void Controller::Lead(std::stop_token stop, std::function<bool()> held) {
  const Tenure::Period period(tenure_, stop, std::move(held));
  PlanWriter writer(client_.WithStop(stop).WithGuard([this] { return tenure_.MayWrite(); }), ns_,
                    kube_proxy_.ns, tenure_, recorder_, caches_);
  if (!caches_.WaitUntilSynced(stop)) return;
  caches_.LookPast(stop);
  sightings_ = {};
  const auto queue = std::make_shared<kube::WorkQueue>();
  metrics_.BeginQueue();
  SetQueue(queue);
  metrics_.SetLeader(true);
  const std::stop_callback on_stop(stop, [&] { queue->ShutDown(); });
  spdlog::info("leading");
  queue->Add(kPass);
  while (const auto key = queue->Get()) {
    gathering_ = false;
    const bool done = Pass(*queue, writer);
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

void Controller::UpdateQueueMetrics() const {
  if (const auto queue = Queue())
    metrics_.SetQueue(queue->Depth(), queue->Adds(), queue->Retries());
}

void Controller::UpdateMetrics() const {
  UpdateQueueMetrics();
  caches_.UpdateMetrics(metrics_);
}

std::shared_ptr<kube::WorkQueue> Controller::Queue() const {
  const std::lock_guard lock(queue_mutex_);
  return queue_;
}

void Controller::SetQueue(std::shared_ptr<kube::WorkQueue> queue) {
  const std::lock_guard lock(queue_mutex_);
  queue_ = std::move(queue);
  gathering_ = false;
}

// A pass soon; many calls, one pass.
void Controller::Gather() {
  const auto queue = Queue();
  if (queue && !gathering_.exchange(true)) queue->AddAfter(kPass, kGather);
}

// What a node's agent has reached, as an Event of the configuration.
void Controller::EmitArrival(const kube::NodeProxy& before, const kube::NodeProxy& after) {
  if (!Queue()) return;  // only the leader emits any
  const auto& status = after.status;
  const bool arrived = after.spec.revision > 0 && !after.spec.removed &&
                       status.observed_revision == after.spec.revision &&
                       (before.status.observed_revision != status.observed_revision ||
                        before.status.active_mode != status.active_mode);
  const auto configuration = caches_.Configuration(after.spec.configuration);
  if (!arrived || !configuration || status.active_mode.empty()) return;
  const auto asked = kube::ToString(after.spec.settings.mode);
  if (status.active_mode == asked) {
    recorder_.Emit(ReferenceTo(*configuration), kube::EventType::kNormal, "NodeUpdated",
                   fmt::format("node {} runs {} at revision {}", after.name, status.active_mode,
                               status.observed_revision));
    return;
  }
  const kube::Condition* preflight = FindCondition(status.conditions, "PreflightPassed");
  recorder_.Emit(ReferenceTo(*configuration), kube::EventType::kWarning, "NodeFallback",
                 fmt::format("node {} runs {} instead of {}: {}", after.name, status.active_mode,
                             asked, preflight != nullptr ? preflight->message : "no reason given"));
}

// Returns false when something failed and has to be tried again.
bool Controller::Pass(kube::WorkQueue& queue, PlanWriter& writer) {
  using Clock = std::chrono::steady_clock;
  if (!HasSynced()) return true;  // a complete list brings the next one
  const auto started = Clock::now();
  std::optional<PlanInput> input = caches_.Input();
  if (!input) {
    queue.AddAfter(kPass, kLookAgain);
    return true;
  }
  input->now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
  input->instant = std::chrono::floor<Instant>(Clock::now().time_since_epoch());
  const Plan plan = MakePlan(*input, sightings_);
  metrics_.Planned(Clock::now() - started);

  const PlanWriter::Result written = writer.Write(plan);
  metrics_.SetConfigurations(StatusesOf(plan));
  metrics_.SetBoundNodes(
      static_cast<size_t>(std::count_if(input->nodes.begin(), input->nodes.end(),
                                        [](const auto& node) { return !BoundTo(*node).empty(); })));
  metrics_.Reconciled(Clock::now() - started, written.failed);
  if (written.revision_created) Gather();
  if (written.more) queue.Add(kPass);
  if (written.status_due > Clock::duration::zero()) {
    queue.AddAfter(kPass, std::chrono::ceil<std::chrono::milliseconds>(written.status_due));
  }
  if (plan.wake_up) WakeUp(queue, *plan.wake_up, input->now);
  return !written.failed;
}

}  // namespace pointsman::op

#include "e2e/testbed/kubelet/node_worker.h"

#include <chrono>
#include <exception>
#include <utility>

#include <spdlog/spdlog.h>

namespace pointsman::e2e {
namespace {

// How late an ended process is noticed.
constexpr std::chrono::milliseconds kEndedProcessCheck{200};
constexpr std::chrono::seconds kPingTimeout{2};
constexpr std::chrono::seconds kRepeatedLog{5};

}  // namespace

using kube::Json;

NodeWorker::NodeWorker(Cluster& cluster, const Node& node, const NodeOptions& options,
                       kube::Client& client, bool ready_when_served, bool paused)
    : node_(node),
      registration_({cluster, node_, client}, options.zone, ready_when_served),
      pods_({cluster, node_, client}),
      paused_(paused),
      thread_([this](const std::stop_token& stop) { Run(stop); }) {}

void NodeWorker::Offer(const std::string& key, std::optional<Json> pod) {
  const std::lock_guard lock(mutex_);
  offered_[key] = std::move(pod);
  changed_.notify_one();
}

void NodeWorker::OfferAll(std::map<std::string, Json>&& pods) {
  const std::lock_guard lock(mutex_);
  for (const auto& key : known_) {
    if (!pods.contains(key)) offered_[key] = std::nullopt;
  }
  for (auto& [key, pod] : pods)
    offered_[key] = std::move(pod);
  changed_.notify_one();
}

void NodeWorker::Pause(bool paused) {
  const std::lock_guard lock(mutex_);
  paused_ = paused;
  changed_.notify_one();
}

void NodeWorker::Run(const std::stop_token& stop) {
  std::stop_callback wake(stop, [this] {
    const std::lock_guard lock(mutex_);
    changed_.notify_one();
  });
  while (!stop.stop_requested()) {
    std::map<std::string, std::optional<Json>> offered;
    {
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, kEndedProcessCheck,
                        [&] { return stop.stop_requested() || (!offered_.empty() && !paused_); });
      if (stop.stop_requested()) return;
      if (paused_) continue;
      offered.swap(offered_);
    }
    Step(std::move(offered));
  }
}

void NodeWorker::Step(std::map<std::string, std::optional<Json>>&& offered) {
  for (auto& [key, object] : offered) {
    if (object) {
      pods_.Set(key, std::move(*object));
    } else if (pods_.pods().contains(key)) {
      pods_.Forget(key);
    }
  }
  {
    const std::lock_guard lock(mutex_);
    known_.clear();
    for (const auto& [key, pod] : pods_.pods())
      known_.insert(key);
  }
  try {
    const std::string boot = node_.client().Ping(kPingTimeout);
    if (boot != boot_) {
      boot_ = boot;
      pods_.LoseAll();
    }
    registration_.Heartbeat(boot_);
  } catch (const std::exception& error) {
    // A node that is down or a control plane that is away are ordinary here: the next step tries
    // again.
    Log(error.what());
    if (!boot_.empty() && !Reachable()) ReportNodeDown();
    return;
  }
  node_down_reported_ = false;
  pods_.SyncAll(tokens_wanted_, [this](const std::string& message) { Log(message); });
  if (!last_log_.empty() && KubeletClock::now() - last_log_time_ > kRepeatedLog) last_log_.clear();
}

bool NodeWorker::Reachable() const {
  try {
    node_.client().Ping(kPingTimeout);
    return true;
  } catch (const std::exception& error) {
    spdlog::debug("kubelet of {}: {}", name(), error.what());
    return false;
  }
}

void NodeWorker::ReportNodeDown() {
  if (node_down_reported_) return;
  try {
    registration_.ReportDown();
    pods_.LoseAll();
    pods_.ReportAll();
    node_down_reported_ = true;
  } catch (const std::exception& error) {
    Log(std::string("cannot report that the node is down: ") + error.what());
  }
}

// The same complaint five times a second is noise.
void NodeWorker::Log(const std::string& message) {
  if (message == last_log_) return;
  last_log_ = message;
  last_log_time_ = KubeletClock::now();
  spdlog::warn("kubelet of {}: {}", name(), message);
}

}  // namespace pointsman::e2e

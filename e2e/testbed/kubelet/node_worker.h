#pragma once

#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <thread>

#include <nlohmann/json.hpp>

#include "e2e/testbed/kubelet/node_registration.h"
#include "e2e/testbed/kubelet/pod_lifecycle.h"

namespace pointsman::e2e {

// The kubelet of one node, with a thread of its own. Thread-safe.
class NodeWorker {
 public:
  NodeWorker(Cluster& cluster, const Node& node, const NodeOptions& options, kube::Client& client,
             bool ready_when_served, bool paused);

  const std::string& name() const { return node_.name(); }

  // From the watch: a Pod of this node as it is now, or nothing when it is gone.
  void Offer(const std::string& key, std::optional<nlohmann::json> pod);
  // All Pods of this node, after a list.
  void OfferAll(std::map<std::string, nlohmann::json>&& pods);
  void RenewTokens() { ++tokens_wanted_; }
  void Pause(bool paused);

 private:
  void Run(const std::stop_token& stop);
  void Step(std::map<std::string, std::optional<nlohmann::json>>&& offered);
  bool Reachable() const;
  void ReportNodeDown();
  void Log(const std::string& message);

  const Node node_;
  // The thread's.
  NodeRegistration registration_;
  PodLifecycle pods_;
  std::string boot_;
  bool node_down_reported_ = false;
  std::string last_log_;
  KubeletClock::time_point last_log_time_;

  std::mutex mutex_;
  std::condition_variable changed_;
  bool paused_ = false;
  std::map<std::string, std::optional<nlohmann::json>> offered_;
  std::set<std::string> known_;
  std::atomic<int> tokens_wanted_ = 0;
  std::jthread thread_;  // last: it uses all of the above
};

}  // namespace pointsman::e2e

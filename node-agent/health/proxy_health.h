// Is this node's proxy healthy? /healthz and /livez of port 10256 have kube-proxy's rules
// (pkg/proxy/healthcheck/proxy_health.go): healthy while it starts, and then while no change waits
// longer than the time-out to reach the kernel; cloud load balancers read /healthz. A node that is
// being deleted answers 503 there and stays healthy on /livez (KEP-3836).
//
// The kubelet asks something else on the agent's own port: would a restart help? Only when the sync
// thread hangs. An API server that does not answer and a kernel that refuses are no better after a
// restart, which would cost the node its watches and in userspace mode its connections.
#pragma once

#include <chrono>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

namespace pointsman::agent {

// Thread-safe.
class ProxyHealth {
 public:
  using Clock = std::chrono::steady_clock;
  // However short the time-out: a big cluster's first sync, or a handover, may take as long.
  static constexpr std::chrono::seconds kShortestHang{60};

  // `timeout`: kube-proxy's is twice the sync period.
  explicit ProxyHealth(std::chrono::nanoseconds timeout,
                       std::function<Clock::time_point()> now = Clock::now)
      : now_(std::move(now)), timeout_(timeout) {}

  void SetTimeout(std::chrono::nanoseconds timeout);
  // All that is asked of the kernel is known. Before, no change can be written and none is late;
  // the first sync is under way from now on.
  void CachesComplete();
  void ChangeQueued();
  // The sync thread takes what is queued until now. What is queued while it runs is not part of it.
  void SyncBegins();
  // That is in the kernel, or nothing is asked of this node.
  void Synced();
  // It is not, and is tried again.
  void SyncFailed();
  void SetNodeEligible(bool eligible);

  struct Answer {
    int status = 200;
    std::string body;  // JSON as kube-proxy's: lastUpdated, currentTime, nodeEligible
  };
  Answer Healthz() const;  // node eligibility counts
  Answer Livez() const;    // it does not
  Answer Alive() const;    // the sync thread does not hang

 private:
  bool Late() const;   // with mutex_ held
  bool Hangs() const;  // with mutex_ held
  Answer Build(bool healthy, bool with_node) const;

  const std::function<Clock::time_point()> now_;
  mutable std::mutex mutex_;
  std::chrono::nanoseconds timeout_;
  bool complete_ = false;
  std::optional<Clock::time_point> busy_since_;  // of the sync thread
  std::optional<Clock::time_point> oldest_queued_;
  std::optional<Clock::time_point> oldest_syncing_;      // of the syncs begun and not succeeded
  std::chrono::system_clock::time_point last_synced_{};  // to be told, not compared
  bool node_eligible_ = true;
};

}  // namespace pointsman::agent

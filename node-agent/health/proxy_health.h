// Is this node's proxy healthy? kube-proxy's rules (pkg/proxy/healthcheck/proxy_health.go): healthy
// while no change waits longer than the time-out to reach the kernel; cloud load balancers read it
// on port 10256. A node that is being deleted answers 503 on /healthz and stays healthy on /livez
// (KEP-3836).
#pragma once

#include <chrono>
#include <mutex>
#include <optional>
#include <string>

namespace pointsman::agent {

// Thread-safe.
class ProxyHealth {
 public:
  using Clock = std::chrono::steady_clock;

  // kube-proxy: twice the sync period.
  explicit ProxyHealth(std::chrono::nanoseconds timeout) : timeout_(timeout) {}

  void SetTimeout(std::chrono::nanoseconds timeout);
  void ChangeQueued(Clock::time_point when);  // keeps the oldest
  // A sync begins, of what is queued until now. What is queued while it runs is not part of it.
  void SyncBegins();
  void Synced();  // that sync is in the kernel
  void SetNodeEligible(bool eligible);

  struct Answer {
    int status = 200;
    std::string body;  // JSON as kube-proxy's: lastUpdated, currentTime, nodeEligible
  };
  Answer Healthz() const;  // node eligibility counts
  Answer Livez() const;    // it does not

 private:
  Answer Build(bool with_node) const;

  mutable std::mutex mutex_;
  std::chrono::nanoseconds timeout_;
  std::optional<Clock::time_point> oldest_queued_;
  std::optional<Clock::time_point> oldest_syncing_;      // of the syncs begun and not succeeded
  std::chrono::system_clock::time_point last_synced_{};  // to be told, not compared
  bool node_eligible_ = true;
};

}  // namespace pointsman::agent

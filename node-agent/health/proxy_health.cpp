#include "node-agent/health/proxy_health.h"

#include <nlohmann/json.hpp>

#include "kube/time/rfc3339.h"

namespace pointsman::agent {
void ProxyHealth::SetTimeout(std::chrono::nanoseconds timeout) {
  const std::lock_guard lock(mutex_);
  timeout_ = timeout;
}

void ProxyHealth::CachesComplete() {
  const std::lock_guard lock(mutex_);
  if (complete_) return;
  complete_ = true;
  oldest_syncing_ = now_();
}

void ProxyHealth::ChangeQueued() {
  const std::lock_guard lock(mutex_);
  if (complete_ && !oldest_queued_) oldest_queued_ = now_();
}

void ProxyHealth::SyncBegins() {
  const std::lock_guard lock(mutex_);
  busy_since_ = now_();
  if (!oldest_syncing_) oldest_syncing_ = oldest_queued_;
  oldest_queued_.reset();
}

void ProxyHealth::Synced() {
  const std::lock_guard lock(mutex_);
  busy_since_.reset();
  oldest_syncing_.reset();
  last_synced_ = std::chrono::system_clock::now();
}

void ProxyHealth::SyncFailed() {
  const std::lock_guard lock(mutex_);
  busy_since_.reset();
  if (!oldest_syncing_) oldest_syncing_ = now_();
}

void ProxyHealth::SetNodeEligible(bool eligible) {
  const std::lock_guard lock(mutex_);
  node_eligible_ = eligible;
}

ProxyHealth::Answer ProxyHealth::Healthz() const {
  const std::lock_guard lock(mutex_);
  return Build(!Late() && node_eligible_, /*with_node=*/true);
}

ProxyHealth::Answer ProxyHealth::Livez() const {
  const std::lock_guard lock(mutex_);
  return Build(!Late(), /*with_node=*/false);
}

ProxyHealth::Answer ProxyHealth::Alive() const {
  const std::lock_guard lock(mutex_);
  return Build(!Hangs(), /*with_node=*/false);
}

bool ProxyHealth::Late() const {
  const Clock::time_point bound = now_() - timeout_;
  return (oldest_queued_ && *oldest_queued_ < bound) ||
         (oldest_syncing_ && *oldest_syncing_ < bound);
}

bool ProxyHealth::Hangs() const {
  const Clock::time_point bound =
      now_() - std::max<std::chrono::nanoseconds>(timeout_, kShortestHang);
  return (oldest_queued_ && *oldest_queued_ < bound) || (busy_since_ && *busy_since_ < bound);
}

ProxyHealth::Answer ProxyHealth::Build(bool healthy, bool with_node) const {
  const auto now = std::chrono::system_clock::now();
  // kube-proxy's lastUpdated is the present while it is healthy: nothing newer waits.
  nlohmann::json body = {{"currentTime", kube::FormatTime(now)},
                         {"lastUpdated", kube::FormatTime(healthy ? now : last_synced_)}};
  if (with_node) body["nodeEligible"] = node_eligible_;
  return {healthy ? 200 : 503, body.dump()};
}

}  // namespace pointsman::agent

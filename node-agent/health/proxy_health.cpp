#include "node-agent/health/proxy_health.h"

#include <ctime>

namespace pointsman::agent {
namespace {

std::string Text(std::chrono::system_clock::time_point when) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(when);
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  char buffer[32];
  const size_t size = std::strftime(buffer, sizeof(buffer), "%Y-%m-%dT%H:%M:%SZ", &utc);
  return {buffer, size};
}

}  // namespace

void ProxyHealth::SetTimeout(std::chrono::nanoseconds timeout) {
  const std::lock_guard lock(mutex_);
  timeout_ = timeout;
}

void ProxyHealth::ChangeQueued(Clock::time_point when) {
  const std::lock_guard lock(mutex_);
  if (!oldest_queued_ || when < *oldest_queued_) oldest_queued_ = when;
}

void ProxyHealth::SyncBegins() {
  const std::lock_guard lock(mutex_);
  if (oldest_queued_ && (!oldest_syncing_ || *oldest_queued_ < *oldest_syncing_))
    oldest_syncing_ = oldest_queued_;
  oldest_queued_.reset();
}

void ProxyHealth::Synced() {
  const std::lock_guard lock(mutex_);
  oldest_syncing_.reset();
  last_synced_ = std::chrono::system_clock::now();
}

void ProxyHealth::SetNodeEligible(bool eligible) {
  const std::lock_guard lock(mutex_);
  node_eligible_ = eligible;
}

ProxyHealth::Answer ProxyHealth::Healthz() const {
  return Build(true);
}
ProxyHealth::Answer ProxyHealth::Livez() const {
  return Build(false);
}

ProxyHealth::Answer ProxyHealth::Build(bool with_node) const {
  const std::lock_guard lock(mutex_);
  const Clock::time_point bound = Clock::now() - timeout_;
  const bool late =
      (oldest_queued_ && *oldest_queued_ < bound) || (oldest_syncing_ && *oldest_syncing_ < bound);
  const auto now = std::chrono::system_clock::now();
  const bool healthy = !late && (!with_node || node_eligible_);
  // kube-proxy's lastUpdated is the present while it is healthy: nothing newer waits.
  nlohmann::json body = {{"currentTime", Text(now)},
                         {"lastUpdated", Text(healthy ? now : last_synced_)}};
  if (with_node) body["nodeEligible"] = node_eligible_;
  return {healthy ? 200 : 503, body.dump()};
}

}  // namespace pointsman::agent

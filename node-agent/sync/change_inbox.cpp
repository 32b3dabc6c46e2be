#include "node-agent/sync/change_inbox.h"

namespace pointsman::agent {

void ChangeInbox::Changed() {
  if (!batch_.oldest) batch_.oldest = Clock::now();
  changed_.notify_one();
}

void ChangeInbox::PutService(const std::string& key, std::shared_ptr<const kube::Service> service) {
  const std::lock_guard lock(mutex_);
  batch_.services[key] = std::move(service);
  Changed();
}

void ChangeInbox::PutEndpointSlice(const std::string& key,
                                   std::shared_ptr<const kube::EndpointSlice> slice) {
  const std::lock_guard lock(mutex_);
  batch_.endpoint_slices[key] = std::move(slice);
  Changed();
}

void ChangeInbox::PutNode(std::shared_ptr<const kube::Node> node) {
  const std::lock_guard lock(mutex_);
  batch_.node = std::move(node);
  Changed();
}

void ChangeInbox::PutNodeProxy(std::shared_ptr<const kube::NodeProxy> proxy) {
  const std::lock_guard lock(mutex_);
  batch_.node_proxy = std::move(proxy);
  Changed();
}

void ChangeInbox::PutAddressesChanged() {
  const std::lock_guard lock(mutex_);
  batch_.addresses_changed = true;
  Changed();
}

void ChangeInbox::PutCacheSynced(CacheId cache) {
  const std::lock_guard lock(mutex_);
  batch_.synced.set(static_cast<size_t>(cache));
  Changed();
}

ChangeInbox::Pending ChangeInbox::PendingChanges() {
  const std::lock_guard lock(mutex_);
  return {batch_.services.size(), batch_.endpoint_slices.size()};
}

void ChangeInbox::Stop() {
  const std::lock_guard lock(mutex_);
  stopped_ = true;
  changed_.notify_one();
}

std::optional<ChangeBatch> ChangeInbox::Take(Clock::time_point not_before,
                                             Clock::time_point deadline) {
  std::unique_lock lock(mutex_);
  while (!stopped_) {
    const Clock::time_point now = Clock::now();
    if (!batch_.empty() && now >= not_before) break;
    // What is held back stays so: a deadline is about something else.
    if (now >= deadline) return ChangeBatch{};
    const Clock::time_point until = batch_.empty() ? deadline : std::min(deadline, not_before);
    if (until == Clock::time_point::max()) {
      changed_.wait(lock);  // wait_until(max) overflows in libstdc++'s clock conversion
    } else {
      changed_.wait_until(lock, until);
    }
  }
  if (std::exchange(stopped_, false)) return std::nullopt;
  return std::exchange(batch_, ChangeBatch{});
}

}  // namespace pointsman::agent

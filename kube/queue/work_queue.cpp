#include "kube/queue/work_queue.h"

#include <algorithm>

namespace pointsman::kube {

void WorkQueue::Add(const std::string& key) {
  const std::lock_guard lock(mutex_);
  AddLocked(key);
}

void WorkQueue::AddLocked(const std::string& key) {
  if (shut_down_ || !dirty_.insert(key).second) return;
  ++adds_;
  if (processing_.contains(key)) return;  // Done queues it
  due_.push_back(key);
  changed_.notify_one();
}

void WorkQueue::AddAfter(const std::string& key, std::chrono::milliseconds delay) {
  const std::lock_guard lock(mutex_);
  if (shut_down_) return;
  if (delay.count() <= 0) {
    AddLocked(key);
    return;
  }
  // A delay of centuries would overflow the clock's nanoseconds, and be due at once.
  const TimeSource::time_point when =
      clock_.Now() + std::min<std::chrono::milliseconds>(delay, kMaxDelay);
  // A key waits once, for the earliest of its times.
  if (const auto waiting = waiting_.find(key); waiting != waiting_.end()) {
    if (waiting->second->first <= when) return;
    later_.erase(waiting->second);
  }
  const auto place = later_.emplace(when, key);
  waiting_[key] = place;
  // Who waits for a later time must now wait for this one.
  if (place == later_.begin()) changed_.notify_all();
}

void WorkQueue::AddRateLimited(const std::string& key) {
  std::chrono::milliseconds delay = options_.max_delay;
  {
    const std::lock_guard lock(mutex_);
    if (shut_down_) return;
    ++retries_;
    const int failures = failures_[key]++;
    constexpr int kMaxShift = 30;
    if (failures < kMaxShift) {
      delay = std::min(delay, options_.base_delay * (int64_t{1} << failures));
    }
  }
  AddAfter(key, delay);
}

void WorkQueue::Forget(const std::string& key) {
  const std::lock_guard lock(mutex_);
  failures_.erase(key);
}

std::optional<std::string> WorkQueue::Get() {
  std::unique_lock lock(mutex_);
  for (;;) {
    const TimeSource::time_point now = clock_.Now();
    while (!later_.empty() && later_.begin()->first <= now) {
      const std::string key = later_.begin()->second;
      waiting_.erase(key);
      later_.erase(later_.begin());
      AddLocked(key);
    }
    if (shut_down_) return std::nullopt;
    if (!due_.empty()) {
      std::string key = std::move(due_.front());
      due_.pop_front();
      processing_.insert(key);
      dirty_.erase(key);
      return key;
    }
    if (later_.empty()) {
      changed_.wait(lock);
    } else {
      changed_.wait_for(lock, later_.begin()->first - now);
    }
  }
}

void WorkQueue::Done(const std::string& key) {
  const std::lock_guard lock(mutex_);
  processing_.erase(key);
  if (!dirty_.contains(key) || shut_down_) return;
  due_.push_back(key);
  changed_.notify_one();
}

void WorkQueue::ShutDown() {
  const std::lock_guard lock(mutex_);
  shut_down_ = true;
  changed_.notify_all();
}

size_t WorkQueue::Depth() const {
  const std::lock_guard lock(mutex_);
  const auto due_later =
      std::count_if(later_.begin(), later_.upper_bound(clock_.Now()),
                    [&](const auto& entry) { return !dirty_.contains(entry.second); });
  return due_.size() + static_cast<size_t>(due_later);
}

uint64_t WorkQueue::Adds() const {
  const std::lock_guard lock(mutex_);
  return adds_;
}

uint64_t WorkQueue::Retries() const {
  const std::lock_guard lock(mutex_);
  return retries_;
}

}  // namespace pointsman::kube

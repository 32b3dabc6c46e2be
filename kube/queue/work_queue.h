// A queue of keys to reconcile, with the promises of client-go's workqueue: a key is in it at most
// once, a key being worked on is not given to a second worker but is queued again when it was added
// meanwhile, and a failed key comes back later and later.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "kube/time/time_source.h"

namespace pointsman::kube {

// Thread-safe.
class WorkQueue {
 public:
  struct Options {
    std::chrono::milliseconds base_delay{5};
    std::chrono::milliseconds max_delay{60'000};
  };
  static constexpr std::chrono::hours kMaxDelay{24};

  WorkQueue() = default;
  // `clock` outlives the queue. One that stands still wakes nothing that waits in Get.
  explicit WorkQueue(Options options, const TimeSource& clock = TimeSource::Real())
      : options_(options), clock_(clock) {}

  void Add(const std::string& key);
  // A key that waits already keeps the earlier of the two times. Not positive: now. More than
  // kMaxDelay: kMaxDelay, after which whoever works on it may find that it is not due yet.
  void AddAfter(const std::string& key, std::chrono::milliseconds delay);
  // After a failure: base_delay · 2^failures, at most max_delay.
  void AddRateLimited(const std::string& key);
  // After a success: the key's failures are forgotten.
  void Forget(const std::string& key);

  // Blocks until a key is due or the queue is shut down (nullopt). The key must be given to Done.
  // Once shut down nothing is given out or taken in: the next start finds it all again by listing.
  std::optional<std::string> Get();
  void Done(const std::string& key);
  void ShutDown();

  size_t Depth() const;  // keys due now
  uint64_t Adds() const;
  uint64_t Retries() const;

 private:
  void AddLocked(const std::string& key);

  const Options options_{};
  const TimeSource& clock_ = TimeSource::Real();
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::string> due_;
  std::unordered_set<std::string> dirty_;       // queued, or added while worked on
  std::unordered_set<std::string> processing_;  // given out, not yet Done
  std::multimap<TimeSource::time_point, std::string> later_;
  std::unordered_map<std::string, decltype(later_)::iterator> waiting_;  // the keys in later_
  std::unordered_map<std::string, int> failures_;
  uint64_t adds_ = 0;
  uint64_t retries_ = 0;
  bool shut_down_ = false;
};

}  // namespace pointsman::kube

// What this process wrote, until its caches have seen it. A cache is behind the API server by some
// milliseconds; planning from it alone could ask one node too many to change.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace pointsman::op {

// Whether `a` is an older resourceVersion than `b`: integers by etcd's and every other server's
// practice, and by rule since KEP-5504. What is no integer is older than nothing.
bool IsOlderVersion(const std::string& a, const std::string& b);

// T has name, uid and resource_version. Not thread-safe: belongs to the worker.
template <typename T>
class NewerObjects {
 public:
  using Ptr = std::shared_ptr<const T>;
  using Clock = std::chrono::steady_clock;
  // A cache that has not caught up by then is broken in another way.
  static constexpr std::chrono::seconds kPatience{30};

  void Wrote(T object) {
    std::string name = object.name;
    entries_[std::move(name)] = {std::make_shared<const T>(std::move(object)), false, Clock::now()};
  }
  void Deleted(const T& object) {
    entries_[object.name] = {std::make_shared<const T>(object), true, Clock::now()};
  }
  void Clear() { entries_.clear(); }

  // The cache's objects, with those of ours that are newer in their place.
  std::vector<Ptr> Merge(std::vector<Ptr> cached) {
    if (entries_.empty()) return cached;
    std::vector<Ptr> merged;
    merged.reserve(cached.size());
    std::unordered_map<std::string, Entry> left = entries_;
    for (Ptr& object : cached) {
      const auto found = left.find(object->name);
      if (found == left.end()) {
        merged.push_back(std::move(object));
        continue;
      }
      const Entry& entry = found->second;
      const bool same = entry.object->uid == object->uid;
      if (entry.deleted && same) {
        // Hidden until the cache knows.
      } else if (!entry.deleted &&
                 IsOlderVersion(object->resource_version, entry.object->resource_version)) {
        merged.push_back(entry.object);
      } else {
        entries_.erase(object->name);
        merged.push_back(std::move(object));
      }
      left.erase(found);
    }
    for (const auto& [name, entry] : left) {
      if (entry.deleted || Clock::now() - entry.since > kPatience) {
        entries_.erase(name);
      } else {
        merged.push_back(entry.object);
      }
    }
    return merged;
  }

  // Somebody else deleted it.
  void Forget(const std::string& name) { entries_.erase(name); }

 private:
  struct Entry {
    Ptr object;
    bool deleted = false;
    Clock::time_point since;
  };
  std::unordered_map<std::string, Entry> entries_;
};

}  // namespace pointsman::op

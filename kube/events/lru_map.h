// A map of bounded size that forgets what was used longest ago.
#pragma once

#include <cstddef>
#include <list>
#include <map>
#include <utility>

namespace pointsman::kube {

template <typename Key, typename Value>
class LruMap {
 public:
  explicit LruMap(size_t capacity) : capacity_(capacity) {}

  // The value, made if it is not there. Valid until the next call.
  Value& operator[](const Key& key) {
    if (const auto found = index_.find(key); found != index_.end()) {
      order_.splice(order_.begin(), order_, found->second);
      return order_.front().second;
    }
    if (order_.size() >= capacity_) {
      index_.erase(order_.back().first);
      order_.pop_back();
    }
    order_.emplace_front(key, Value());
    index_[key] = order_.begin();
    return order_.front().second;
  }
  size_t size() const { return order_.size(); }

 private:
  const size_t capacity_;
  std::list<std::pair<Key, Value>> order_;  // the last used first
  std::map<Key, typename std::list<std::pair<Key, Value>>::iterator> index_;
};

}  // namespace pointsman::kube

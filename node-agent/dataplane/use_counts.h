// Who uses what several share, such as an element of a set that many Services need: it is there as
// long as one of them does.
//
//   UseCounts<std::map<Key, int64_t>> delta;   // the users that come, and those that go (negative)
//   …
//   const auto [came, went] = counts.Apply(delta);   // what is to be written, and to be deleted
//
// Since a delta sums up before it is applied, what one user gives up and another takes over is no
// change, in whatever order they are counted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace pointsman::agent {

// `Map`: from what is shared to int64_t; a std::map where its order matters. Not thread-safe.
template <typename Map>
class UseCounts {
 public:
  using Key = typename Map::key_type;
  struct Changes {
    std::vector<Key> came;  // into use
    std::vector<Key> went;  // out of it
    bool empty() const { return came.empty() && went.empty(); }
  };

  void Add(const Key& key, int64_t by) {
    const auto [place, fresh] = uses_.try_emplace(key, 0);
    place->second += by;
    if (place->second == 0) uses_.erase(place);
  }

  // Adds all of `delta`.
  Changes Apply(const UseCounts& delta) {
    Changes changes;
    for (const auto& [key, by] : delta.uses_) {
      const auto [place, fresh] = uses_.try_emplace(key, 0);
      place->second += by;
      if (fresh) {
        changes.came.push_back(key);
      } else if (place->second == 0) {
        changes.went.push_back(key);
        uses_.erase(place);
      }
    }
    return changes;
  }

  bool Contains(const Key& key) const { return uses_.contains(key); }
  size_t size() const { return uses_.size(); }
  void clear() { uses_.clear(); }
  // Pairs of what is shared and how many uses it has, never 0.
  auto begin() const { return uses_.begin(); }
  auto end() const { return uses_.end(); }

 private:
  Map uses_;
};

}  // namespace pointsman::agent

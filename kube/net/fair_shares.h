// Places that strangers share, such as those for connections: who has how many of them, and whose
// is to be given up when there is none left. A user is known by a path, from the outside in: the
// port it came to and its address, or a namespace, a Service port and the client's address. The one
// to lose is at each step the heaviest user, and of its places that which was used longest ago. So
// nobody loses a place to somebody who has as many, and who takes all that there is takes it from
// itself. The idea is Linux's fq_codel's, which drops from the fattest flow
// (net/sched/sch_fq_codel.c).
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <iterator>
#include <list>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "kube/net/ip_address.h"

namespace pointsman::net {

// One step of a user's path.
struct ShareKey {
  uint64_t high = 0;
  uint64_t low = 0;
  bool operator==(const ShareKey&) const = default;

  // Those whose hashes are the same share what one of them would have: harmless, and rare.
  static ShareKey Of(std::string_view name) { return {1, std::hash<std::string_view>()(name)}; }
  static ShareKey Of(uint64_t number) { return {2, number}; }
  // Of IPv6 the /64: a host has all of its addresses.
  static ShareKey Of(const IpAddress& client) {
    ShareKey key{client.is_v4() ? uint64_t{4} : uint64_t{6}, 0};
    std::memcpy(&key.low, client.data(), client.is_v4() ? 4 : 8);
    return key;
  }
};

// `Item`: what holds a place; outlives its place here. All paths have the same length, of 1 to 4.
// Not thread-safe. Add and Remove cost some hash and tree look-ups, Heaviest at most kLooks times
// two looks at items.
template <typename Item>
class FairShares {
  struct User;

 public:
  // Of a user's items, and of users that have the same: more are not compared to find the one that
  // was used longest ago.
  static constexpr size_t kLooks = 64;
  static constexpr size_t kMaxDepth = 4;

  // Where an item stands.
  class Place {
    friend class FairShares;
    User* user_ = nullptr;
    typename std::list<Item*>::iterator at_;
  };

  FairShares() = default;
  FairShares(const FairShares&) = delete;
  FairShares& operator=(const FairShares&) = delete;

  size_t size() const { return root_.count; }

  Place Add(std::span<const ShareKey> path, Item* item) {
    User* user = &root_;
    for (const ShareKey& key : path)
      user = &Below(*user, key);
    Place place;
    place.user_ = user;
    place.at_ = user->items.insert(user->items.end(), item);
    for (; user != nullptr; user = user->parent)
      Count(*user, user->count + 1);
    return place;
  }

  void Remove(const Place& place) {
    place.user_->items.erase(place.at_);
    for (User* user = place.user_; user != nullptr;) {
      User* const parent = user->parent;
      Count(*user, user->count - 1);
      if (user->count == 0 && parent != nullptr) {
        const ShareKey key = user->key;
        parent->below->users.erase(key);
      }
      user = parent;
    }
  }

  struct Choice {
    Item* item = nullptr;
    // It is of the user for whom the place is wanted, who has as many as anybody else.
    bool own = false;
  };
  // The item that makes room for one of `newcomer` (empty: nobody's). `last_used` of an item: a
  // value that is smaller for what was used longer ago. nullopt: there is none.
  template <typename LastUsed>
  std::optional<Choice> Heaviest(std::span<const ShareKey> newcomer, const LastUsed& last_used) {
    if (root_.count == 0) return std::nullopt;
    User* user = &root_;
    bool own = !newcomer.empty();
    for (size_t depth = 0; user->below != nullptr; ++depth) {
      const std::set<User*, Heavier>& order = user->below->order;
      User* const heaviest = *order.begin();
      if (own) {
        const auto found = user->below->users.find(newcomer[depth]);
        if (found != user->below->users.end() && found->second->count >= heaviest->count) {
          user = found->second.get();
          continue;
        }
        own = false;
      }
      user = heaviest->below != nullptr ? heaviest : LongestUnusedOf(order, last_used);
    }
    return Choice{LongestUnused(*user, last_used), own};
  }

  // How many its user has, and those that this one is part of; from the outside in. Who has the
  // greater one is the heavier user.
  using Weight = std::array<size_t, kMaxDepth>;
  Weight WeightOf(const Place& place) const {
    Weight inside_out{};
    size_t depth = 0;
    for (const User* user = place.user_; user->parent != nullptr; user = user->parent)
      inside_out[depth++] = user->count;
    Weight weight{};
    for (size_t i = 0; i < depth; ++i)
      weight[i] = inside_out[depth - 1 - i];
    return weight;
  }

 private:
  struct KeyHash {
    size_t operator()(const ShareKey& key) const noexcept {
      return (key.high ^ key.low) * 0x9e3779b97f4a7c15ULL;
    }
  };
  // Of those that have the same, who has had it longest.
  struct Heavier {
    bool operator()(const User* a, const User* b) const {
      return a->count != b->count ? a->count > b->count : a->changed < b->changed;
    }
  };
  struct Users {
    std::unordered_map<ShareKey, std::unique_ptr<User>, KeyHash> users;
    std::set<User*, Heavier> order;
  };
  struct User {
    User* parent = nullptr;
    ShareKey key;
    size_t count = 0;
    uint64_t changed = 0;          // number of the change that `count` had last
    std::unique_ptr<Users> below;  // or
    std::list<Item*> items;        // roughly the longest unused first
  };

  static User& Below(User& user, const ShareKey& key) {
    if (user.below == nullptr) user.below = std::make_unique<Users>();
    std::unique_ptr<User>& below = user.below->users[key];
    if (below == nullptr) {
      below = std::make_unique<User>();
      below->parent = &user;
      below->key = key;
    }
    return *below;
  }

  void Count(User& user, size_t count) {
    const uint64_t change = ++changes_;
    if (user.parent == nullptr) {
      user.count = count;
      return;
    }
    std::set<User*, Heavier>& order = user.parent->below->order;
    // The node is used again: most changes allocate nothing.
    typename std::set<User*, Heavier>::node_type node;
    if (user.count > 0) node = order.extract(&user);
    user.count = count;
    user.changed = change;
    if (count == 0) return;
    if (node.empty()) {
      order.insert(&user);
    } else {
      order.insert(std::move(node));
    }
  }

  // Those looked at and not chosen go behind the others: the next look is at others.
  template <typename LastUsed>
  static Item* LongestUnused(User& user, const LastUsed& last_used) {
    std::list<Item*>& items = user.items;
    auto longest = items.begin();
    auto at = std::next(longest);
    for (size_t left = std::min(kLooks, items.size()) - 1; left > 0; --left) {
      const auto newer = last_used(**at) < last_used(**longest) ? std::exchange(longest, at) : at;
      ++at;
      items.splice(items.end(), items, newer);
    }
    return *longest;
  }

  template <typename LastUsed>
  static User* LongestUnusedOf(const std::set<User*, Heavier>& order, const LastUsed& last_used) {
    User* longest = *order.begin();
    size_t looked_at = 0;
    for (User* const user : order) {
      if (user->count < longest->count || looked_at++ == kLooks) break;
      if (last_used(*user->items.front()) < last_used(*longest->items.front())) longest = user;
    }
    return longest;
  }

  User root_;
  uint64_t changes_ = 0;
};

}  // namespace pointsman::net

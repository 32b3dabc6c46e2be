// What ModelBuilder keeps of each Service between two changes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "kube/objects/endpoint_slice.h"
#include "kube/objects/service.h"
#include "kube/time/rfc3339.h"
#include "node-agent/model/endpoint_choice.h"
#include "node-agent/model/service_model.h"

namespace pointsman::agent {

using ServicePtr = std::shared_ptr<const kube::Service>;

// A Service, or just slices that name one.
class ServiceState {
 public:
  explicit ServiceState(std::string key) : key_(std::move(key)) {}
  const std::string& key() const { return key_; }
  kube::TimePoint created() const { return service ? service->created : kube::TimePoint::max(); }

  ServicePtr service;
  std::vector<SlicePtr> slices;   // in no order
  std::vector<EntryPtr> entries;  // what the model has of it, sorted by id
  bool dirty = false;

 private:
  const std::string key_;
};

// Slices in a set that is looked up by "ns/name" without a copy of the name.
struct SliceHash {
  using is_transparent = void;
  size_t operator()(std::string_view key) const {
    const size_t slash = key.find('/');
    return Of(key.substr(0, slash), key.substr(std::min(slash + 1, key.size())));
  }
  size_t operator()(const SlicePtr& slice) const { return Of(slice->ns, slice->name); }

 private:
  static size_t Of(std::string_view ns, std::string_view name) {
    const std::hash<std::string_view> hash;
    return hash(name) * 31 + hash(ns);
  }
};

inline bool HasKey(const SlicePtr& slice, std::string_view key) {
  const std::string& ns = slice->ns;
  return key.size() == ns.size() + 1 + slice->name.size() && key.starts_with(ns) &&
         key[ns.size()] == '/' && key.ends_with(slice->name);
}

struct SliceEqual {
  using is_transparent = void;
  bool operator()(const SlicePtr& a, const SlicePtr& b) const {
    return a->ns == b->ns && a->name == b->name;
  }
  bool operator()(std::string_view key, const SlicePtr& slice) const { return HasKey(slice, key); }
  bool operator()(const SlicePtr& slice, std::string_view key) const { return HasKey(slice, key); }
};
using SliceSet = std::unordered_set<SlicePtr, SliceHash, SliceEqual>;

}  // namespace pointsman::agent

// Where the watches leave what changed and the sync thread picks it up: at most one change an
// object, the newest, so that a burst costs memory for its objects only and is applied in one go.
#pragma once

#include <bitset>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "kube/objects/endpoint_slice.h"
#include "kube/objects/node.h"
#include "kube/objects/service.h"
#include "kube/pointsman/node_proxy.h"

namespace pointsman::agent {

// The caches that must be complete before anything is written.
enum class CacheId : uint8_t { kServices, kEndpointSlices, kNode };
using CacheSet = std::bitset<3>;

struct ChangeBatch {
  // Null values: deleted.
  std::unordered_map<std::string, std::shared_ptr<const kube::Service>> services;
  std::unordered_map<std::string, std::shared_ptr<const kube::EndpointSlice>> endpoint_slices;
  std::optional<std::shared_ptr<const kube::Node>> node;
  std::optional<std::shared_ptr<const kube::NodeProxy>> node_proxy;
  bool addresses_changed = false;  // of this node's interfaces
  // Caches of which a complete list is in this batch and the ones before it.
  CacheSet synced;
  // When the oldest change in here was put.
  std::optional<std::chrono::steady_clock::time_point> oldest;

  bool empty() const {
    return services.empty() && endpoint_slices.empty() && !node && !node_proxy &&
           !addresses_changed && synced.none();
  }
};

// Thread-safe; one taker.
class ChangeInbox {
 public:
  using Clock = std::chrono::steady_clock;

  void PutService(const std::string& key, std::shared_ptr<const kube::Service> service);
  void PutEndpointSlice(const std::string& key, std::shared_ptr<const kube::EndpointSlice> slice);
  void PutNode(std::shared_ptr<const kube::Node> node);
  void PutNodeProxy(std::shared_ptr<const kube::NodeProxy> proxy);
  void PutAddressesChanged();
  // After the last object of its list: what is asked of the cache itself could run ahead of what
  // the taker has been given, and a partial picture would be written.
  void PutCacheSynced(CacheId cache);
  // What waits to be taken.
  struct Pending {
    size_t services = 0;
    size_t endpoint_slices = 0;
  };
  Pending PendingChanges();
  // Ends the Take that waits now, or else the next one: once.
  void Stop();

  // Waits until something is there and `not_before` has come, and returns all there is; or until
  // `deadline`, and returns nothing then. nullopt: Stop was called.
  std::optional<ChangeBatch> Take(Clock::time_point not_before, Clock::time_point deadline);

 private:
  void Changed();  // with mutex_ held

  std::mutex mutex_;
  std::condition_variable changed_;
  ChangeBatch batch_;
  bool stopped_ = false;
};

}  // namespace pointsman::agent

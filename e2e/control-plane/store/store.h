#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "e2e/control-plane/base/status_error.h"

namespace pointsman::e2e {

// One version of one object. Immutable; shared by the store, its history and whoever reads it.
// The object itself is kept as text, because 10,000 EndpointSlices as DOMs are gigabytes.
struct StoredObject {
  std::string ns;  // empty for a cluster-scoped object
  std::string name;
  std::string uid;
  std::uint64_t resource_version = 0;
  std::vector<std::pair<std::string, std::string>> labels;
  // What a field selector may ask for beside metadata.*: ("spec.nodeName", "n1").
  std::vector<std::pair<std::string, std::string>> fields;
  std::string json;  // complete, with metadata.resourceVersion; keys sorted, no white space

  Json Parse() const { return Json::parse(json); }
};
using ObjectPtr = std::shared_ptr<const StoredObject>;

// A resource in the store: "services", "discovery.k8s.io/endpointslices" (plural, no version).
using ResourceName = std::string;

enum class EventType { kAdded, kModified, kDeleted };

struct StoreEvent {
  EventType type = EventType::kAdded;
  std::uint64_t resource_version = 0;
  // For kDeleted: the last state, with metadata.resourceVersion set to that of the deletion.
  ObjectPtr object;
  // The state before; null for kAdded.
  ObjectPtr previous;
};

// The receiving end of a watch. Events come in order of resourceVersion, none is lost; a
// subscriber that lets more than `limit` events pile up is ended with Overflowed().
// Thread-safe. Destroying it ends the watch.
class Subscription {
 public:
  virtual ~Subscription() = default;
  // Waits until there is an event, the timeout passes (nullopt) or Stop() was called (nullopt).
  virtual std::optional<StoreEvent> Next(std::chrono::milliseconds timeout) = 0;
  // Does not wait.
  virtual std::optional<StoreEvent> TryNext() = 0;
  // Readable (poll) while there is something to take; owned by the subscription.
  virtual int fd() const = 0;
  // Ends the watch; Next() returns at once from then on. Callable from any thread.
  virtual void Stop() = 0;
  virtual bool Stopped() const = 0;
  virtual bool Overflowed() const = 0;
  // The store has published everything up to this version to this subscription.
  virtual std::uint64_t Progress() const = 0;
};

struct Snapshot {
  std::vector<ObjectPtr> objects;      // sorted by (namespace, name)
  std::uint64_t resource_version = 0;  // what a watch continues from
};

// The object store: every resource's objects, one counter of versions for all of them, and a
// bounded history to watch from. All functions are thread-safe. Writes return when they are
// durable (the log is on disk; many writers share one fsync), and only then readers and watchers
// see them, so that nothing anybody has seen is lost by kill -9.
//
// The store knows nothing of types: validation, defaulting and the like happen before it. It sets
// metadata.resourceVersion, and metadata.uid and metadata.creationTimestamp where they are absent.
class Store {
 public:
  struct Options {
    std::filesystem::path data_dir;                  // empty: memory only
    std::size_t history_per_resource = 16384;        // events kept to watch from
    std::uint64_t compact_after_bytes = 256u << 20;  // the log's size that makes it be rewritten
  };

  // Throws std::system_error when data_dir cannot be used, std::runtime_error when its log is
  // damaged anywhere but at its torn end.
  explicit Store(Options options);
  ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  // Null when there is none. ns is empty for cluster-scoped resources.
  ObjectPtr Get(const ResourceName& resource, std::string_view ns, std::string_view name) const;

  // All objects, of one namespace when ns is not empty.
  Snapshot List(const ResourceName& resource, std::string_view ns = {}) const;

  // At most `limit` objects (0: all) of state `at` (0: the newest) after the key `after`
  // ("namespace/name", or the name); `remaining` is set to the number of objects after them.
  // Throws StatusError 410 when `at` is older than the history.
  Snapshot ListPage(const ResourceName& resource, std::string_view ns, std::string_view after,
                    std::size_t limit, std::uint64_t at, std::size_t& remaining) const;

  // object must carry metadata.name (and metadata.namespace for a namespaced one). Throws
  // StatusError 409 AlreadyExists.
  ObjectPtr Create(const ResourceName& resource, Json object);

  // Replaces. expected_version: 0 means whatever is there. Throws StatusError 404, 409 Conflict.
  // An update that changes nothing is not written: the present version is returned.
  ObjectPtr Update(const ResourceName& resource, Json object, std::uint64_t expected_version);

  // Reads, calls change on a copy, writes, and does so again when another writer was faster.
  // change returns false to leave it as it is. Null when the object is not there (any more).
  ObjectPtr Modify(const ResourceName& resource, std::string_view ns, std::string_view name,
                   const std::function<bool(Json& object)>& change);

  // Removes from the store at once: finalizers are the caller's business (see
  // registry/deletion.h). Returns the last state. Throws StatusError 404, 409.
  ObjectPtr Remove(const ResourceName& resource, std::string_view ns, std::string_view name,
                   std::uint64_t expected_version = 0);

  // Events after version `from`. Throws StatusError 410 when they are not all in the history or
  // `from` is from before this store was opened, as a real server's watch cache forgets it all
  // with a restart (old pages can still be read, as from etcd); 504 when `from` is ahead of the
  // newest version.
  std::unique_ptr<Subscription> Watch(const ResourceName& resource, std::uint64_t from,
                                      std::size_t limit = 65536);

  // The list and the watch that continues it, as one step: for controllers.
  std::unique_ptr<Subscription> ListAndWatch(const ResourceName& resource, Snapshot& snapshot,
                                             std::size_t limit = 1u << 20);

  // The newest version that is durable.
  std::uint64_t ResourceVersion() const;

  // Resources that have (had) objects.
  std::vector<ResourceName> Resources() const;

  // Forgets the history: every watch from an older version gets 410. (A fault for tests.)
  void ExpireHistory();
  // Ends every subscription. (A fault for tests.)
  void StopSubscriptions();

  // Computes StoredObject::fields of a resource; set once, before objects of it are written or
  // read. Objects loaded from disk earlier are indexed again.
  using FieldIndexer =
      std::function<std::vector<std::pair<std::string, std::string>>(const Json& object)>;
  void SetFieldIndexer(const ResourceName& resource, FieldIndexer indexer);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pointsman::e2e

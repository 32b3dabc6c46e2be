// A list+watch cache of one resource type, as client-go's informers: it lists, then watches, lists
// again when the server says the version is gone, and tells handlers what changed.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "kube/client/client.h"
#include "kube/time/time_source.h"

namespace pointsman::kube {

// What a reflector reports. Called on the reflector's thread, in order. An object is valid until
// the call returns, and kJsonPadding bytes can be read behind it (simdjson needs no copy). An
// exception makes the reflector list again.
class ObjectSink {
 public:
  virtual ~ObjectSink() = default;
  // A new list begins: everything said before is void, though readers may go on with the old state
  // until OnListEnd. Called again if a list has to start over.
  virtual void OnListBegin() = 0;
  // One object of the list, raw JSON (kind and apiVersion may be missing, as in real lists).
  virtual void OnListItem(std::string_view object) = 0;
  virtual void OnListEnd(const std::string& resource_version) = 0;
  // kAdded, kModified or kDeleted.
  virtual void OnEvent(WatchEventType type, std::string_view object) = 0;
};

struct ReflectorOptions {
  std::string ns;
  std::string label_selector;
  std::string field_selector;
  std::chrono::milliseconds min_backoff{200};
  std::chrono::milliseconds max_backoff{30'000};
  TimeSource* clock = &TimeSource::Real();  // outlives the reflector
};

struct ReflectorStats {
  uint64_t lists = 0;                                    // lists begun
  uint64_t watches = 0;                                  // watches begun
  uint64_t errors = 0;                                   // lists or watches that failed
  uint64_t events = 0;                                   // watch events delivered
  std::string last_error;                                // "" after a success
  std::chrono::steady_clock::time_point last_contact{};  // last byte from the server
};

// Lists and watches until stopped, on a thread of its own. Never a hot loop: after an error it
// waits with jittered exponential backoff, and a watch that ends at once counts as an error.
class Reflector {
 public:
  // `client` and `sink` outlive the reflector.
  Reflector(Client& client, Resource resource, ReflectorOptions options, ObjectSink& sink);
  ~Reflector();  // stops and joins

  void Start();
  ReflectorStats Stats() const;  // thread-safe

 private:
  void Run(std::stop_token stop);
  std::string List(const std::string& resource_version, const std::stop_token& stop);
  // `version`: where to begin, and how far it came.
  void Watch(std::string& version, std::minstd_rand& random, const std::stop_token& stop);
  void Contact();

  Client& client_;
  const Resource resource_;
  const ReflectorOptions options_;
  ObjectSink& sink_;
  mutable std::mutex mutex_;
  ReflectorStats stats_;
  std::jthread thread_;
};

// The typed cache. T is built from raw JSON by `decode` (throws on bad input). An object that
// cannot be decoded stays in the cache as it last was, in a list as in an event, until it is
// deleted: what is served goes on. One that was never decoded is left out. Both are logged once for
// each cause, counted and named by Undecodable; the rest goes on. Objects are immutable and shared:
// a reader keeps what it has read. Handlers run on the reflector's thread, one at a time, after the
// store has changed; a list's deletions are reported before its additions, so that an address that
// went from one Service to another is free when it is taken. What a handler throws is logged, and
// the next one runs.
template <typename T>
class Informer final : private ObjectSink {
 public:
  using Ptr = std::shared_ptr<const T>;
  using Decode = std::function<T(std::string_view json)>;
  using Key = std::function<std::string(const T&)>;  // "ns/name" or "name"
  // before null: added; after null: deleted; both: updated. Objects that `same` (may be
  // empty) says are as before are not reported.
  using Handler = std::function<void(const Ptr& before, const Ptr& after)>;
  using Same = std::function<bool(const T&, const T&)>;

  Informer(Client& client, Resource resource, ReflectorOptions options, Decode decode, Key key,
           Same same);

  // Before Start only.
  void AddHandler(Handler handler) { handlers_.push_back(std::move(handler)); }
  // Called once each list is complete and its differences were reported.
  void OnSynced(std::function<void()> callback) { on_synced_ = std::move(callback); }
  void Start() { reflector_.Start(); }

  // The first list is complete and every handler has been told of all of its objects.
  bool HasSynced() const;
  Ptr Get(const std::string& key) const;
  std::vector<Ptr> All() const;
  size_t Size() const;
  // How often an object could not be decoded, in all.
  uint64_t DecodeErrors() const;
  // Those of which that holds now, with the cause: by key, or "namespace/name" of what was never
  // decoded. No more than kMostUndecodable of them.
  std::map<std::string, std::string> Undecodable() const;
  static constexpr size_t kMostUndecodable = 100;
  ReflectorStats Stats() const { return reflector_.Stats(); }

 private:
  void OnListBegin() override;
  void OnListItem(std::string_view object) override;
  void OnListEnd(const std::string& resource_version) override;
  void OnEvent(WatchEventType type, std::string_view object) override;
  // Key and object; nullopt when `decode` refused it. `why` has the reason then.
  std::optional<std::pair<std::string, Ptr>> TryDecode(std::string_view json, std::string& why);
  // The key of an object that cannot be decoded, as far as its name can be read: that of the object
  // which the cache has of it, if it has one.
  std::string KeyOfUndecodable(std::string_view json) const;
  void CountUndecodable(const std::string& key, std::string_view json, const std::string& why);
  void Delete(const std::string& key);
  void Report(const Ptr& before, const Ptr& after);

  const Resource resource_;
  const Decode decode_;
  const Key key_;
  const Same same_;
  std::vector<Handler> handlers_;
  std::function<void()> on_synced_;
  mutable std::mutex mutex_;
  std::unordered_map<std::string, Ptr> store_;
  std::unordered_map<std::string, Ptr> listing_;  // the list under way
  bool synced_ = false;
  uint64_t decode_errors_ = 0;
  std::map<std::string, std::string> undecodable_;
  Reflector reflector_;  // last: its thread uses all of the above
};

// The informer for plain JSON objects (keyed by namespace/name, compared by resourceVersion).
using JsonInformer = Informer<Json>;
std::unique_ptr<JsonInformer> MakeJsonInformer(Client& client, Resource resource,
                                               ReflectorOptions options = {});

}  // namespace pointsman::kube

#include "kube/cache/informer_inl.h"

// The verbs of the Kubernetes API on one object or list.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "kube/client/api_error.h"
#include "kube/client/rate_limiter.h"
#include "kube/client/resource.h"
#include "kube/http/transport.h"

namespace pointsman::kube {

using Json = nlohmann::json;

struct ListOptions {
  std::string label_selector;
  std::string field_selector;
  // "": the most recent; "0": any the server's cache has (what informers ask first).
  std::string resource_version;
  int limit = 500;  // objects a page; 0: all in one
};

struct WatchOptions {
  std::string label_selector;
  std::string field_selector;
  std::string resource_version;
  // The server ends the watch after this long; the caller starts anew. A dead connection is noticed
  // after this time plus some seconds at the latest.
  std::chrono::seconds timeout{300};
};

enum class WatchEventType { kAdded, kModified, kDeleted, kBookmark };

enum class PatchType { kJson, kMerge, kStrategicMerge, kApply };

// What becomes of the objects that a deleted one owns: what is usual for its kind, or they stay.
enum class Dependents { kUsual, kOrphan };

// What a JSON slice given to a callback has behind it, see simdjson's SIMDJSON_PADDING.
inline constexpr size_t kJsonPadding = 64;
// etcd takes objects of 1.5 MiB by default; managed fields and escapes do not make ten of one.
inline constexpr size_t kMaxEventBytes = 16UL * 1024 * 1024;

// Every call throws ApiError when the server says no and TransportError when it cannot be asked.
// 429 and 5xx with Retry-After are retried inside (at most 4 times, for GET also plain 5xx), but
// for a list at a version that the server does not have yet (504). Thread-safe.
class Client {
 public:
  explicit Client(std::shared_ptr<Transport> transport) : transport_(std::move(transport)) {}

  // The same client with another limit for the time without a byte from the server (30 s), for all
  // but Watch.
  Client WithTimeout(std::chrono::seconds timeout) const;
  // The same client whose calls end with a TransportError within a second of a requested `stop`;
  // after it nothing is sent any more.
  // Watch and ListItems have a `stop` of their own.
  Client WithStop(std::stop_token stop) const;
  // The same client that takes a token of `limiter` for each request before it sends it; all
  // clients made from it share them. A retry counts as a request; so does a watch (which client-go
  // does not limit), once; a list counts once however many pages it has, since each page waits for
  // the one before. null: no limit, as at first.
  Client WithLimit(std::shared_ptr<RateLimiter> limiter) const;
  // The same client that asks `may_send` on the calling thread right before each request, a retry
  // too, and throws a TransportError in its place when that says no: for who may act only as long
  // as something holds. Empty: always, as at first.
  Client WithGuard(std::function<bool()> may_send) const;

  Json Get(const Resource& resource, std::string_view ns, std::string_view name);

  // Calls `on_item` with the raw JSON of each item as it arrives, in order, and returns the list's
  // resourceVersion: never is more than one item in memory, which is at most kMaxEventBytes long
  // (more is a TransportError). A "continue" token that expired (410) starts the list anew:
  // `on_restart` tells that the items so far are void. At least kJsonPadding bytes can be read
  // behind an item, as simdjson needs. A requested `stop` ends it within a second, with a
  // TransportError.
  std::string ListItems(const Resource& resource, std::string_view ns, const ListOptions& options,
                        const std::function<void(std::string_view item)>& on_item,
                        const std::function<void()>& on_restart, std::stop_token stop = {});
  // All items as one DOM: for small lists only.
  std::vector<Json> List(const Resource& resource, std::string_view ns,
                         const ListOptions& options = {});

  // Calls `on_event` with the raw JSON of each event's object until the server ends the watch, the
  // callback returns false or `stop` is requested. An ERROR event is thrown as ApiError (410: list
  // again). Bookmarks are asked for, and 240 s without a byte end the watch as if the server had
  // ended it. One event is at most kMaxEventBytes long, more is
  // a TransportError. At least kJsonPadding bytes can be read behind an object.
  void Watch(const Resource& resource, std::string_view ns, const WatchOptions& options,
             const std::function<bool(WatchEventType, std::string_view object)>& on_event,
             std::stop_token stop);

  // All return the object as the server stored it. Create and Update add kind and apiVersion when
  // the object has none; Update takes name and namespace from the object (std::invalid_argument
  // when there is no name).
  Json Create(const Resource& resource, std::string_view ns, const Json& object);
  Json Update(const Resource& resource, const Json& object, std::string_view subresource = "");
  Json Patch(const Resource& resource, std::string_view ns, std::string_view name, PatchType type,
             const Json& patch, std::string_view subresource = "",
             std::string_view field_manager = "pointsman", bool force = false);
  // Not found is no error: returns false. `uid` and `resource_version`, when not empty, are
  // preconditions.
  bool Delete(const Resource& resource, std::string_view ns, std::string_view name,
              std::string_view uid = "", std::string_view resource_version = "",
              Dependents dependents = Dependents::kUsual);

  // GET of any path, for discovery: {"major":…} of "/version", "/apis/discovery.k8s.io".
  Json GetPath(const std::string& target);

  Transport& transport() { return *transport_; }

 private:
  using OnBody = std::function<bool(std::string_view)>;

  // `on_body`: takes the body of a 2xx answer in the response's place.
  HttpResponse SendOrThrow(HttpRequest&& request, bool idempotent, const std::stop_token& stop,
                           bool counts = true, const OnBody* on_body = nullptr);
  void CheckMaySend(const HttpRequest& request, const std::stop_token& stop) const;
  void TakeToken(const HttpRequest& request, const std::stop_token& stop);
  Json SendForObject(HttpRequest&& request, bool idempotent);

  std::shared_ptr<Transport> transport_;
  std::chrono::seconds timeout_{30};
  std::stop_token stop_;
  std::shared_ptr<RateLimiter> limiter_;
  std::function<bool()> may_send_;
};

}  // namespace pointsman::kube

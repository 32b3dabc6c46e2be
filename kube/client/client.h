// The verbs of the Kubernetes API on one object or list.
#pragma once

#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "kube/client/api_error.h"
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

// Every call throws ApiError when the server says no and TransportError when it cannot be asked.
// 429 and 5xx with Retry-After are retried inside (at most 4 times, for GET also plain 5xx).
// Thread-safe.
class Client {
 public:
  explicit Client(std::shared_ptr<Transport> transport) : transport_(std::move(transport)) {}

  Json Get(const Resource& resource, std::string_view ns, std::string_view name);

  // Calls `on_page` with the raw JSON of each page, in order, and returns the list's
  // resourceVersion. A "continue" token that expired (410) starts the list anew: `on_restart` tells
  // that the pages so far are void.
  std::string ListPages(const Resource& resource, std::string_view ns, const ListOptions& options,
                        const std::function<void(std::string_view page)>& on_page,
                        const std::function<void()>& on_restart);
  // All items as one DOM: for small lists only.
  std::vector<Json> List(const Resource& resource, std::string_view ns,
                         const ListOptions& options = {});

  // Calls `on_event` with the raw JSON of each event's object until the server ends the watch, the
  // callback returns false or `stop` is requested. An ERROR event is thrown as ApiError (410: list
  // again). Bookmarks are asked for.
  void Watch(const Resource& resource, std::string_view ns, const WatchOptions& options,
             const std::function<bool(WatchEventType, std::string_view object)>& on_event,
             std::stop_token stop);

  // All return the object as the server stored it.
  Json Create(const Resource& resource, std::string_view ns, const Json& object);
  Json Update(const Resource& resource, const Json& object, std::string_view subresource = "");
  Json Patch(const Resource& resource, std::string_view ns, std::string_view name, PatchType type,
             const Json& patch, std::string_view subresource = "",
             std::string_view field_manager = "pointsman", bool force = false);
  // Not found is no error: returns false. `uid` and `resource_version`, when not empty, are
  // preconditions.
  bool Delete(const Resource& resource, std::string_view ns, std::string_view name,
              std::string_view uid = "", std::string_view resource_version = "");

  // GET of any path, for discovery: {"major":…} of "/version", "/apis/discovery.k8s.io".
  Json GetPath(const std::string& target);

  Transport& transport() { return *transport_; }

 private:
  HttpResponse SendOrThrow(const HttpRequest& request, bool idempotent);

  std::shared_ptr<Transport> transport_;
};

}  // namespace pointsman::kube

#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "e2e/control-plane/api/request.h"

namespace pointsman::e2e {

// What is served beside the resources: health, the version, which resources there are, and their
// OpenAPI documents. Thread-safe.
class Discovery {
 public:
  // All outlive this.
  Discovery(const Registry& registry, const SchemaProvider& schemas, const Emulation& emulation)
      : registry_(registry), schemas_(schemas), emulation_(emulation) {}

  // /readyz answers 200 from here on.
  void SetReady() { ready_ = true; }
  // False: nothing is served at that path.
  bool Serve(RequestContext& context);
  // Is a path below a group of the server's own, so that it has a handler that knows what is not
  // there? Its parts begin with "api", VERSION or "apis", GROUP, VERSION.
  bool HasBuiltinGroup(const std::vector<std::string>& parts) const;

 private:
  struct Route;
  static const std::vector<Route>& Routes();

  // `rest` is the part of the path behind a route that takes more than one path.
  bool ServeIndex(RequestContext& context, const std::string& rest);
  bool ServeAlive(RequestContext& context, const std::string& rest);
  bool ServeReady(RequestContext& context, const std::string& rest);
  bool ServeVersion(RequestContext& context, const std::string& rest);
  bool ServeCoreVersions(RequestContext& context, const std::string& rest);
  bool ServeGroups(RequestContext& context, const std::string& rest);
  bool ServeGroupOrResources(RequestContext& context, const std::string& rest);
  bool ServeResources(RequestContext& context, const std::string& group_version);
  bool ServeOpenApiV2(RequestContext& context, const std::string& rest);
  bool ServeOpenApiV3Paths(RequestContext& context, const std::string& rest);
  bool ServeOpenApiV3(RequestContext& context, const std::string& rest);

  // The groups in the order they were registered, and the versions of each, the preferred one
  // first.
  std::vector<std::pair<std::string, std::vector<std::string>>> Groups() const;
  // An OpenAPI document: made when it is first requested, and again when the types have changed.
  std::string Document(const std::string& key, const std::function<std::string()>& make);

  const Registry& registry_;
  const SchemaProvider& schemas_;
  const Emulation& emulation_;
  std::atomic<bool> ready_{false};
  std::mutex documents_mutex_;
  std::uint64_t documents_generation_ = ~std::uint64_t{0};
  std::map<std::string, std::string> documents_;
};

}  // namespace pointsman::e2e

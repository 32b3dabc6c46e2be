#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "e2e/control-plane/api/admission_policies.h"
#include "e2e/control-plane/api/discovery.h"
#include "e2e/control-plane/api/faults.h"
#include "e2e/control-plane/api/request.h"
#include "e2e/control-plane/auth/authenticator.h"
#include "e2e/control-plane/auth/authorizer.h"
#include "e2e/control-plane/registry/resource_type.h"
#include "e2e/control-plane/store/store.h"

namespace pointsman::e2e {

/// The Kubernetes API over a store and a registry. handle() is thread-safe.
class ApiServer {
 public:
  struct Options {
    Emulation emulation;
    std::chrono::milliseconds bookmarkInterval{60000};
    std::chrono::seconds maxWatch{3600};
    /// Not empty: a line for each watch event that was sent, for measurements: CLOCK_MONOTONIC in
    /// nanoseconds just before it was handed to the connection, resource, user, resourceVersion.
    std::filesystem::path watchLog;
    /// Not empty: a line of JSON for each request to a resource: user, verb, group, resource (with
    /// its subresource), namespace, and whether the user's roles allow it.
    std::filesystem::path accessLog;
  };

  ApiServer(Options options, Store& store, const Registry& registry, const SchemaProvider& schemas,
            const Authenticator& authenticator, const Authorizer& authorizer);

  void handle(const HttpRequest& request, HttpExchange& exchange);

  /// For the fault "refuseConnections".
  void onRefuseConnections(std::function<void(std::chrono::milliseconds)> refuse) {
    refuse_ = std::move(refuse);
  }
  /// /readyz answers 200 from here on.
  void setReady() { discovery_.setReady(); }

  /// Creates as the server itself (bootstrap objects, --preload); an object that exists is left.
  void ensure(const Json& object);

 private:
  void route(RequestContext& context);
  void routeResource(RequestContext& context, const Target& target);
  /// Subresources but status; what a type does not have is a StatusError 404.
  void routeSubresource(RequestContext& context, const Target& target);

  // authn.cpp
  void authenticate(RequestContext& context) const;
  void authorize(const RequestContext& context, const AccessRequest& access) const;
  void logAccess(const RequestContext& context, const AccessRequest& access, bool allowed) const;

  // fault_requests.cpp
  void debugFaults(RequestContext& context);
  bool misbehave(RequestContext& context, const Target& target, const AccessRequest& access);

  // read.cpp and watch.cpp
  void get(RequestContext& context, const Target& target);
  void list(RequestContext& context, const Target& target);
  void watch(RequestContext& context, const Target& target);
  void logSent(const RequestContext& context, const ResourceType& type,
               std::chrono::steady_clock::time_point at,
               const std::vector<std::uint64_t>& versions) const;

  // write.cpp
  void create(RequestContext& context, const Target& target);
  void update(RequestContext& context, const Target& target);
  void requireNamespace(const Target& target) const;
  void admit(const RequestContext& context, const Target& target, const char* operation,
             const Json* object, const Json* old) const;
  void prepareCreation(RequestContext& context, const Target& target, Json& object,
                       const RequestInfo& info) const;
  ObjectPtr createObject(RequestContext& context, const Target& target, Json object);
  ObjectPtr updateObject(RequestContext& context, const Target& target, const ObjectPtr& before,
                         Json object, bool track);

  // patch_request.cpp
  void patch(RequestContext& context, const Target& target);
  Json appliedConfiguration(RequestContext& context, const Target& target, Json body) const;
  ObjectPtr createApplied(RequestContext& context, const Target& target, const Json& body,
                          bool force);

  // delete.cpp
  void remove(RequestContext& context, const Target& target);
  void removeCollection(RequestContext& context, const Target& target);

  // pod_subresources.cpp and scale.cpp
  void evict(RequestContext& context, const Target& target);
  void bindPod(RequestContext& context, const Target& target);
  void scale(RequestContext& context, const Target& target);

  // reviews.cpp
  std::optional<Authenticator::Binding> tokenBinding(const Target& target, const Json& body) const;
  void tokenRequest(RequestContext& context, const Target& target);
  void accessReview(RequestContext& context, const std::string& kind);

  const Options options_;
  Store& store_;
  const Registry& registry_;
  const Authenticator& authenticator_;
  const Authorizer& authorizer_;
  Discovery discovery_;
  Faults faults_;
  std::function<void(std::chrono::milliseconds)> refuse_;
  const AdmissionPolicies policies_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> watchLog_{nullptr, std::fclose};
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> accessLog_{nullptr, std::fclose};
};

}  // namespace pointsman::e2e

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

// The Kubernetes API over a store and a registry. Handle() is thread-safe.
class ApiServer {
 public:
  struct Options {
    Emulation emulation;
    std::chrono::milliseconds bookmark_interval{60000};
    std::chrono::seconds max_watch{3600};
    // Not empty: a line for each watch event that was sent, for measurements: CLOCK_MONOTONIC in
    // nanoseconds just before it was handed to the connection, resource, user, resourceVersion.
    std::filesystem::path watch_log;
    // Not empty: a line of JSON for each request to a resource: user, verb, group, resource (with
    // its subresource), namespace, and whether the user's roles allow it.
    std::filesystem::path access_log;
  };

  ApiServer(Options options, Store& store, const Registry& registry, const SchemaProvider& schemas,
            const Authenticator& authenticator, const Authorizer& authorizer);

  void Handle(const HttpRequest& request, HttpExchange& exchange);

  // For the fault "RefuseConnections".
  void OnRefuseConnections(std::function<void(std::chrono::milliseconds)> refuse) {
    refuse_ = std::move(refuse);
  }
  // /readyz answers 200 from here on.
  void SetReady() { discovery_.SetReady(); }

  // Creates as the server itself (bootstrap objects, --preload); an object that exists is left.
  void Ensure(const Json& object);

 private:
  void Route(RequestContext& context);
  void RouteResource(RequestContext& context, const Target& target);
  // Subresources but status; what a type does not have is a StatusError 404.
  void RouteSubresource(RequestContext& context, const Target& target);

  // authn.cpp
  void Authenticate(RequestContext& context) const;
  void Authorize(const RequestContext& context, const AccessRequest& access) const;
  void LogAccess(const RequestContext& context, const AccessRequest& access, bool allowed) const;

  // fault_requests.cpp
  void DebugFaults(RequestContext& context);
  bool Misbehave(RequestContext& context, const Target& target, const AccessRequest& access);

  // read.cpp and watch.cpp
  void Get(RequestContext& context, const Target& target);
  void List(RequestContext& context, const Target& target);
  void Watch(RequestContext& context, const Target& target);
  void LogSent(const RequestContext& context, const ResourceType& type,
               std::chrono::steady_clock::time_point at,
               const std::vector<std::uint64_t>& versions) const;

  // write.cpp
  void Create(RequestContext& context, const Target& target);
  void Update(RequestContext& context, const Target& target);
  // `name`: of what is to be created there.
  void RequireNamespace(const Target& target, const std::string& name) const;
  void Admit(const RequestContext& context, const Target& target, const char* operation,
             const Json* object, const Json* old) const;
  void PrepareCreation(RequestContext& context, const Target& target, Json& object,
                       const RequestInfo& info) const;
  ObjectPtr CreateObject(RequestContext& context, const Target& target, Json object);
  ObjectPtr UpdateObject(RequestContext& context, const Target& target, const ObjectPtr& before,
                         Json object, bool track);

  // patch_request.cpp
  void Patch(RequestContext& context, const Target& target);
  Json AppliedConfiguration(RequestContext& context, const Target& target, Json body) const;
  ObjectPtr CreateApplied(RequestContext& context, const Target& target, const Json& body,
                          bool force);

  // delete.cpp
  void Remove(RequestContext& context, const Target& target);
  void RemoveCollection(RequestContext& context, const Target& target);

  // scale.cpp
  void Scale(RequestContext& context, const Target& target);

  // token_request.cpp
  std::optional<Authenticator::Binding> TokenBinding(const Target& target, const Json& body) const;
  void TokenRequest(RequestContext& context, const Target& target);

  const Options options_;
  Store& store_;
  const Registry& registry_;
  const Authenticator& authenticator_;
  const Authorizer& authorizer_;
  Discovery discovery_;
  Faults faults_;
  std::function<void(std::chrono::milliseconds)> refuse_;
  const AdmissionPolicies policies_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> watch_log_{nullptr, std::fclose};
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> access_log_{nullptr, std::fclose};
};

}  // namespace pointsman::e2e

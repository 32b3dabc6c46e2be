#pragma once

#include <cstdio>
#include <filesystem>

#include "e2e/control-plane/api/admission_policies.h"
#include "e2e/control-plane/api/faults.h"
#include "e2e/control-plane/api/render.h"
#include "e2e/control-plane/api/selectors.h"
#include "e2e/control-plane/registry/deletion.h"

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

  ApiServer(Options options, Store& store, Registry& registry, const SchemaProvider& schemas,
            const Authenticator& authenticator, const Authorizer& authorizer);

  void handle(const HttpRequest& request, HttpExchange& exchange);

  /// For the fault "refuseConnections".
  void onRefuseConnections(std::function<void(std::chrono::milliseconds)> refuse) {
    refuse_ = std::move(refuse);
  }
  /// /readyz answers 200 from here on.
  void setReady() { ready_ = true; }

  /// Creates as the server itself (bootstrap objects, --preload); an object that exists is left.
  void ensure(const Json& object);

 private:
  struct Target {
    ResourceTypePtr type;
    std::string ns;
    std::string name;
    std::string subresource;
  };
  struct Context {
    const HttpRequest& request;
    HttpExchange& exchange;
    UserInfo user;
    Rendering rendering;
    std::vector<std::string> warnings;
    bool dryRun = false;
    std::string fieldValidation = "Warn";
    std::string manager;
    RequestInfo info(const std::string& subresource);
  };

  void route(Context& context);
  void authorize(const Context& context, const AccessRequest& access) const;
  void logAccess(const Context& context, const AccessRequest& access, bool allowed) const;
  void admit(const Context& context, const Target& target, const char* operation,
             const Json* object, const Json* old) const;
  void debugFaults(Context& context);
  bool discovery(Context& context);
  std::optional<Target> parseTarget(const std::vector<std::string>& parts) const;
  void resource(Context& context, const Target& target);

  void list(Context& context, const Target& target);
  void watch(Context& context, const Target& target);
  void logSent(const Context& context, const ResourceType& type,
               std::chrono::steady_clock::time_point at,
               const std::vector<std::uint64_t>& versions) const;
  void get(Context& context, const Target& target);
  void create(Context& context, const Target& target);
  void update(Context& context, const Target& target);
  void patch(Context& context, const Target& target);
  void remove(Context& context, const Target& target);
  void removeCollection(Context& context, const Target& target);
  std::optional<Authenticator::Binding> tokenBinding(const Target& target, const Json& body) const;
  void tokenRequest(Context& context, const Target& target);
  void evict(Context& context, const Target& target);
  void bindPod(Context& context, const Target& target);
  void scale(Context& context, const Target& target);
  void accessReview(Context& context, const std::string& kind);

  /// JSON, YAML, and protobuf unless the type is a custom resource.
  Json decodeBody(const Context& context, const std::string& what, bool protobuf = true) const;
  void checkIdentity(Json& object, const Target& target) const;
  void clean(Json& object, const Target& target, Context& context) const;
  ObjectPtr createObject(Context& context, const Target& target, Json object);
  ObjectPtr updateObject(Context& context, const Target& target, const ObjectPtr& before,
                         Json object, bool track);
  std::vector<FieldError> validateMetadata(const Json& object, const ResourceType& type) const;
  void requireNamespace(const Target& target) const;
  static ObjectPtr unstored(const Json& object, std::uint64_t version);
  void answer(Context& context, int status, const Target& target, const ObjectPtr& object) const;
  static void sendJson(Context& context, int status, const Json& body);
  Selector selectorOf(const Context& context, const Target& target) const;
  AccessRequest accessOf(const HttpRequest& request, const Target& target) const;

  const Options options_;
  Store& store_;
  Registry& registry_;
  const SchemaProvider& schemas_;
  const Authenticator& authenticator_;
  const Authorizer& authorizer_;
  Faults faults_;
  std::function<void(std::chrono::milliseconds)> refuse_;
  std::atomic<bool> ready_{false};
  const AdmissionPolicies policies_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> watchLog_{nullptr, std::fclose};
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> accessLog_{nullptr, std::fclose};
  std::mutex documentsMutex_;
  std::uint64_t documentsGeneration_ = ~std::uint64_t{0};
  std::map<std::string, std::string> documents_;  // OpenAPI, by path
};

}  // namespace pointsman::e2e

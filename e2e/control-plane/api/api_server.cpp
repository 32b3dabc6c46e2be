#include "e2e/control-plane/api/api_server.h"

#include <cerrno>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <utility>

#include <spdlog/spdlog.h>

#include "e2e/control-plane/registry/json_path.h"

namespace pointsman::e2e {
namespace {

// For writes of the server itself, which have no client.
class NoExchange : public HttpExchange {
 public:
  void send(const HttpResponse&) override {}
  void begin(int, const std::string&,
             const std::vector<std::pair<std::string, std::string>>&) override {}
  bool write(std::string_view) override { return false; }
  bool waitFor(int, std::chrono::milliseconds) override { return false; }
  void abort() override {}
};

void sendFailure(RequestContext& context, const StatusError& error) {
  HttpResponse response;
  response.status = error.code();
  addWarnings(response, context.warnings);
  if (error.code() == 401)
    response.headers.emplace_back("Www-Authenticate", "Bearer realm=\"pointsman\"");
  if (const Json* seconds = at(error.details(), {"retryAfterSeconds"}))
    response.headers.emplace_back("Retry-After", seconds->dump());
  response.body = error.toJson().dump() + "\n";
  context.exchange.send(response);
  spdlog::debug("{} {} {} {}: {}", context.user.name, context.request.method, context.request.path,
                error.code(), error.what());
}

// The verb of a request to something else than a resource.
std::string pathVerbOf(const std::string& method) {
  return method == "PUT" ? "put" : method == "POST" ? "post" : "get";
}

bool isReviewGroup(const std::string& group) {
  return group == "authorization.k8s.io" || group == "authentication.k8s.io";
}

}  // namespace

ApiServer::ApiServer(Options options, Store& store, const Registry& registry,
                     const SchemaProvider& schemas, const Authenticator& authenticator,
                     const Authorizer& authorizer)
    : options_(std::move(options)),
      store_(store),
      registry_(registry),
      authenticator_(authenticator),
      authorizer_(authorizer),
      discovery_(registry, schemas, options_.emulation),
      policies_(store) {
  const auto open = [](const std::filesystem::path& path, auto& log) {
    if (path.empty()) return;
    log.reset(std::fopen(path.c_str(), "ae"));
    if (!log) throw std::system_error(errno, std::generic_category(), "open " + path.string());
  };
  open(options_.watchLog, watchLog_);
  open(options_.accessLog, accessLog_);
}

void ApiServer::handle(const HttpRequest& request, HttpExchange& exchange) {
  RequestContext context{request, exchange, {}, {}, {}, false, "Warn", {}};
  const auto start = std::chrono::steady_clock::now();
  try {
    authenticate(context);
    route(context);
  } catch (const StatusError& error) {
    sendFailure(context, error);
  } catch (const std::invalid_argument& error) {
    sendFailure(context, badRequest(error.what()));
  } catch (const Json::exception& error) {
    // A document whose shape a hook did not expect: the client's doing.
    sendFailure(context, badRequest(std::string("the object cannot be handled: ") + error.what()));
  } catch (const std::system_error& error) {
    spdlog::error("{} {}: {}", request.method, request.path, error.what());
    sendFailure(context, internalError(error.what()));
  }
  const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::steady_clock::now() - start);
  spdlog::trace("{} {} {}?{} {} ms", context.user.name, request.method, request.path, request.query,
                took.count());
}

void ApiServer::route(RequestContext& context) {
  const HttpRequest& request = context.request;
  const std::vector<std::string> parts = splitPath(request.path);
  const bool api = !parts.empty() && (parts[0] == "api" || parts[0] == "apis");
  const std::size_t resourceAt = !parts.empty() && parts[0] == "api" ? 2 : 3;
  AccessRequest access;
  if (!api || parts.size() <= resourceAt) {
    access.verb = pathVerbOf(request.method);
    access.path = request.path;
    authorize(context, access);
    if (request.path == "/pointsman-debug/faults") {
      if (!context.user.inGroup("system:masters"))
        throw StatusError(403, "Forbidden", "forbidden: faults are for system:masters",
                          Json::object());
      return debugFaults(context);
    }
    if (request.method != "GET" && request.method != "HEAD") throw methodNotAllowed();
    if (!discovery_.serve(context)) throw noSuchResource();
    return;
  }
  if (parts[0] == "apis" && isReviewGroup(parts[1]) && parts[2] == "v1" && parts.size() == 4) {
    if (request.method != "POST") throw methodNotAllowed();
    access.verb = "create";
    access.group = parts[1];
    access.resource = parts[3];
    authorize(context, access);
    return accessReview(context, parts[3]);
  }
  const auto target = parseTarget(registry_, parts);
  if (!target) throw noSuchResource();
  access = accessOf(request, *target);
  if (access.verb.empty()) throw methodNotAllowed();
  logAccess(context, access, authorizer_.allowed(context.user, access));
  authorize(context, access);
  if (misbehave(context, *target, access)) return;
  readOptions(context, options_.emulation);
  routeResource(context, *target);
}

void ApiServer::routeSubresource(RequestContext& context, const Target& target) {
  const ResourceName type = target.type->storeName();
  const std::string& sub = target.subresource;
  const auto require = [&](const char* method) {
    if (context.request.method != method) throw methodNotAllowed();
  };
  if (type == "serviceaccounts" && sub == "token") {
    require("POST");
    return tokenRequest(context, target);
  }
  if (type == "pods" && sub == "eviction") {
    require("POST");
    return evict(context, target);
  }
  if (type == "pods" && sub == "binding") {
    require("POST");
    return bindPod(context, target);
  }
  if (sub == "scale" && (type == "apps/deployments" || type == "apps/replicasets"))
    return scale(context, target);
  if (type == "namespaces" && sub == "finalize") {
    require("PUT");
    return update(context, target);
  }
  throw noSuchResource();
}

void ApiServer::routeResource(RequestContext& context, const Target& target) {
  const std::string& method = context.request.method;
  const std::string& sub = target.subresource;
  if (!sub.empty() && sub != "status") return routeSubresource(context, target);
  if (sub == "status" && !target.type->hasStatus) throw noSuchResource();
  if (method == "GET" || method == "HEAD") {
    if (isTrue(context.request.parameter("watch"))) return watch(context, target);
    return target.name.empty() ? list(context, target) : get(context, target);
  }
  if (method == "POST" && target.name.empty()) return create(context, target);
  if (method == "PUT" && !target.name.empty()) return update(context, target);
  if (method == "PATCH" && !target.name.empty()) return patch(context, target);
  if (method == "DELETE" && sub.empty()) {
    return target.name.empty() ? removeCollection(context, target) : remove(context, target);
  }
  throw methodNotAllowed();
}

void ApiServer::ensure(const Json& object) {
  const std::string apiVersion = stringAt(object, {"apiVersion"});
  const auto slash = apiVersion.find('/');
  const std::string group = slash == std::string::npos ? "" : apiVersion.substr(0, slash);
  const std::string version =
      slash == std::string::npos ? apiVersion : apiVersion.substr(slash + 1);
  const ResourceTypePtr type = registry_.findByKind(group, version, stringAt(object, {"kind"}));
  if (!type) {
    throw std::invalid_argument("no resource of kind " + stringAt(object, {"kind"}) + " in " +
                                apiVersion + " is served");
  }
  Target target{type, stringAt(object, {"metadata", "namespace"}), "", ""};
  if (type->namespaced && target.ns.empty()) target.ns = "default";
  if (store_.get(type->storeName(), target.ns, stringAt(object, {"metadata", "name"}))) return;
  NoExchange nowhere;
  const HttpRequest none;
  RequestContext context{
      none,     nowhere,         {"system:apiserver", "", {"system:masters"}, {}}, {}, {}, false,
      "Ignore", "kube-apiserver"};
  const ObjectPtr created = createObject(context, target, object);
  if (object.contains("status") && type->hasStatus) {
    target.name = created->name;
    target.subresource = "status";
    Json withStatus = created->parse();
    withStatus["status"] = object["status"];
    updateObject(context, target, created, withStatus, true);
  }
}

}  // namespace pointsman::e2e

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
  void Send(const HttpResponse&) override {}
  void begin(int, const std::string&,
             const std::vector<std::pair<std::string, std::string>>&) override {}
  bool Write(std::string_view) override { return false; }
  bool WaitFor(int, std::chrono::milliseconds) override { return false; }
  void Abort() override {}
};

void SendFailure(RequestContext& context, const StatusError& error) {
  HttpResponse response;
  response.status = error.code();
  AddWarnings(response, context.warnings);
  if (error.code() == 401)
    response.headers.emplace_back("Www-Authenticate", "Bearer realm=\"pointsman\"");
  if (const Json* seconds = At(error.details(), {"retryAfterSeconds"}))
    response.headers.emplace_back("Retry-After", seconds->dump());
  response.body = error.ToJson().dump() + "\n";
  context.exchange.Send(response);
  spdlog::debug("{} {} {} {}: {}", context.user.name, context.request.method, context.request.path,
                error.code(), error.what());
}

// As much as the path of a resource that is not served says of it.
ResourceType TypeOfPath(const std::vector<std::string>& parts) {
  ResourceType type;
  const bool core = parts[0] == "api";
  if (!core) type.group = parts[1];
  type.version = core ? parts[1] : parts[2];
  const std::size_t at = core ? 2 : 3;
  const bool in_namespace = parts.size() > at + 2 && parts[at] == "namespaces";
  type.plural = parts[in_namespace ? at + 2 : at];
  return type;
}

// No handler: what Go's HTTP server says, and no Status.
void SendNoSuchPath(RequestContext& context) {
  HttpResponse response;
  response.status = 404;
  response.content_type = "text/plain; charset=utf-8";
  response.body = "404 page not found\n";
  context.exchange.Send(response);
}

// The verb of a request to something else than a resource.
std::string PathVerbOf(const std::string& method) {
  return method == "PUT" ? "put" : method == "POST" ? "post" : "get";
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
  open(options_.watch_log, watch_log_);
  open(options_.access_log, access_log_);
}

void ApiServer::Handle(const HttpRequest& request, HttpExchange& exchange) {
  RequestContext context{request, exchange, {}, {}, {}, false, "Warn", {}};
  const auto start = std::chrono::steady_clock::now();
  try {
    Authenticate(context);
    Route(context);
  } catch (const StatusError& error) {
    SendFailure(context, error);
  } catch (const std::invalid_argument& error) {
    SendFailure(context, BadRequest(error.what()));
  } catch (const Json::exception& error) {
    // A document whose shape a hook did not expect: the client's doing.
    SendFailure(context, BadRequest(std::string("the object cannot be handled: ") + error.what()));
  } catch (const std::system_error& error) {
    spdlog::error("{} {}: {}", request.method, request.path, error.what());
    SendFailure(context, InternalError(error.what()));
  }
  const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::steady_clock::now() - start);
  spdlog::trace("{} {} {}?{} {} ms", context.user.name, request.method, request.path, request.query,
                took.count());
}

void ApiServer::Route(RequestContext& context) {
  const HttpRequest& request = context.request;
  const std::vector<std::string> parts = SplitPath(request.path);
  const bool api = !parts.empty() && (parts[0] == "api" || parts[0] == "apis");
  const std::size_t resource_at = !parts.empty() && parts[0] == "api" ? 2 : 3;
  AccessRequest access;
  if (!api || parts.size() <= resource_at) {
    access.verb = PathVerbOf(request.method);
    access.path = request.path;
    Authorize(context, access);
    if (request.path == "/pointsman-debug/faults") {
      if (!context.user.InGroup("system:masters"))
        throw StatusError(403, "Forbidden", "forbidden: faults are for system:masters",
                          Json::object());
      return DebugFaults(context);
    }
    if (request.method != "GET" && request.method != "HEAD") throw MethodNotAllowed();
    if (discovery_.Serve(context)) return;
    if (discovery_.HasBuiltinGroup(parts)) throw NoSuchResource();
    return SendNoSuchPath(context);
  }
  const auto target = ParseTarget(registry_, parts);
  if (!target) {
    // What is not there is not told to who may not see it.
    Target unknown;
    unknown.type = std::make_shared<ResourceType>(TypeOfPath(parts));
    Authorize(context, AccessOf(request, unknown));
    if (discovery_.HasBuiltinGroup(parts)) throw NoSuchResource();
    return SendNoSuchPath(context);
  }
  access = AccessOf(request, *target);
  if (access.verb.empty()) throw MethodNotAllowed();
  LogAccess(context, access, authorizer_.Allowed(context.user, access));
  Authorize(context, access);
  if (Misbehave(context, *target, access)) return;
  ReadOptions(context, options_.emulation);
  RouteResource(context, *target);
}

void ApiServer::RouteSubresource(RequestContext& context, const Target& target) {
  const ResourceName type = target.type->StoreName();
  const std::string& sub = target.subresource;
  const auto require = [&](const char* method) {
    if (context.request.method != method) throw MethodNotAllowed();
  };
  if (type == "serviceaccounts" && sub == "token") {
    require("POST");
    return TokenRequest(context, target);
  }
  if (sub == "scale" && (type == "apps/deployments" || type == "apps/replicasets"))
    return Scale(context, target);
  if (type == "namespaces" && sub == "finalize") {
    require("PUT");
    return Update(context, target);
  }
  throw NoSuchResource();
}

void ApiServer::RouteResource(RequestContext& context, const Target& target) {
  const std::string& method = context.request.method;
  const std::string& sub = target.subresource;
  if (!sub.empty() && sub != "status") return RouteSubresource(context, target);
  if (sub == "status" && !target.type->has_status) throw NoSuchResource();
  if (method == "GET" || method == "HEAD") {
    if (IsTrue(context.request.Parameter("watch"))) return Watch(context, target);
    return target.name.empty() ? List(context, target) : Get(context, target);
  }
  if (method == "POST" && target.name.empty()) return Create(context, target);
  if (method == "PUT" && !target.name.empty()) return Update(context, target);
  if (method == "PATCH" && !target.name.empty()) return Patch(context, target);
  if (method == "DELETE" && sub.empty()) {
    return target.name.empty() ? RemoveCollection(context, target) : Remove(context, target);
  }
  throw MethodNotAllowed();
}

void ApiServer::Ensure(const Json& object) {
  const std::string api_version = StringAt(object, {"apiVersion"});
  const auto slash = api_version.find('/');
  const std::string group = slash == std::string::npos ? "" : api_version.substr(0, slash);
  const std::string version =
      slash == std::string::npos ? api_version : api_version.substr(slash + 1);
  const ResourceTypePtr type = registry_.FindByKind(group, version, StringAt(object, {"kind"}));
  if (!type) {
    throw std::invalid_argument("no resource of kind " + StringAt(object, {"kind"}) + " in " +
                                api_version + " is served");
  }
  Target target{type, StringAt(object, {"metadata", "namespace"}), "", ""};
  if (type->namespaced && target.ns.empty()) target.ns = "default";
  if (store_.Get(type->StoreName(), target.ns, StringAt(object, {"metadata", "name"}))) return;
  NoExchange nowhere;
  const HttpRequest none;
  RequestContext context{
      none,     nowhere,         {"system:apiserver", "", {"system:masters"}, {}}, {}, {}, false,
      "Ignore", "kube-apiserver"};
  const ObjectPtr created = CreateObject(context, target, object);
  if (object.contains("status") && type->has_status) {
    target.name = created->name;
    target.subresource = "status";
    Json with_status = created->Parse();
    with_status["status"] = object["status"];
    UpdateObject(context, target, created, with_status, true);
  }
}

}  // namespace pointsman::e2e

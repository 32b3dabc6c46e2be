#include "e2e/control-plane/api/api_server.h"

#include <charconv>
#include <random>

#include "e2e/control-plane/api/crds.h"
#include "e2e/control-plane/api/managed_fields.h"
#include "e2e/control-plane/api/patch.h"
#include "e2e/control-plane/registry/builtin_types.h"
#include "e2e/control-plane/registry/json_path.h"
#include "e2e/control-plane/registry/protobuf.h"

namespace pointsman::e2e {
namespace {

/// As k8s.io/apimachinery's ValidateListOptions.
StatusError forbiddenMatch(const std::string& why) {
  return invalid("meta.k8s.io", "ListOptions", "",
                 {{"resourceVersionMatch", "FieldValueForbidden", "Forbidden: " + why}});
}

std::vector<std::string> split(std::string_view path) {
  std::vector<std::string> parts;
  while (!path.empty()) {
    if (path.front() == '/') {
      path.remove_prefix(1);
      continue;
    }
    const auto end = std::min(path.find('/'), path.size());
    parts.emplace_back(path.substr(0, end));
    path.remove_prefix(end);
  }
  return parts;
}

StatusError noSuchResource() {
  return {404, "NotFound", "the server could not find the requested resource", Json::object()};
}

StatusError methodNotAllowed() {
  return {405, "MethodNotAllowed",
          "the server does not allow this method on the requested resource", Json::object()};
}

bool isTrue(const std::optional<std::string>& value) {
  return value && (*value == "true" || *value == "1");
}

std::uint64_t parseVersion(const std::string& field, const std::string& text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    throw badRequest(field + ": Invalid value: \"" + text + "\": strconv.ParseUint: parsing \"" +
                     text + "\": invalid syntax");
  }
  return value;
}

void dropNulls(Json& value) {
  if (value.is_object()) {
    for (auto member = value.begin(); member != value.end();) {
      if (member->is_null()) {
        member = value.erase(member);
      } else {
        dropNulls(*member);
        ++member;
      }
    }
  } else if (value.is_array()) {
    for (Json& item : value)
      dropNulls(item);
  }
}

std::string randomSuffix() {
  // Without vowels and look-alikes, as the API server's name generator.
  static constexpr std::string_view kLetters = "bcdfghjklmnpqrstvwxz2456789";
  thread_local std::mt19937_64 random{std::random_device{}()};
  std::string suffix;
  for (int i = 0; i < 5; ++i)
    suffix += kLetters[random() % kLetters.size()];
  return suffix;
}

std::string continueToken(std::uint64_t version, const std::string& key) {
  return base64UrlEncode(Json{{"v", "meta.k8s.io/v1"}, {"rv", version}, {"start", key}}.dump());
}

std::string keyOf(const StoredObject& object) {
  return object.ns.empty() ? object.name : object.ns + "/" + object.name;
}

// Everything but metadata and status: what the generation counts.
Json specOf(const Json& object, bool hasStatus) {
  Json copy = object;
  copy.erase("metadata");
  if (hasStatus) copy.erase("status");
  return copy;
}

}  // namespace

RequestInfo ApiServer::Context::info(const std::string& subresource) {
  return {user.name, user.groups, dryRun, &warnings, subresource};
}

ApiServer::ApiServer(Options options, Store& store, Registry& registry,
                     const SchemaProvider& schemas, const Authenticator& authenticator,
                     const Authorizer& authorizer)
    : options_(std::move(options)),
      store_(store),
      registry_(registry),
      schemas_(schemas),
      authenticator_(authenticator),
      authorizer_(authorizer),
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
  Context context{request, exchange, {}, {}, {}, false, "Warn", {}};
  const auto start = std::chrono::steady_clock::now();
  const auto fail = [&](const StatusError& error) {
    HttpResponse response;
    response.status = error.code();
    for (const std::string& warning : context.warnings) {
      response.headers.emplace_back("Warning", "299 - " + Json(warning).dump());
    }
    if (error.code() == 401)
      response.headers.emplace_back("Www-Authenticate", "Bearer realm=\"pointsman\"");
    if (const Json* seconds = at(error.details(), {"retryAfterSeconds"})) {
      response.headers.emplace_back("Retry-After", seconds->dump());
    }
    response.body = error.toJson().dump() + "\n";
    exchange.send(response);
    spdlog::debug("{} {} {} {}: {}", context.user.name, request.method, request.path, error.code(),
                  error.what());
  };
  try {
    const auto user = authenticator_.authenticate(request);
    if (!user) throw StatusError(401, "Unauthorized", "Unauthorized");
    context.user = *user;
    if (const std::string as = request.header("Impersonate-User"); !as.empty()) {
      AccessRequest access;
      access.verb = "impersonate";
      access.resource = "users";
      access.name = as;
      authorize(context, access);
      UserInfo other{as, "", {}, {}};
      for (const auto& [key, value] : request.headers) {
        if (key != "Impersonate-Group") continue;
        access.resource = "groups";
        access.name = value;
        authorize(context, access);
        other.groups.push_back(value);
      }
      if (as.starts_with("system:serviceaccount:") && other.groups.empty()) {
        const std::string ns = as.substr(22, as.find(':', 22) - 22);
        other.groups = {"system:serviceaccounts", "system:serviceaccounts:" + ns};
      }
      if (!other.inGroup("system:authenticated")) other.groups.emplace_back("system:authenticated");
      context.user = std::move(other);
    }
    route(context);
  } catch (const StatusError& error) {
    fail(error);
  } catch (const std::invalid_argument& error) {
    fail(badRequest(error.what()));
  } catch (const Json::exception& error) {
    // A document whose shape a hook did not expect: the client's doing.
    fail(badRequest(std::string("the object cannot be handled: ") + error.what()));
  } catch (const std::system_error& error) {
    spdlog::error("{} {}: {}", request.method, request.path, error.what());
    fail(internalError(error.what()));
  }
  const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::steady_clock::now() - start);
  spdlog::trace("{} {} {}?{} {} ms", context.user.name, request.method, request.path, request.query,
                took.count());
}

void ApiServer::authorize(const Context& context, const AccessRequest& access) const {
  if (authorizer_.allowed(context.user, access)) return;
  const std::string why = Authorizer::denial(context.user, access);
  if (access.resource.empty()) {
    throw StatusError(403, "Forbidden", "forbidden: " + why, Json::object());
  }
  throw forbidden(access.group, access.resource, access.name, why);
}

void ApiServer::logAccess(const Context& context, const AccessRequest& access, bool allowed) const {
  if (!accessLog_) return;
  const std::string line =
      Json{{"user", context.user.name},
           {"verb", access.verb},
           {"group", access.group},
           {"resource", access.subresource.empty() ? access.resource
                                                   : access.resource + "/" + access.subresource},
           {"namespace", access.ns},
           {"allowed", allowed}}
          .dump() +
      "\n";
  std::fwrite(line.data(), 1, line.size(), accessLog_.get());
  std::fflush(accessLog_.get());
}

void ApiServer::admit(const Context& context, const Target& target, const char* operation,
                      const Json* object, const Json* old) const {
  const std::string name = target.name.empty() && object != nullptr
                               ? stringAt(*object, {"metadata", "name"})
                               : target.name;
  policies_.check({context.user, *target.type, target.ns, name, target.subresource, operation,
                   object, old, context.dryRun});
}

AccessRequest ApiServer::accessOf(const HttpRequest& request, const Target& target) const {
  AccessRequest access;
  const bool isWatch = isTrue(request.parameter("watch"));
  const std::string& method = request.method;
  if (method == "GET" || method == "HEAD") {
    access.verb = isWatch ? "watch" : target.name.empty() ? "list" : "get";
  } else if (method == "POST") {
    access.verb = "create";
  } else if (method == "PUT") {
    access.verb = "update";
  } else if (method == "PATCH") {
    access.verb = "patch";
  } else if (method == "DELETE") {
    access.verb = target.name.empty() ? "deletecollection" : "delete";
  }
  access.group = target.type->group;
  access.resource = target.type->plural;
  access.subresource = target.subresource;
  access.ns = target.ns;
  if (target.type->group.empty() && target.type->plural == "namespaces") access.ns = target.name;
  access.name = target.name;
  if (access.name.empty() && (access.verb == "list" || access.verb == "watch")) {
    // A list of one object by name counts as that name.
    if (const auto fields = request.parameter("fieldSelector")) {
      if (const auto name = FieldSelector(*fields, *target.type).name()) access.name = *name;
    }
  }
  return access;
}

void ApiServer::route(Context& context) {
  const HttpRequest& request = context.request;
  const std::vector<std::string> parts = split(request.path);
  const bool api = !parts.empty() && (parts[0] == "api" || parts[0] == "apis");
  const std::size_t resourceAt = !parts.empty() && parts[0] == "api" ? 2 : 3;
  if (!api || parts.size() <= resourceAt) {
    AccessRequest access;
    access.verb = request.method == "GET"    ? "get"
                  : request.method == "PUT"  ? "put"
                  : request.method == "POST" ? "post"
                                             : "get";
    access.path = request.path;
    authorize(context, access);
    if (request.path == "/pointsman-debug/faults") {
      if (!context.user.inGroup("system:masters")) {
        throw StatusError(403, "Forbidden", "forbidden: faults are for system:masters",
                          Json::object());
      }
      debugFaults(context);
      return;
    }
    if (request.method != "GET" && request.method != "HEAD") throw methodNotAllowed();
    if (!discovery(context)) throw noSuchResource();
    return;
  }
  if (parts[0] == "apis" &&
      (parts[1] == "authorization.k8s.io" || parts[1] == "authentication.k8s.io") &&
      parts[2] == "v1" && parts.size() == 4) {
    if (request.method != "POST") throw methodNotAllowed();
    AccessRequest access;
    access.verb = "create";
    access.group = parts[1];
    access.resource = parts[3];
    authorize(context, access);
    accessReview(context, parts[3]);
    return;
  }
  const auto target = parseTarget(parts);
  if (!target) throw noSuchResource();
  const AccessRequest access = accessOf(request, *target);
  if (access.verb.empty()) throw methodNotAllowed();
  logAccess(context, access, authorizer_.allowed(context.user, access));
  authorize(context, access);

  const Faults::Action fault = faults_.next(context.user.name, access);
  if (fault.delay.count() > 0) std::this_thread::sleep_for(fault.delay);
  if (fault.abort) {
    context.exchange.abort();
    return;
  }
  if (fault.code != 0) {
    Json details = Json::object();
    if (fault.retryAfter > 0) details["retryAfterSeconds"] = fault.retryAfter;
    const char* reason = fault.code == 429   ? "TooManyRequests"
                         : fault.code == 409 ? "Conflict"
                         : fault.code == 410 ? "Expired"
                         : fault.code == 503 ? "ServiceUnavailable"
                         : fault.code == 504 ? "Timeout"
                                             : "InternalError";
    throw StatusError(fault.code, reason, "a fault was asked for", details);
  }
  if (fault.staleBy > 0 && access.verb == "list") {
    // An API server whose watch cache lags behind.
    const std::uint64_t now = store_.resourceVersion();
    const std::uint64_t then = now > fault.staleBy ? now - fault.staleBy : 1;
    std::size_t remaining = 0;
    const Snapshot old =
        store_.listPage(target->type->storeName(), target->ns, {}, 0, then, remaining);
    HttpResponse response;
    response.body = renderList(*target->type, old.objects, {old.resourceVersion, "", std::nullopt},
                               negotiate(request));
    context.exchange.send(response);
    return;
  }
  resource(context, *target);
}

std::optional<ApiServer::Target> ApiServer::parseTarget(
    const std::vector<std::string>& parts) const {
  const bool core = parts[0] == "api";
  const std::string group = core ? "" : parts[1];
  const std::string version = core ? parts[1] : parts[2];
  std::vector<std::string> rest(parts.begin() + (core ? 2 : 3), parts.end());
  Target target;
  if (rest.size() >= 3 && rest[0] == "namespaces" &&
      !(core && (rest[2] == "status" || rest[2] == "finalize") && rest.size() == 3)) {
    target.ns = rest[1];
    rest.erase(rest.begin(), rest.begin() + 2);
  }
  if (rest.empty() || rest.size() > 3) return std::nullopt;
  target.type = registry_.find(group, version, rest[0]);
  if (!target.type) return std::nullopt;
  if (rest.size() > 1) target.name = rest[1];
  if (rest.size() > 2) target.subresource = rest[2];
  if (target.type->namespaced) {
    if (target.ns.empty() && !target.name.empty()) return std::nullopt;
  } else if (!target.ns.empty()) {
    return std::nullopt;
  }
  return target;
}

void ApiServer::resource(Context& context, const Target& target) {
  const HttpRequest& request = context.request;
  const ResourceType& type = *target.type;
  if (const auto dryRun = request.parameter("dryRun"); dryRun && !dryRun->empty()) {
    if (*dryRun != "All") {
      throw badRequest("dryRun: Unsupported value: \"" + *dryRun + "\": supported values: \"All\"");
    }
    context.dryRun = true;
  }
  // Before field validation existed, servers dropped what they did not know.
  if (!options_.emulation.atLeast(25)) {
    context.fieldValidation = "Ignore";
  } else if (const auto v = request.parameter("fieldValidation"); v && !v->empty()) {
    if (*v != "Strict" && *v != "Warn" && *v != "Ignore") {
      throw badRequest("fieldValidation: Unsupported value: \"" + *v +
                       "\": supported values: \"Ignore\", \"Strict\", \"Warn\"");
    }
    context.fieldValidation = *v;
  }
  if (const auto manager = request.parameter("fieldManager"); manager && !manager->empty()) {
    context.manager = *manager;
  } else {
    const std::string agent = request.header("User-Agent");
    context.manager = agent.substr(0, std::min(agent.find('/'), agent.size())).substr(0, 128);
    if (context.manager.empty()) context.manager = "unknown";
  }
  context.rendering = negotiate(request);

  const std::string& method = request.method;
  const std::string& sub = target.subresource;
  if (!sub.empty() && sub != "status") {
    if (type.group.empty() && type.plural == "serviceaccounts" && sub == "token") {
      if (method != "POST") throw methodNotAllowed();
      return tokenRequest(context, target);
    }
    if (type.group.empty() && type.plural == "pods" && (sub == "eviction" || sub == "binding")) {
      if (method != "POST") throw methodNotAllowed();
      return sub == "eviction" ? evict(context, target) : bindPod(context, target);
    }
    if (sub == "scale" && type.group == "apps" &&
        (type.plural == "deployments" || type.plural == "replicasets")) {
      return scale(context, target);
    }
    const bool finalize = type.group.empty() && type.plural == "namespaces" && sub == "finalize";
    if (!finalize) throw noSuchResource();
    if (method != "PUT") throw methodNotAllowed();
    return update(context, target);
  }
  if (sub == "status" && !type.hasStatus) throw noSuchResource();
  if (method == "GET" || method == "HEAD") {
    if (isTrue(request.parameter("watch"))) return watch(context, target);
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

// ---- reading

Selector ApiServer::selectorOf(const Context& context, const Target& target) const {
  return {LabelSelector(context.request.parameter("labelSelector").value_or("")),
          FieldSelector(context.request.parameter("fieldSelector").value_or(""), *target.type)};
}

void ApiServer::get(Context& context, const Target& target) {
  const ObjectPtr object = store_.get(target.type->storeName(), target.ns, target.name);
  if (!object) throw notFound(target.type->group, target.type->plural, target.name);
  answer(context, 200, target, object);
}

void ApiServer::list(Context& context, const Target& target) {
  const HttpRequest& request = context.request;
  const Selector selector = selectorOf(context, target);
  std::size_t limit = 0;
  if (const auto text = request.parameter("limit"); text && !text->empty()) {
    limit = parseVersion("limit", *text);
  }
  const std::string version = request.parameter("resourceVersion").value_or("");
  const std::string match = request.parameter("resourceVersionMatch").value_or("");
  const std::string token = request.parameter("continue").value_or("");
  if (!match.empty()) {
    if (match != "Exact" && match != "NotOlderThan") {
      throw badRequest("resourceVersionMatch: Unsupported value: \"" + match +
                       "\": supported values: \"Exact\", \"NotOlderThan\"");
    }
    if (version.empty()) {
      throw forbiddenMatch(
          "resourceVersionMatch is forbidden unless "
          "resourceVersion is provided");
    }
    if (!token.empty()) {
      throw forbiddenMatch(
          "resourceVersionMatch is forbidden when continue is "
          "provided");
    }
    if (match == "Exact" && version == "0") {
      throw forbiddenMatch(
          "resourceVersionMatch \"exact\" is forbidden for "
          "resourceVersion \"0\"");
    }
  }
  std::uint64_t at = 0;
  std::string after;
  if (!token.empty()) {
    const auto decoded = base64UrlDecode(token);
    const Json value = decoded ? Json::parse(*decoded, nullptr, false) : Json();
    if (!value.is_object() || value.value("v", "") != "meta.k8s.io/v1" || !value.contains("rv")) {
      throw badRequest("continue key is not valid: illegal base64 data or unknown version");
    }
    if (!version.empty() && version != "0") {
      throw badRequest("specifying resource version is not allowed when using continue");
    }
    at = value["rv"].get<std::uint64_t>();
    after = value.value("start", "");
  } else if (!version.empty() && version != "0") {
    const std::uint64_t wanted = parseVersion("resourceVersion", version);
    if (wanted > store_.resourceVersion()) {
      StatusError error(504, "Timeout",
                        "Too large resource version: " + version +
                            ", current: " + std::to_string(store_.resourceVersion()),
                        Json{{"causes",
                              {{{"reason", "ResourceVersionTooLarge"},
                                {"message", "Too large resource version"}}}},
                             {"retryAfterSeconds", 1}});
      throw error;
    }
    // With a limit and no match, an old API server takes it as exact.
    if (match == "Exact" || (match.empty() && limit != 0)) at = wanted;
  }
  std::size_t remaining = 0;
  Snapshot page;
  try {
    page = store_.listPage(target.type->storeName(), target.ns, after, selector.empty() ? limit : 0,
                           at, remaining);
  } catch (const StatusError& error) {
    if (error.code() != 410 || token.empty()) throw;
    throw expired(
        "The provided continue parameter is too old to display a consistent list result. You can "
        "start a new list without the continue parameter.");
  }
  ListMeta meta;
  meta.resourceVersion = page.resourceVersion;
  if (!selector.empty()) {
    std::vector<ObjectPtr> chosen;
    for (ObjectPtr& object : page.objects) {
      if (!selector.matches(*object)) continue;
      if (limit != 0 && chosen.size() == limit) {
        meta.continueToken = continueToken(page.resourceVersion, keyOf(*chosen.back()));
        break;
      }
      chosen.push_back(std::move(object));
    }
    page.objects = std::move(chosen);
  } else if (remaining > 0) {
    meta.continueToken = continueToken(page.resourceVersion, keyOf(*page.objects.back()));
    meta.remaining = remaining;
  }
  HttpResponse response;
  response.contentType = context.rendering.contentType();
  response.body = renderList(*target.type, page.objects, meta, context.rendering);
  context.exchange.send(response);
}

void ApiServer::watch(Context& context, const Target& target) {
  const HttpRequest& request = context.request;
  const ResourceType& type = *target.type;
  Selector selector = selectorOf(context, target);
  const std::string version = request.parameter("resourceVersion").value_or("");
  const bool bookmarks = isTrue(request.parameter("allowWatchBookmarks"));
  const bool initialEvents =
      options_.emulation.atLeast(32) && isTrue(request.parameter("sendInitialEvents"));
  // Checked since 1.19. Clients that ask for a streamed list notice by this that an older server
  // does not know how.
  const std::string match = request.parameter("resourceVersionMatch").value_or("");
  if (initialEvents && match != "NotOlderThan") {
    throw forbiddenMatch("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
  }
  if (!initialEvents && !match.empty()) {
    throw forbiddenMatch(options_.emulation.atLeast(27)
                             ? "resourceVersionMatch is forbidden for watch unless "
                               "sendInitialEvents is provided"
                             : "resourceVersionMatch is forbidden for watch");
  }
  std::chrono::seconds timeout = options_.maxWatch;
  if (const auto text = request.parameter("timeoutSeconds"); text && !text->empty()) {
    const auto seconds = static_cast<std::int64_t>(parseVersion("timeoutSeconds", *text));
    if (seconds > 0) timeout = std::min(timeout, std::chrono::seconds(seconds));
  }
  const bool synthetic = version.empty() || version == "0" || initialEvents;

  bool firstTable = true;
  const auto event = [&](const char* kind, const StoredObject& object) {
    std::string line = "{\"type\":\"";
    line += kind;
    line += "\",\"object\":";
    line += renderEventObject(type, object, context.rendering, firstTable);
    line += "}\n";
    firstTable = false;
    return line;
  };
  const auto bookmark = [&](std::uint64_t at, bool initialEnd) {
    Json object = {{"kind", type.kind},
                   {"apiVersion", type.groupVersion()},
                   {"metadata", {{"resourceVersion", std::to_string(at)}}}};
    if (context.rendering.form == Rendering::Form::kTable) {
      object = {{"kind", "Table"},
                {"apiVersion", "meta.k8s.io/v1"},
                {"metadata", {{"resourceVersion", std::to_string(at)}}},
                {"columnDefinitions", Json::array()},
                {"rows", Json::array()}};
    }
    if (initialEnd) object["metadata"]["annotations"] = {{"k8s.io/initial-events-end", "true"}};
    return Json{{"type", "BOOKMARK"}, {"object", object}}.dump() + "\n";
  };

  std::unique_ptr<Subscription> subscription;
  Snapshot snapshot;
  std::string failure;
  try {
    if (synthetic) {
      subscription = store_.listAndWatch(type.storeName(), snapshot);
    } else {
      subscription = store_.watch(type.storeName(), parseVersion("resourceVersion", version));
    }
  } catch (const StatusError& error) {
    if (error.code() != 410 && error.code() != 504) throw;
    failure = Json{{"type", "ERROR"}, {"object", error.toJson()}}.dump() + "\n";
  }
  context.exchange.begin(200, context.rendering.contentType());
  if (!failure.empty()) {
    context.exchange.write(failure);
    return;
  }
  const auto wanted = [&](const StoredObject& object) {
    return (target.ns.empty() || object.ns == target.ns) &&
           (target.name.empty() || object.name == target.name) && selector.matches(object);
  };
  std::string pending;
  for (const ObjectPtr& object : snapshot.objects) {
    if (!wanted(*object)) continue;
    pending += event("ADDED", *object);
    if (pending.size() > (1u << 20)) {
      if (!context.exchange.write(pending)) return;
      pending.clear();
    }
  }
  if (initialEvents && bookmarks) pending += bookmark(snapshot.resourceVersion, true);
  snapshot.objects.clear();
  if (!context.exchange.write(pending)) return;

  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + timeout;
  auto nextBookmark = Clock::now() + options_.bookmarkInterval;
  std::uint64_t lastSent = 0;
  while (!subscription->stopped()) {
    const auto now = Clock::now();
    if (now >= end) return;
    auto until = end;
    if (bookmarks) until = std::min(until, nextBookmark);
    const auto wait = std::chrono::duration_cast<std::chrono::milliseconds>(until - now) +
                      std::chrono::milliseconds(1);
    if (!context.exchange.waitFor(subscription->fd(), std::min<std::chrono::milliseconds>(
                                                          wait, std::chrono::seconds(60))))
      return;
    const std::uint64_t progress = subscription->progress();
    pending.clear();
    std::vector<std::uint64_t> versions;
    while (const auto e = subscription->tryNext()) {
      const bool after = e->type != EventType::kDeleted && wanted(*e->object);
      const bool before = e->previous && wanted(*e->previous);
      if (watchLog_ && (after || before)) versions.push_back(e->resourceVersion);
      if (after) {
        pending += event(before ? "MODIFIED" : "ADDED", *e->object);
      } else if (before) {
        pending += event("DELETED", *e->object);
      }
      if (pending.size() > (1u << 20)) {
        if (!context.exchange.write(pending)) return;
        pending.clear();
      }
    }
    if (bookmarks && Clock::now() >= nextBookmark) {
      nextBookmark = Clock::now() + options_.bookmarkInterval;
      if (progress > lastSent) pending += bookmark(progress, false);
      lastSent = progress;
    }
    const auto sent = Clock::now();
    if (!context.exchange.write(pending)) return;
    if (!versions.empty()) logSent(context, type, sent, versions);
  }
  if (subscription->overflowed()) {
    spdlog::warn("a watch of {} by {} was too slow and is ended", type.plural, context.user.name);
  }
}

void ApiServer::logSent(const Context& context, const ResourceType& type,
                        std::chrono::steady_clock::time_point at,
                        const std::vector<std::uint64_t>& versions) const {
  std::string lines;
  for (const std::uint64_t version : versions) {
    lines += fmt::format("{} {} {} {}\n", std::chrono::nanoseconds(at.time_since_epoch()).count(),
                         type.plural, context.user.name, version);
  }
  // Whole lines reach the file at once: whoever follows it never sees a half one.
  std::fwrite(lines.data(), 1, lines.size(), watchLog_.get());
  std::fflush(watchLog_.get());
}

// ---- writing

Json ApiServer::decodeBody(const Context& context, const std::string& what, bool protobuf) const {
  const HttpRequest& request = context.request;
  std::string media = request.header("Content-Type");
  media = media.substr(0, media.find(';'));
  while (!media.empty() && media.back() == ' ')
    media.pop_back();
  Json body;
  if (media.empty() || media == "application/json") {
    body = Json::parse(request.body, nullptr, false);
    if (body.is_discarded()) {
      throw badRequest(what + ": the body is not JSON");
    }
  } else if (media == "application/yaml") {
    body = parseYaml(request.body);
  } else if (media == "application/vnd.kubernetes.protobuf" && protobuf) {
    body = decodeProtobuf(request.body);
  } else {
    throw StatusError(415, "UnsupportedMediaType",
                      "the body of the request was in an unknown format - accepted media types "
                      "include: application/json, application/yaml",
                      Json::object());
  }
  if (!body.is_object()) throw badRequest(what + ": the body must be an object");
  return body;
}

void ApiServer::checkIdentity(Json& object, const Target& target) const {
  const ResourceType& type = *target.type;
  const std::string apiVersion = stringAt(object, {"apiVersion"});
  const std::string kind = stringAt(object, {"kind"});
  if (apiVersion.empty()) object["apiVersion"] = type.groupVersion();
  if (kind.empty()) object["kind"] = type.kind;
  if (type.custom && (apiVersion.empty() || kind.empty())) {
    throw badRequest("Object 'Kind' is missing in '" + object.dump().substr(0, 200) + "'");
  }
  if (object["apiVersion"] != type.groupVersion()) {
    throw badRequest("the API version in the data (" + apiVersion +
                     ") does not match the expected API version (" + type.groupVersion() + ")");
  }
  if (object["kind"] != type.kind) {
    throw badRequest(type.kind + " in version \"" + type.version + "\" cannot be handled as a " +
                     type.kind + ": the data is of kind " + kind);
  }
  if (!object.contains("metadata") || object["metadata"].is_null())
    object["metadata"] = Json::object();
  Json& metadata = object["metadata"];
  if (!metadata.is_object()) throw badRequest("metadata: must be an object");
  dropNulls(metadata);
  for (const char* field : {"name", "generateName", "namespace", "uid", "resourceVersion"}) {
    if (metadata.contains(field) && !metadata[field].is_string()) {
      throw badRequest("json: cannot unmarshal into Go struct field ObjectMeta.metadata." +
                       std::string(field) + " of type string");
    }
  }
  for (const char* field : {"labels", "annotations"}) {
    if (!metadata.contains(field)) continue;
    if (!metadata[field].is_object()) {
      throw badRequest("json: cannot unmarshal into Go struct field ObjectMeta.metadata." +
                       std::string(field) + " of type map[string]string");
    }
    for (const auto& [key, value] : metadata[field].items()) {
      if (!value.is_string()) {
        throw badRequest(std::string("json: cannot unmarshal ") + value.type_name() +
                         " into Go struct field ObjectMeta.metadata." + field + " of type string");
      }
    }
    if (metadata[field].empty()) metadata.erase(field);
  }
  for (const char* field : {"finalizers", "ownerReferences", "managedFields"}) {
    if (metadata.contains(field) && !metadata[field].is_array()) {
      throw badRequest("json: cannot unmarshal into Go struct field ObjectMeta.metadata." +
                       std::string(field) + " of type array");
    }
  }
  const std::string ns = metadata.value("namespace", "");
  if (type.namespaced) {
    if (ns.empty()) {
      metadata["namespace"] = target.ns;
    } else if (ns != target.ns) {
      throw badRequest(
          "the namespace of the provided object does not match the namespace sent on the request");
    }
  } else if (!ns.empty()) {
    throw badRequest("namespace is not allowed on cluster-scoped resources: " + ns);
  }
  const std::string name = metadata.value("name", "");
  if (!target.name.empty()) {
    if (name.empty()) {
      metadata["name"] = target.name;
    } else if (name != target.name) {
      throw badRequest("the name of the object (" + name +
                       ") does not match the name on the URL (" + target.name + ")");
    }
  }
}

// Drops what the type does not know; says so as the client asked.
void ApiServer::clean(Json& object, const Target& target, Context& context) const {
  const ResourceType& type = *target.type;
  if (!type.custom) dropNulls(object);
  std::vector<std::string> dropped;
  static const std::set<std::string> known = {"name",
                                              "generateName",
                                              "namespace",
                                              "selfLink",
                                              "uid",
                                              "resourceVersion",
                                              "generation",
                                              "creationTimestamp",
                                              "deletionTimestamp",
                                              "deletionGracePeriodSeconds",
                                              "labels",
                                              "annotations",
                                              "ownerReferences",
                                              "finalizers",
                                              "clusterName",
                                              "managedFields"};
  Json& metadata = object["metadata"];
  for (auto member = metadata.begin(); member != metadata.end();) {
    if (known.contains(member.key())) {
      ++member;
    } else {
      dropped.push_back("metadata." + member.key());
      member = metadata.erase(member);
    }
  }
  metadata.erase("selfLink");
  metadata.erase("clusterName");
  if (type.schema) type.schema->prune(object, dropped);
  if (dropped.empty()) return;
  if (context.fieldValidation == "Strict") {
    std::string text;
    for (const std::string& field : dropped) {
      text += (text.empty() ? "" : ", ") + ("unknown field \"" + field + "\"");
    }
    const std::string message = "strict decoding error: " + text;
    throw badRequest(type.custom ? message
                                 : type.kind + " in version \"" + type.version +
                                       "\" cannot be handled as a " + type.kind + ": " + message);
  }
  if (context.fieldValidation == "Warn") {
    for (const std::string& field : dropped) {
      context.warnings.push_back("unknown field \"" + field + "\"");
    }
  }
}

std::vector<FieldError> ApiServer::validateMetadata(const Json& object,
                                                    const ResourceType& type) const {
  std::vector<FieldError> errors;
  const Json& metadata = object["metadata"];
  const std::string name = metadata.value("name", "");
  if (name.empty()) {
    errors.push_back({"metadata.name", "FieldValueRequired",
                      "Required value: name or generateName is required"});
  } else {
    std::string why;
    const bool rbac = type.group == "rbac.authorization.k8s.io";
    if (rbac) {
      if (name.find_first_of("/%") != std::string::npos || name == "." || name == "..") {
        why = "may not contain '/' or '%', nor be '.' or '..'";
      }
    } else if (type.group.empty() && type.plural == "namespaces") {
      why = checkDns1123Label(name);
    } else if (!(type.group.empty() && type.plural == "services")) {
      why = checkDns1123Subdomain(name);
    }
    if (!why.empty()) {
      errors.push_back({"metadata.name", "FieldValueInvalid",
                        "Invalid value: " + Json(name).dump() + ": " + why});
    }
  }
  if (metadata.contains("labels")) checkLabels(metadata["labels"], "metadata.labels", errors);
  if (metadata.contains("annotations")) {
    std::size_t total = 0;
    for (const auto& [key, value] : metadata["annotations"].items()) {
      std::string folded = key;
      std::transform(folded.begin(), folded.end(), folded.begin(),
                     [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
      if (const auto why = checkQualifiedName(folded); !why.empty()) {
        errors.push_back({"metadata.annotations", "FieldValueInvalid",
                          "Invalid value: " + Json(key).dump() + ": " + why});
      }
      total += key.size() + value.get_ref<const std::string&>().size();
    }
    if (total > 262144) {
      errors.push_back({"metadata.annotations", "FieldValueTooLong",
                        "Too long: may not be more than 262144 bytes"});
    }
  }
  if (metadata.contains("finalizers")) {
    for (std::size_t i = 0; i < metadata["finalizers"].size(); ++i) {
      const Json& f = metadata["finalizers"][i];
      const std::string text = f.is_string() ? f.get<std::string>() : "";
      if (const auto why = checkQualifiedName(text); !why.empty()) {
        errors.push_back({"metadata.finalizers[" + std::to_string(i) + "]", "FieldValueInvalid",
                          "Invalid value: " + f.dump() + ": " + why});
      }
    }
  }
  if (metadata.contains("ownerReferences")) {
    int controllers = 0;
    for (std::size_t i = 0; i < metadata["ownerReferences"].size(); ++i) {
      const Json& owner = metadata["ownerReferences"][i];
      for (const char* field : {"apiVersion", "kind", "name", "uid"}) {
        if (stringAt(owner, {field}).empty()) {
          errors.push_back({"metadata.ownerReferences[" + std::to_string(i) + "]." + field,
                            "FieldValueInvalid", "Invalid value: \"\": must not be empty"});
        }
      }
      if (owner.is_object() && owner.value("controller", false)) ++controllers;
    }
    if (controllers > 1) {
      errors.push_back({"metadata.ownerReferences", "FieldValueInvalid",
                        "Invalid value: Only one reference can have Controller set to true"});
    }
  }
  return errors;
}

void ApiServer::requireNamespace(const Target& target) const {
  if (!target.type->namespaced) return;
  const ObjectPtr ns = store_.get("namespaces", "", target.ns);
  if (!ns) throw notFound("", "namespaces", target.ns);
  if (at(ns->parse(), {"metadata", "deletionTimestamp"}) != nullptr) {
    StatusError error(403, "Forbidden",
                      target.type->plural +
                          " is forbidden: unable to create new content in namespace " + target.ns +
                          " because it is being terminated",
                      Json{{"kind", target.type->plural},
                           {"causes",
                            {{{"reason", "NamespaceTerminating"},
                              {"message", "namespace " + target.ns + " is being terminated"},
                              {"field", "metadata.namespace"}}}}});
    throw error;
  }
}

ObjectPtr ApiServer::unstored(const Json& object, std::uint64_t version) {
  auto stored = std::make_shared<StoredObject>();
  stored->name = stringAt(object, {"metadata", "name"});
  stored->ns = stringAt(object, {"metadata", "namespace"});
  stored->uid = stringAt(object, {"metadata", "uid"});
  stored->resourceVersion = version;
  stored->json = object.dump();
  return stored;
}

namespace {

// Type errors of builtin types are decoding errors in a real API server.
void throwIfInvalid(const ResourceType& type, const std::string& name,
                    const std::vector<FieldError>& errors) {
  if (errors.empty()) return;
  if (!type.custom) {
    for (const FieldError& error : errors) {
      if (error.reason != "FieldValueTypeInvalid") continue;
      throw badRequest(type.kind + " in version \"" + type.version + "\" cannot be handled as a " +
                       type.kind + ": json: cannot unmarshal field " + error.field + ": " +
                       error.message);
    }
  }
  throw invalid(type.group, type.kind, name, errors);
}

}  // namespace

ObjectPtr ApiServer::createObject(Context& context, const Target& target, Json object) {
  const ResourceType& type = *target.type;
  checkIdentity(object, target);
  if (!stringAt(object, {"metadata", "resourceVersion"}).empty()) {
    throw badRequest("resourceVersion should not be set on objects to be created");
  }
  requireNamespace(target);
  clean(object, target, context);
  Json& metadata = object["metadata"];
  for (const char* field : {"uid", "creationTimestamp", "deletionTimestamp",
                            "deletionGracePeriodSeconds", "generation", "resourceVersion"}) {
    metadata.erase(field);
  }
  const RequestInfo info = context.info("");
  const Json given = metadata.contains("managedFields") ? metadata["managedFields"] : Json();
  const bool generated =
      metadata.value("name", "").empty() && !metadata.value("generateName", "").empty();
  if (type.hasStatus && type.custom) object.erase("status");
  if (type.prepareForCreate) type.prepareForCreate(object, info);
  if (type.generations) metadata["generation"] = 1;
  for (int attempt = 0;; ++attempt) {
    if (generated)
      metadata["name"] = metadata.value("generateName", "").substr(0, 58) + randomSuffix();
    if (attempt == 0) {
      if (type.schema) type.schema->applyDefaults(object);
      if (type.applyDefaults) type.applyDefaults(object);
    }
    std::vector<FieldError> errors = validateMetadata(object, type);
    if (type.schema) {
      for (FieldError& e : type.schema->validate(object, nullptr))
        errors.push_back(std::move(e));
    }
    const bool typed = std::any_of(errors.begin(), errors.end(), [](const FieldError& e) {
      return e.reason == "FieldValueTypeInvalid";
    });
    if (type.validate && !typed) {
      for (FieldError& e : type.validate(object, nullptr, info))
        errors.push_back(std::move(e));
    }
    throwIfInvalid(type, metadata.value("name", ""), errors);
    if (attempt == 0) admit(context, target, "CREATE", &object, nullptr);
    if (given.is_null() && attempt == 0) {
      trackUpdate(object, nullptr, {context.manager, type.groupVersion(), ""}, type.openApiSchema);
    }
    if (type.allocate) type.allocate(object, nullptr, info);
    if (type.custom) object["apiVersion"] = type.group + "/" + type.storageVersion;
    if (context.dryRun) {
      if (store_.get(type.storeName(), target.ns, metadata.value("name", ""))) {
        throw alreadyExists(type.group, type.plural, metadata.value("name", ""));
      }
      metadata["uid"] = "00000000-0000-4000-8000-000000000000";
      metadata["creationTimestamp"] = formatTime(std::chrono::system_clock::now());
      return unstored(object, 0);
    }
    try {
      ObjectPtr stored = store_.create(type.storeName(), object);
      if (type.afterWrite) {
        const Json now = stored->parse();
        type.afterWrite(nullptr, &now);
      }
      return stored;
    } catch (const StatusError& error) {
      if (type.abandon) type.abandon(object, nullptr);
      if (error.code() != 409 || !generated || attempt == 7) throw;
    }
  }
}

ObjectPtr ApiServer::updateObject(Context& context, const Target& target, const ObjectPtr& before,
                                  Json object, bool track) {
  const ResourceType& type = *target.type;
  const bool status = target.subresource == "status";
  checkIdentity(object, target);
  clean(object, target, context);
  Json old = before->parse();
  const Json stored = old;
  old["apiVersion"] = type.groupVersion();
  Json& metadata = object["metadata"];
  const std::string version = metadata.value("resourceVersion", "");
  const std::string uid = metadata.value("uid", "");
  if (!uid.empty() && uid != before->uid) {
    throw conflict(type.group, type.plural, target.name,
                   "Precondition failed: UID in precondition: " + uid +
                       ", UID in object meta: " + before->uid);
  }
  if (!version.empty() && version != "0" &&
      parseVersion("metadata.resourceVersion", version) != before->resourceVersion) {
    throw conflict(type.group, type.plural, target.name,
                   "the object has been modified; please apply your changes to the latest version "
                   "and try again");
  }
  const Json tracked = metadata.contains("managedFields") ? metadata["managedFields"] : Json();
  if (status) {
    // Only the status is taken, and of the metadata what is not the owner's.
    Json next = old;
    if (object.contains("status")) {
      next["status"] = object["status"];
    } else {
      next.erase("status");
    }
    object = std::move(next);
    if (!track && !tracked.is_null()) object["metadata"]["managedFields"] = tracked;
  } else {
    if (type.hasStatus) {
      if (old.contains("status")) {
        object["status"] = old["status"];
      } else {
        object.erase("status");
      }
    }
    for (const char* field : {"uid", "creationTimestamp", "deletionTimestamp",
                              "deletionGracePeriodSeconds", "generation", "generateName"}) {
      if (old["metadata"].contains(field)) {
        object["metadata"][field] = old["metadata"][field];
      } else {
        object["metadata"].erase(field);
      }
    }
    if (old["metadata"].contains("deletionTimestamp") &&
        object["metadata"].contains("finalizers")) {
      // No new finalizers on what is going.
      const Json had = old["metadata"].value("finalizers", Json::array());
      for (const Json& f : object["metadata"]["finalizers"]) {
        if (std::find(had.begin(), had.end(), f) == had.end()) {
          throw invalid(type.group, type.kind, target.name,
                        {{"metadata.finalizers", "FieldValueForbidden",
                          "Forbidden: no new finalizers can be added if the object is being "
                          "deleted, found new finalizers []string{" +
                              f.dump() + "}"}});
        }
      }
    }
  }
  const RequestInfo info = context.info(target.subresource);
  if (type.prepareForUpdate) type.prepareForUpdate(object, old, info);
  if (type.schema) type.schema->applyDefaults(object);
  if (type.applyDefaults) type.applyDefaults(object);
  std::vector<FieldError> errors = validateMetadata(object, type);
  if (type.schema) {
    for (FieldError& e : type.schema->validate(object, &old))
      errors.push_back(std::move(e));
  }
  const bool typed = std::any_of(errors.begin(), errors.end(), [](const FieldError& e) {
    return e.reason == "FieldValueTypeInvalid";
  });
  if (type.validate && !typed) {
    for (FieldError& e : type.validate(object, &old, info))
      errors.push_back(std::move(e));
  }
  throwIfInvalid(type, target.name, errors);
  admit(context, target, "UPDATE", &object, &old);
  if (!status && type.allocate) type.allocate(object, &old, info);
  if (type.generations && !status) {
    if (specOf(object, type.hasStatus) != specOf(old, type.hasStatus)) {
      object["metadata"]["generation"] = old["metadata"].value("generation", 0) + 1;
    }
  }
  object["metadata"]["resourceVersion"] = std::to_string(before->resourceVersion);
  if (track) {
    trackUpdate(object, &old, {context.manager, type.groupVersion(), target.subresource},
                type.openApiSchema);
  }
  if (type.custom) object["apiVersion"] = type.group + "/" + type.storageVersion;
  if (context.dryRun) {
    if (!status && type.abandon) type.abandon(object, &old);
    return unstored(object, before->resourceVersion);
  }
  try {
    ObjectPtr result = store_.update(type.storeName(), object, before->resourceVersion);
    if (result->resourceVersion != before->resourceVersion) {
      if (type.afterWrite) {
        const Json now = result->parse();
        type.afterWrite(&stored, &now);
      }
      removeIfFinalized(store_, type, result);
    }
    return result;
  } catch (const StatusError&) {
    if (!status && type.abandon) type.abandon(object, &old);
    throw;
  }
}

void ApiServer::answer(Context& context, int status, const Target& target,
                       const ObjectPtr& object) const {
  HttpResponse response;
  response.status = status;
  response.contentType = context.rendering.contentType();
  response.body = renderObject(*target.type, *object, context.rendering);
  if (!context.rendering.yaml) response.body += '\n';
  for (const std::string& warning : context.warnings) {
    response.headers.emplace_back("Warning", "299 - " + Json(warning).dump());
  }
  context.exchange.send(response);
}

void ApiServer::sendJson(Context& context, int status, const Json& body) {
  HttpResponse response;
  response.status = status;
  response.body = body.dump() + "\n";
  for (const std::string& warning : context.warnings) {
    response.headers.emplace_back("Warning", "299 - " + Json(warning).dump());
  }
  context.exchange.send(response);
}

void ApiServer::create(Context& context, const Target& target) {
  if (target.type->namespaced && target.ns.empty()) throw methodNotAllowed();
  const ObjectPtr object =
      createObject(context, target, decodeBody(context, target.type->kind, !target.type->custom));
  answer(context, 201, target, object);
}

void ApiServer::update(Context& context, const Target& target) {
  const Json object = decodeBody(context, target.type->kind, !target.type->custom);
  const bool unconditional = stringAt(object, {"metadata", "resourceVersion"}).empty();
  if (unconditional && target.type->custom) {
    throw invalid(target.type->group, target.type->kind, target.name,
                  {{"metadata.resourceVersion", "FieldValueInvalid",
                    "Invalid value: 0x0: must be specified for an update"}});
  }
  for (int attempt = 0;; ++attempt) {
    const ObjectPtr before = store_.get(target.type->storeName(), target.ns, target.name);
    if (!before) throw notFound(target.type->group, target.type->plural, target.name);
    try {
      answer(context, 200, target, updateObject(context, target, before, object, true));
      return;
    } catch (const StatusError& error) {
      if (error.code() != 409 || !unconditional || attempt == 20) throw;
    }
  }
}

void ApiServer::patch(Context& context, const Target& target) {
  const HttpRequest& request = context.request;
  const ResourceType& type = *target.type;
  std::string media = request.header("Content-Type");
  media = media.substr(0, media.find(';'));
  const bool apply = media == "application/apply-patch+yaml";
  const bool strategic = media == "application/strategic-merge-patch+json";
  const bool merge = media == "application/merge-patch+json";
  const bool json = media == "application/json-patch+json";
  if ((!apply && !strategic && !merge && !json) || (strategic && type.custom)) {
    std::string accepted = "application/json-patch+json, application/merge-patch+json";
    if (!type.custom) accepted += ", application/strategic-merge-patch+json";
    throw StatusError(415, "UnsupportedMediaType",
                      "the body of the request was in an unknown format - accepted media types "
                      "include: " +
                          accepted + ", application/apply-patch+yaml",
                      Json::object());
  }
  Json body = apply ? parseYaml(request.body) : Json::parse(request.body, nullptr, false);
  if (body.is_discarded()) throw badRequest("error decoding patch: the body is not JSON");
  const bool force = isTrue(request.parameter("force"));
  if (force && !apply) {
    throw invalid(
        "meta.k8s.io", "PatchOptions", "",
        {{"force", "FieldValueForbidden", "Forbidden: may not be specified for non-apply patch"}});
  }
  if (apply) {
    if (!request.parameter("fieldManager") || request.parameter("fieldManager")->empty()) {
      throw invalid(
          "meta.k8s.io", "PatchOptions", "",
          {{"fieldManager", "FieldValueRequired", "Required value: is required for apply patch"}});
    }
    if (!body.is_object()) throw badRequest("error decoding YAML: an object was expected");
    if (body.contains("metadata") && body["metadata"].is_object() &&
        body["metadata"].contains("managedFields") &&
        !body["metadata"]["managedFields"].is_null()) {
      throw badRequest("metadata.managedFields must be nil");
    }
    if (stringAt(body, {"apiVersion"}).empty() || stringAt(body, {"kind"}).empty()) {
      throw badRequest("Object 'Kind' is missing in the configuration to apply");
    }
    const std::string version = stringAt(body, {"metadata", "resourceVersion"});
    checkIdentity(body, target);
    if (version.empty()) body["metadata"].erase("resourceVersion");
    clean(body, target, context);
    if (type.storeName() == "apiextensions.k8s.io/customresourcedefinitions") {
      CustomResources::checkApplied(body, options_.emulation);
    }
    if (target.subresource == "status") {
      Json only = {{"apiVersion", body["apiVersion"]},
                   {"kind", body["kind"]},
                   {"metadata", body["metadata"]}};
      if (body.contains("status")) only["status"] = body["status"];
      body = std::move(only);
    } else if (type.hasStatus) {
      body.erase("status");
    }
  }
  for (int attempt = 0;; ++attempt) {
    const ObjectPtr before = store_.get(type.storeName(), target.ns, target.name);
    if (!before) {
      if (!apply || !target.subresource.empty())
        throw notFound(type.group, type.plural, target.name);
      AccessRequest access = accessOf(request, target);
      access.verb = "create";
      authorize(context, access);
      Json fresh = serverSideApply(nullptr, body, {context.manager, type.groupVersion(), ""}, force,
                                   type.openApiSchema);
      fresh["apiVersion"] = type.groupVersion();
      fresh["kind"] = type.kind;
      try {
        answer(context, 201, target, createObject(context, target, std::move(fresh)));
        return;
      } catch (const StatusError& error) {
        if (error.reason() != "AlreadyExists" || attempt == 5) throw;
        continue;
      }
    }
    Json object = before->parse();
    object["apiVersion"] = type.groupVersion();
    if (apply) {
      object =
          serverSideApply(&object, body, {context.manager, type.groupVersion(), target.subresource},
                          force, type.openApiSchema);
      if (!body["metadata"].contains("resourceVersion")) {
        object["metadata"]["resourceVersion"] = std::to_string(before->resourceVersion);
      }
    } else if (strategic) {
      applyStrategicMergePatch(object, body, type.openApiSchema);
    } else if (merge) {
      applyMergePatch(object, body);
    } else {
      applyJsonPatch(object, body);
    }
    const Json* wanted = apply || json ? nullptr : at(body, {"metadata", "resourceVersion"});
    const bool conditional =
        wanted != nullptr && wanted->is_string() && !wanted->get_ref<const std::string&>().empty();
    try {
      answer(context, 200, target,
             updateObject(context, target, before, std::move(object), !apply));
      return;
    } catch (const StatusError& error) {
      const bool raced = error.reason() == "Conflict" && error.details().contains("name") &&
                         !conditional && !body.contains("/metadata/uid"_json_pointer) &&
                         attempt < 20;
      if (!raced) throw;
    }
  }
}

// ---- deleting

namespace {

DeleteOptions deleteOptionsOf(const HttpRequest& request, const Json& body, bool dryRun) {
  DeleteOptions options;
  options.dryRun = dryRun;
  options.propagationPolicy = request.parameter("propagationPolicy").value_or("");
  if (const Json* policy = at(body, {"propagationPolicy"});
      policy != nullptr && policy->is_string()) {
    options.propagationPolicy = *policy;
  }
  if (!options.propagationPolicy.empty() && options.propagationPolicy != "Background" &&
      options.propagationPolicy != "Foreground" && options.propagationPolicy != "Orphan") {
    throw invalid("meta.k8s.io", "DeleteOptions", "",
                  {{"propagationPolicy", "FieldValueNotSupported",
                    "Unsupported value: \"" + options.propagationPolicy +
                        "\": supported values: \"Background\", \"Foreground\", \"Orphan\""}});
  }
  const Json* orphan = at(body, {"orphanDependents"});
  if (orphan != nullptr && orphan->is_boolean() && *orphan == true)
    options.propagationPolicy = "Orphan";
  if (const Json* uid = at(body, {"preconditions", "uid"}); uid != nullptr && uid->is_string()) {
    options.uid = *uid;
  }
  if (const Json* version = at(body, {"preconditions", "resourceVersion"});
      version != nullptr && version->is_string()) {
    options.resourceVersion = *version;
  }
  if (const auto grace = request.parameter("gracePeriodSeconds"); grace && !grace->empty()) {
    options.gracePeriodSeconds =
        static_cast<std::int64_t>(parseVersion("gracePeriodSeconds", *grace));
  }
  if (const Json* grace = at(body, {"gracePeriodSeconds"});
      grace != nullptr && grace->is_number_integer()) {
    options.gracePeriodSeconds = std::max<std::int64_t>(0, grace->get<std::int64_t>());
  }
  return options;
}

}  // namespace

void ApiServer::remove(Context& context, const Target& target) {
  const ResourceType& type = *target.type;
  const Json body =
      context.request.body.empty() ? Json::object() : decodeBody(context, "DeleteOptions");
  DeleteOptions options = deleteOptionsOf(context.request, body, context.dryRun);
  if (const Json* dryRun = at(body, {"dryRun"});
      dryRun != nullptr && dryRun->is_array() && !dryRun->empty()) {
    options.dryRun = true;
  }
  if (type.group.empty() && type.plural == "namespaces" &&
      (target.name == "default" || target.name == "kube-system" || target.name == "kube-public")) {
    throw forbidden("", "namespaces", target.name, "this namespace may not be deleted");
  }
  if (const ObjectPtr before = store_.get(type.storeName(), target.ns, target.name)) {
    const Json old = before->parse();
    admit(context, target, "DELETE", nullptr, &old);
  }
  const DeleteResult result = deleteObject(store_, type, target.ns, target.name, options);
  if (!result.removed) return answer(context, 200, target, result.object);
  Json details = {{"name", target.name}, {"kind", type.plural}, {"uid", result.object->uid}};
  if (!type.group.empty()) details["group"] = type.group;
  sendJson(context, 200,
           {{"kind", "Status"},
            {"apiVersion", "v1"},
            {"metadata", Json::object()},
            {"status", "Success"},
            {"details", details}});
}

void ApiServer::removeCollection(Context& context, const Target& target) {
  const ResourceType& type = *target.type;
  if (type.namespaced && target.ns.empty()) throw methodNotAllowed();
  if (type.group.empty() && (type.plural == "namespaces" ||
                             (type.plural == "services" && !options_.emulation.atLeast(23)))) {
    throw methodNotAllowed();
  }
  const Json body =
      context.request.body.empty() ? Json::object() : decodeBody(context, "DeleteOptions");
  const DeleteOptions options = deleteOptionsOf(context.request, body, context.dryRun);
  const Selector selector = selectorOf(context, target);
  Snapshot snapshot = store_.list(type.storeName(), target.ns);
  std::erase_if(snapshot.objects, [&](const ObjectPtr& o) { return !selector.matches(*o); });
  for (const ObjectPtr& object : snapshot.objects) {
    Target one = target;
    one.name = object->name;
    const Json old = object->parse();
    admit(context, one, "DELETE", nullptr, &old);
    try {
      deleteObject(store_, type, object->ns, object->name, options);
    } catch (const StatusError& error) {
      if (error.code() != 404) throw;  // gone already
    }
  }
  HttpResponse response;
  response.body =
      renderList(type, snapshot.objects, {store_.resourceVersion(), "", std::nullopt}, Rendering());
  context.exchange.send(response);
}

void ApiServer::evict(Context& context, const Target& target) {
  decodeBody(context, "Eviction");
  DeleteOptions options;
  options.dryRun = context.dryRun;
  deleteObject(store_, *target.type, target.ns, target.name, options);
  sendJson(context, 201,
           {{"kind", "Status"},
            {"apiVersion", "v1"},
            {"metadata", Json::object()},
            {"status", "Success"}});
}

void ApiServer::bindPod(Context& context, const Target& target) {
  const Json body = decodeBody(context, "Binding");
  const std::string node = stringAt(body, {"target", "name"});
  if (node.empty())
    throw invalid("", "Binding", target.name,
                  {{"target.name", "FieldValueRequired", "Required value"}});
  const ObjectPtr pod = store_.modify("pods", target.ns, target.name, [&](Json& object) {
    const std::string present = stringAt(object, {"spec", "nodeName"});
    if (!present.empty()) {
      throw conflict("", "pods/binding", target.name,
                     "pod " + target.name + " is already assigned to node \"" + present + "\"");
    }
    object["spec"]["nodeName"] = node;
    return true;
  });
  if (!pod) throw notFound("", "pods", target.name);
  sendJson(context, 201,
           {{"kind", "Status"},
            {"apiVersion", "v1"},
            {"metadata", Json::object()},
            {"status", "Success"}});
}

// ---- tokens and reviews

void ApiServer::tokenRequest(Context& context, const Target& target) {
  Json body = decodeBody(context, "TokenRequest");
  const ObjectPtr account = store_.get("serviceaccounts", target.ns, target.name);
  if (!account) throw notFound("", "serviceaccounts", target.name);
  const std::int64_t seconds = intAt(body, {"spec", "expirationSeconds"}, 3600);
  if (seconds < 600) {
    throw invalid("authentication.k8s.io", "TokenRequest", "",
                  {{"spec.expirationSeconds", "FieldValueInvalid",
                    "Invalid value: " + std::to_string(seconds) +
                        ": may not specify a duration less than 10 minutes"}});
  }
  body["apiVersion"] = "authentication.k8s.io/v1";
  body["kind"] = "TokenRequest";
  body["metadata"] = {{"name", target.name}, {"namespace", target.ns}};
  body["spec"]["expirationSeconds"] = seconds;
  if (!body["spec"].contains("audiences") || !body["spec"]["audiences"].is_array() ||
      body["spec"]["audiences"].empty()) {
    body["spec"]["audiences"] = {"https://kubernetes.default.svc.cluster.local"};
  }
  body["status"] = {{"token", authenticator_.mintServiceAccountToken(
                                  target.ns, target.name, account->uid,
                                  std::chrono::seconds(seconds), tokenBinding(target, body))},
                    {"expirationTimestamp",
                     formatTime(std::chrono::system_clock::now() + std::chrono::seconds(seconds))}};
  sendJson(context, 201, body);
}

std::optional<Authenticator::Binding> ApiServer::tokenBinding(const Target& target,
                                                              const Json& body) const {
  const Json* reference = at(body, {"spec", "boundObjectRef"});
  if (reference == nullptr || !reference->is_object()) return std::nullopt;
  if (stringAt(*reference, {"kind"}) != "Pod") {
    throw badRequest("cannot bind token to object of kind " + stringAt(*reference, {"kind"}));
  }
  const std::string name = stringAt(*reference, {"name"});
  const std::string uid = stringAt(*reference, {"uid"});
  const ObjectPtr pod = store_.get("pods", target.ns, name);
  if (!pod) throw notFound("", "pods", name);
  if (!uid.empty() && uid != pod->uid) {
    throw conflict("", "pods", name,
                   "the UID in the bound object reference (" + uid +
                       ") does not match the UID in record. The object might have "
                       "been deleted and then recreated");
  }
  const Json object = pod->parse();
  if (stringAt(object, {"spec", "serviceAccountName"}) != target.name) {
    throw badRequest("cannot bind token for serviceaccount \"" + target.name + "\" to pod \"" +
                     name + "\" running with different serviceaccount name.");
  }
  Authenticator::Binding binding{name, pod->uid, "", ""};
  const std::string node = stringAt(object, {"spec", "nodeName"});
  if (options_.emulation.atLeast(30) && !node.empty()) {
    binding.node = node;
    if (const ObjectPtr stored = store_.get("nodes", "", node)) binding.nodeUid = stored->uid;
  }
  return binding;
}

void ApiServer::accessReview(Context& context, const std::string& kind) {
  Json body = decodeBody(context, kind);
  if (kind == "selfsubjectreviews" && options_.emulation.atLeast(28)) {
    body["status"] = {
        {"userInfo", {{"username", context.user.name}, {"groups", context.user.groups}}}};
    return sendJson(context, 201, body);
  }
  UserInfo user = context.user;
  if (kind == "subjectaccessreviews") {
    user = {stringAt(body, {"spec", "user"}), "", {}, {}};
    if (const Json* groups = at(body, {"spec", "groups"});
        groups != nullptr && groups->is_array()) {
      for (const Json& g : *groups)
        user.groups.push_back(g.get<std::string>());
    }
  } else if (kind != "selfsubjectaccessreviews") {
    throw noSuchResource();
  }
  AccessRequest access;
  if (const Json* r = at(body, {"spec", "resourceAttributes"})) {
    access.verb = stringAt(*r, {"verb"});
    access.group = stringAt(*r, {"group"});
    access.resource = stringAt(*r, {"resource"});
    access.subresource = stringAt(*r, {"subresource"});
    access.ns = stringAt(*r, {"namespace"});
    access.name = stringAt(*r, {"name"});
  } else {
    access.verb = stringAt(body, {"spec", "nonResourceAttributes", "verb"});
    access.path = stringAt(body, {"spec", "nonResourceAttributes", "path"});
  }
  body["status"] = {{"allowed", authorizer_.allowed(user, access)}};
  sendJson(context, 201, body);
}

// ---- faults and bootstrap

void ApiServer::debugFaults(Context& context) {
  if (context.request.method == "PUT") {
    const Json body = decodeBody(context, "faults");
    for (const auto& [key, value] : body.items()) {
      if (key != "rules" && key != "dropWatches" && key != "expire" && key != "refuseConnections") {
        throw badRequest(key + ": no such member");
      }
    }
    if (body.contains("rules")) faults_.set(body["rules"]);
    if (body.value("expire", false)) store_.expireHistory();
    if (body.value("dropWatches", false)) store_.stopSubscriptions();
    if (const std::string text = body.value("refuseConnections", ""); !text.empty() && refuse_) {
      refuse_(parseDuration("refuseConnections", text));
    }
  } else if (context.request.method != "GET") {
    throw methodNotAllowed();
  }
  sendJson(context, 200, {{"rules", faults_.get()}});
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
  struct Nowhere : HttpExchange {
    void send(const HttpResponse&) override {}
    void begin(int, const std::string&,
               const std::vector<std::pair<std::string, std::string>>&) override {}
    bool write(std::string_view) override { return false; }
    bool waitFor(int, std::chrono::milliseconds) override { return false; }
    void abort() override {}
  } nowhere;
  const HttpRequest none;
  Context context{
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

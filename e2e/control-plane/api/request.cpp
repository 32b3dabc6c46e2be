#include "e2e/control-plane/api/request.h"

#include <algorithm>
#include <charconv>
#include <string_view>
#include <system_error>

#include "e2e/control-plane/registry/json_path.h"
#include "e2e/control-plane/registry/protobuf.h"
#include "e2e/control-plane/registry/trim.h"

namespace pointsman::e2e {

RequestInfo RequestContext::info(const std::string& subresource) {
  return {user.name, user.groups, dryRun, &warnings, subresource};
}

StatusError noSuchResource() {
  return {404, "NotFound", "the server could not find the requested resource", Json::object()};
}

StatusError methodNotAllowed() {
  return {405, "MethodNotAllowed",
          "the server does not allow this method on the requested resource", Json::object()};
}

StatusError forbiddenMatch(const std::string& why) {
  return invalid("meta.k8s.io", "ListOptions", "",
                 {{"resourceVersionMatch", "FieldValueForbidden", "Forbidden: " + why}});
}

StatusError modifiedMeanwhile(const ResourceType& type, const std::string& name) {
  return conflict(type.group, type.plural, name,
                  "the object has been modified; please apply your changes to the latest version "
                  "and try again");
}

std::vector<std::string> splitPath(std::string_view path) {
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

std::optional<Target> parseTarget(const Registry& registry, const std::vector<std::string>& parts) {
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
  target.type = registry.find(group, version, rest[0]);
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

AccessRequest accessOf(const HttpRequest& request, const Target& target) {
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

Selector selectorOf(const HttpRequest& request, const Target& target) {
  return {LabelSelector(request.parameter("labelSelector").value_or("")),
          FieldSelector(request.parameter("fieldSelector").value_or(""), *target.type)};
}

void readOptions(RequestContext& context, const Emulation& emulation) {
  const HttpRequest& request = context.request;
  if (const auto dryRun = request.parameter("dryRun"); dryRun && !dryRun->empty()) {
    if (*dryRun != "All") {
      throw badRequest("dryRun: Unsupported value: \"" + *dryRun + "\": supported values: \"All\"");
    }
    context.dryRun = true;
  }
  // Before field validation existed, servers dropped what they did not know.
  if (!emulation.atLeast(25)) {
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

std::string mediaTypeOf(const HttpRequest& request) {
  const std::string header = request.header("Content-Type");
  return std::string(trim(std::string_view(header).substr(0, header.find(';'))));
}

Json decodeBody(const HttpRequest& request, const std::string& what, bool protobuf) {
  const std::string media = mediaTypeOf(request);
  Json body;
  if (media.empty() || media == "application/json") {
    body = Json::parse(request.body, nullptr, false);
    if (body.is_discarded()) throw badRequest(what + ": the body is not JSON");
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

Json decodeOptionalBody(const HttpRequest& request, const std::string& what) {
  return request.body.empty() ? Json::object() : decodeBody(request, what);
}

void addWarnings(HttpResponse& response, const std::vector<std::string>& warnings) {
  for (const std::string& warning : warnings)
    response.headers.emplace_back("Warning", "299 - " + Json(warning).dump());
}

void answer(RequestContext& context, int status, const Target& target, const ObjectPtr& object) {
  HttpResponse response;
  response.status = status;
  response.contentType = context.rendering.contentType();
  response.body = renderObject(*target.type, *object, context.rendering);
  if (!context.rendering.yaml) response.body += '\n';
  addWarnings(response, context.warnings);
  context.exchange.send(response);
}

void sendList(RequestContext& context, const ResourceType& type,
              const std::vector<ObjectPtr>& objects, const ListMeta& meta,
              const Rendering& rendering) {
  HttpResponse response;
  response.contentType = rendering.contentType();
  response.body = renderList(type, objects, meta, rendering);
  context.exchange.send(response);
}

void sendJson(RequestContext& context, int status, const Json& body) {
  HttpResponse response;
  response.status = status;
  response.body = body.dump() + "\n";
  addWarnings(response, context.warnings);
  context.exchange.send(response);
}

void sendSuccess(RequestContext& context, int status, const Json& details) {
  Json body = {{"kind", "Status"},
               {"apiVersion", "v1"},
               {"metadata", Json::object()},
               {"status", "Success"}};
  if (!details.is_null()) body["details"] = details;
  sendJson(context, status, body);
}

}  // namespace pointsman::e2e

#include "e2e/control-plane/api/request.h"

#include <algorithm>
#include <charconv>
#include <string_view>
#include <system_error>

#include "e2e/control-plane/base/trim.h"
#include "e2e/control-plane/registry/json_path.h"
#include "e2e/control-plane/registry/protobuf.h"

namespace pointsman::e2e {

namespace {

// Of the options of a write.
const char* OptionsKindOf(const HttpRequest& request) {
  if (request.method == "PUT") return "UpdateOptions";
  if (request.method == "PATCH") return "PatchOptions";
  return request.method == "DELETE" ? "DeleteOptions" : "CreateOptions";
}

}  // namespace

RequestInfo RequestContext::Info(const std::string& subresource) {
  return {user.name, user.groups, dry_run, &warnings, subresource};
}

StatusError NoSuchResource() {
  return {404, "NotFound", "the server could not find the requested resource", Json::object()};
}

StatusError MethodNotAllowed() {
  return {405, "MethodNotAllowed",
          "the server does not allow this method on the requested resource", Json::object()};
}

StatusError ForbiddenMatch(const std::string& why) {
  return Invalid("meta.k8s.io", "ListOptions", "",
                 {{"resourceVersionMatch", "FieldValueForbidden", "Forbidden: " + why}});
}

StatusError InvalidListOption(const std::string& option, const std::string& why) {
  return Invalid("meta.k8s.io", "ListOptions", "",
                 {{option, "FieldValueForbidden", "Forbidden: " + why}});
}

StatusError ModifiedMeanwhile(const ResourceType& type, const std::string& name) {
  return Conflict(type.group, type.plural, name,
                  "the object has been modified; please apply your changes to the latest version "
                  "and try again");
}

std::vector<std::string> SplitPath(std::string_view path) {
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

std::optional<Target> ParseTarget(const Registry& registry, const std::vector<std::string>& parts) {
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
  target.type = registry.Find(group, version, rest[0]);
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

AccessRequest AccessOf(const HttpRequest& request, const Target& target) {
  AccessRequest access;
  const bool is_watch = IsTrue(request.Parameter("watch"));
  const std::string& method = request.method;
  if (method == "GET" || method == "HEAD") {
    access.verb = is_watch ? "watch" : target.name.empty() ? "list" : "get";
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
    if (const auto fields = request.Parameter("fieldSelector")) {
      if (const auto name = FieldSelector(*fields, *target.type).name()) access.name = *name;
    }
  }
  return access;
}

Selector SelectorOf(const HttpRequest& request, const Target& target) {
  return {LabelSelector(request.Parameter("labelSelector").value_or("")),
          FieldSelector(request.Parameter("fieldSelector").value_or(""), *target.type)};
}

void ReadOptions(RequestContext& context, const Emulation& emulation) {
  const HttpRequest& request = context.request;
  if (const auto dry_run = request.Parameter("dryRun"); dry_run && !dry_run->empty()) {
    if (*dry_run != "All") {
      throw Invalid(
          "meta.k8s.io", OptionsKindOf(request), "",
          {{"dryRun", "FieldValueNotSupported",
            "Unsupported value: [" + Json(*dry_run).dump() + "]: supported values: \"All\""}});
    }
    context.dry_run = true;
  }
  // Before field validation existed, servers dropped what they did not know.
  if (!emulation.AtLeast(25)) {
    context.field_validation = "Ignore";
  } else if (const auto v = request.Parameter("fieldValidation"); v && !v->empty()) {
    if (*v != "Strict" && *v != "Warn" && *v != "Ignore") {
      throw Invalid("meta.k8s.io", OptionsKindOf(request), "",
                    {{"fieldValidation", "FieldValueNotSupported",
                      "Unsupported value: " + Json(*v).dump() +
                          ": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\""}});
    }
    context.field_validation = *v;
  }
  if (const auto manager = request.Parameter("fieldManager"); manager && !manager->empty()) {
    context.manager = *manager;
  } else {
    const std::string agent = request.Header("User-Agent");
    context.manager = agent.substr(0, std::min(agent.find('/'), agent.size())).substr(0, 128);
    if (context.manager.empty()) context.manager = "unknown";
  }
  context.rendering = Negotiate(request);
}

bool IsTrue(const std::optional<std::string>& value) {
  return value && (*value == "true" || *value == "1");
}

std::uint64_t ParseVersion(const std::string& field, const std::string& text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    throw BadRequest(field + ": Invalid value: \"" + text + "\": strconv.ParseUint: parsing \"" +
                     text + "\": invalid syntax");
  }
  return value;
}

std::string MediaTypeOf(const HttpRequest& request) {
  const std::string header = request.Header("Content-Type");
  return std::string(Trim(std::string_view(header).substr(0, header.find(';'))));
}

Json DecodeBody(const HttpRequest& request, const std::string& what, bool protobuf) {
  const std::string media = MediaTypeOf(request);
  Json body;
  if (media.empty() || media == "application/json") {
    body = Json::parse(request.body, nullptr, false);
    if (body.is_discarded()) throw BadRequest(what + ": the body is not JSON");
  } else if (media == "application/yaml") {
    body = ParseYaml(request.body);
  } else if (media == "application/vnd.kubernetes.protobuf" && protobuf) {
    body = DecodeProtobuf(request.body);
  } else {
    throw StatusError(415, "UnsupportedMediaType",
                      "the body of the request was in an unknown format - accepted media types "
                      "include: application/json, application/yaml",
                      Json::object());
  }
  if (!body.is_object()) throw BadRequest(what + ": the body must be an object");
  return body;
}

Json DecodeOptionalBody(const HttpRequest& request, const std::string& what) {
  return request.body.empty() ? Json::object() : DecodeBody(request, what);
}

void AddWarnings(HttpResponse& response, const std::vector<std::string>& warnings) {
  for (const std::string& warning : warnings)
    response.headers.emplace_back("Warning", "299 - " + Json(warning).dump());
}

void Answer(RequestContext& context, int status, const Target& target, const ObjectPtr& object) {
  HttpResponse response;
  response.status = status;
  response.content_type = context.rendering.ContentType();
  response.body = RenderObject(*target.type, *object, context.rendering);
  if (!context.rendering.yaml) response.body += '\n';
  AddWarnings(response, context.warnings);
  context.exchange.Send(response);
}

void SendList(RequestContext& context, const ResourceType& type,
              const std::vector<ObjectPtr>& objects, const ListMeta& meta,
              const Rendering& rendering) {
  HttpResponse response;
  response.content_type = rendering.ContentType();
  response.body = RenderList(type, objects, meta, rendering);
  context.exchange.Send(response);
}

void SendJson(RequestContext& context, int status, const Json& body) {
  HttpResponse response;
  response.status = status;
  response.body = body.dump() + "\n";
  AddWarnings(response, context.warnings);
  context.exchange.Send(response);
}

void SendSuccess(RequestContext& context, int status, const Json& details) {
  Json body = {{"kind", "Status"},
               {"apiVersion", "v1"},
               {"metadata", Json::object()},
               {"status", "Success"}};
  if (!details.is_null()) body["details"] = details;
  SendJson(context, status, body);
}

}  // namespace pointsman::e2e

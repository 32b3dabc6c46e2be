#include "e2e/control-plane/api/discovery.h"

#include <algorithm>
#include <string_view>
#include <utility>

namespace pointsman::e2e {
namespace {

Json ResourceEntry(const ResourceType& type) {
  Json entry = {
      {"name", type.plural},
      {"singularName", type.singular},
      {"namespaced", type.namespaced},
      {"kind", type.kind},
      {"verbs",
       {"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}}};
  if (type.group.empty() && type.plural == "namespaces") {
    entry["verbs"] = {"create", "delete", "get", "list", "patch", "update", "watch"};
  }
  if (!type.short_names.empty()) entry["shortNames"] = type.short_names;
  if (!type.categories.empty()) entry["categories"] = type.categories;
  return entry;
}

Json Subresource(const ResourceType& type, const char* name, const char* kind, Json verbs) {
  return {{"name", type.plural + "/" + name},
          {"singularName", ""},
          {"namespaced", type.namespaced},
          {"kind", kind},
          {"verbs", std::move(verbs)}};
}

Json ResourceList(const std::string& group_version, const std::vector<ResourceTypePtr>& types) {
  Json resources = Json::array();
  for (const ResourceTypePtr& type : types) {
    if (type->GroupVersion() != group_version) continue;
    resources.push_back(ResourceEntry(*type));
    if (type->has_status) {
      resources.push_back(
          Subresource(*type, "status", type->kind.c_str(), {"get", "patch", "update"}));
    }
    if (type->group == "apps" && (type->plural == "deployments" || type->plural == "replicasets")) {
      Json scale = Subresource(*type, "scale", "Scale", {"get", "patch", "update"});
      scale["group"] = "autoscaling";
      scale["version"] = "v1";
      resources.push_back(scale);
    }
    if (!type->group.empty()) continue;
    if (type->plural == "serviceaccounts") {
      Json token = Subresource(*type, "token", "TokenRequest", {"create"});
      token["group"] = "authentication.k8s.io";
      token["version"] = "v1";
      resources.push_back(token);
    } else if (type->plural == "namespaces") {
      resources.push_back(Subresource(*type, "finalize", "Namespace", {"update"}));
    }
  }
  return resources;
}

// GA before beta before alpha, the higher number first, as apimachinery orders versions.
int RankOf(const std::string& version) {
  if (version.find("alpha") != std::string::npos) return 2;
  return version.find("beta") != std::string::npos ? 1 : 0;
}

Json GroupOf(const std::string& group, const std::vector<std::string>& versions) {
  Json list = Json::array();
  for (const std::string& version : versions) {
    std::string group_version = group;
    group_version.append("/").append(version);
    list.push_back({{"groupVersion", group_version}, {"version", version}});
  }
  return {{"name", group}, {"versions", list}, {"preferredVersion", list[0]}};
}

bool SendText(RequestContext& context, int status, const std::string& text) {
  HttpResponse response;
  response.status = status;
  response.content_type = "text/plain; charset=utf-8";
  response.body = text;
  context.exchange.Send(response);
  return true;
}

bool SendDocument(RequestContext& context, std::string body,
                  const char* content_type = "application/json") {
  HttpResponse response;
  response.content_type = content_type;
  response.body = std::move(body);
  context.exchange.Send(response);
  return true;
}

bool SendDiscovery(RequestContext& context, const Json& body) {
  SendJson(context, 200, body);
  return true;
}

}  // namespace

struct Discovery::Route {
  std::string_view path;  // one that ends in / also stands for what is below it
  int since;              // minor version
  bool (Discovery::*serve)(RequestContext& context, const std::string& rest);
};

const std::vector<Discovery::Route>& Discovery::Routes() {
  static const std::vector<Route> all = {
      {"/healthz", 0, &Discovery::ServeAlive},
      {"/livez", 0, &Discovery::ServeAlive},
      {"/readyz", 0, &Discovery::ServeReady},
      {"/version", 0, &Discovery::ServeVersion},
      {"/api", 0, &Discovery::ServeCoreVersions},
      {"/api/", 0, &Discovery::ServeResources},
      {"/apis", 0, &Discovery::ServeGroups},
      {"/apis/", 0, &Discovery::ServeGroupOrResources},
      {"/openapi/v2", 0, &Discovery::ServeOpenApiV2},
      {"/openapi/v3", 24, &Discovery::ServeOpenApiV3Paths},
      {"/openapi/v3/", 24, &Discovery::ServeOpenApiV3},
  };
  return all;
}

bool Discovery::Serve(RequestContext& context) {
  std::string path = context.request.path;
  while (path.size() > 1 && path.back() == '/')
    path.pop_back();
  if (path == "/") return ServeIndex(context, "");
  for (const Route& route : Routes()) {
    const bool matches =
        route.path.back() == '/' ? path.starts_with(route.path) : path == route.path;
    if (matches && emulation_.AtLeast(route.since))
      return (this->*route.serve)(context, path.substr(route.path.size()));
  }
  return false;
}

bool Discovery::ServeIndex(RequestContext& context, const std::string&) {
  return SendDiscovery(
      context,
      {{"paths",
        {"/api", "/api/v1", "/apis", "/healthz", "/livez", "/openapi/v2", "/readyz", "/version"}}});
}

bool Discovery::ServeAlive(RequestContext& context, const std::string&) {
  return SendText(context, 200, "ok");
}

bool Discovery::ServeReady(RequestContext& context, const std::string&) {
  return ready_ ? SendText(context, 200, "ok") : SendText(context, 500, "starting");
}

bool Discovery::ServeVersion(RequestContext& context, const std::string&) {
  const std::string minor = std::to_string(emulation_.minor);
  return SendDiscovery(context, {{"major", "1"},
                                 {"minor", minor},
                                 {"gitVersion", "v1." + minor + ".0+pointsman"},
                                 {"gitCommit", ""},
                                 {"gitTreeState", "clean"},
                                 {"buildDate", "1970-01-01T00:00:00Z"},
                                 {"goVersion", "go1.0"},
                                 {"compiler", "gcc"},
                                 {"platform", "linux/amd64"}});
}

bool Discovery::ServeCoreVersions(RequestContext& context, const std::string&) {
  return SendDiscovery(context, {{"kind", "APIVersions"},
                                 {"versions", {"v1"}},
                                 {"serverAddressByClientCIDRs", Json::array()}});
}

std::vector<std::pair<std::string, std::vector<std::string>>> Discovery::Groups() const {
  std::vector<std::pair<std::string, std::vector<std::string>>> all;
  for (const ResourceTypePtr& type : *registry_.types()) {
    if (type->group.empty()) continue;
    auto found = std::find_if(all.begin(), all.end(),
                              [&](const auto& group) { return group.first == type->group; });
    if (found == all.end()) found = all.insert(all.end(), {type->group, {}});
    auto& versions = found->second;
    if (std::find(versions.begin(), versions.end(), type->version) == versions.end())
      versions.push_back(type->version);
  }
  for (auto& [group, versions] : all) {
    std::stable_sort(versions.begin(), versions.end(),
                     [](const std::string& a, const std::string& b) {
                       if (RankOf(a) != RankOf(b)) return RankOf(a) < RankOf(b);
                       return a.size() != b.size() ? a.size() > b.size() : a > b;
                     });
  }
  return all;
}

bool Discovery::HasBuiltinGroup(const std::vector<std::string>& parts) const {
  if (parts.size() < 3 || parts[0] != "apis") return parts.size() > 1 && parts[0] == "api";
  const auto types = registry_.types();
  return std::any_of(types->begin(), types->end(), [&](const ResourceTypePtr& type) {
    return type->group == parts[1] && !type->custom;
  });
}

bool Discovery::ServeGroups(RequestContext& context, const std::string&) {
  Json list = Json::array();
  for (const auto& [group, versions] : Groups())
    list.push_back(GroupOf(group, versions));
  return SendDiscovery(context, {{"kind", "APIGroupList"}, {"apiVersion", "v1"}, {"groups", list}});
}

bool Discovery::ServeGroupOrResources(RequestContext& context, const std::string& rest) {
  if (rest.find('/') != std::string::npos) return ServeResources(context, rest);
  for (const auto& [name, versions] : Groups()) {
    if (name != rest) continue;
    Json group = GroupOf(name, versions);
    group["kind"] = "APIGroup";
    group["apiVersion"] = "v1";
    return SendDiscovery(context, group);
  }
  return false;
}

bool Discovery::ServeResources(RequestContext& context, const std::string& group_version) {
  const Json resources = ResourceList(group_version, *registry_.types());
  if (resources.empty()) return false;
  Json list = {
      {"kind", "APIResourceList"}, {"groupVersion", group_version}, {"resources", resources}};
  if (group_version.find('/') != std::string::npos) list["apiVersion"] = "v1";
  return SendDiscovery(context, list);
}

std::string Discovery::Document(const std::string& key, const std::function<std::string()>& make) {
  const std::lock_guard lock(documents_mutex_);
  if (documents_generation_ != registry_.generation()) {
    documents_.clear();
    documents_generation_ = registry_.generation();
  }
  auto found = documents_.find(key);
  if (found == documents_.end()) found = documents_.emplace(key, make()).first;
  return found->second;
}

bool Discovery::ServeOpenApiV2(RequestContext& context, const std::string&) {
  const auto types = registry_.types();
  const std::string accept = context.request.Header("Accept");
  if (accept.find("proto-openapi.spec.v2") == std::string::npos)
    return SendDocument(context, Document("v2", [&] { return schemas_.OpenApiV2Json(*types); }));
  // The older name of the media type has an @, which Go's mime package refuses to read back;
  // servers of that time left the type to be guessed.
  const bool newer = accept.find("spec.v2.v1.0+protobuf") != std::string::npos;
  return SendDocument(context, Document("v2pb", [&] { return schemas_.OpenApiV2Protobuf(*types); }),
                      newer ? "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
                            : "application/octet-stream");
}

bool Discovery::ServeOpenApiV3Paths(RequestContext& context, const std::string&) {
  Json paths = Json::object();
  const std::string generation = std::to_string(registry_.generation());
  for (const ResourceTypePtr& type : *registry_.types()) {
    const std::string name = (type->group.empty() ? "api/" : "apis/") + type->GroupVersion();
    std::string url = "/openapi/v3/";
    url.append(name).append("?hash=").append(generation);
    paths[name] = {{"serverRelativeURL", url}};
  }
  return SendDiscovery(context, {{"paths", paths}});
}

bool Discovery::ServeOpenApiV3(RequestContext& context, const std::string& rest) {
  const std::string accept = context.request.Header("Accept");
  if (accept.find("openapi.v3") != std::string::npos && accept.find("json") == std::string::npos) {
    throw StatusError(406, "NotAcceptable",
                      "only the following media types are accepted: application/json");
  }
  // api/VERSION or apis/GROUP/VERSION
  const std::vector<std::string> parts = SplitPath(rest);
  const bool core = parts.size() == 2 && parts[0] == "api";
  if (!core && !(parts.size() == 3 && parts[0] == "apis")) return false;
  const std::string group = core ? "" : parts[1];
  const std::string& version = parts.back();
  std::vector<ResourceTypePtr> members;
  for (const ResourceTypePtr& type : *registry_.types()) {
    if (type->group == group && type->version == version) members.push_back(type);
  }
  if (members.empty()) return false;
  return SendDocument(context, Document("v3/" + group + "/" + version, [&] {
                        return schemas_.OpenApiV3Json(group, version, members);
                      }));
}

}  // namespace pointsman::e2e

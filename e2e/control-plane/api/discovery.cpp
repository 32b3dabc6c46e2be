#include "e2e/control-plane/api/discovery.h"

#include <algorithm>
#include <string_view>
#include <utility>

namespace pointsman::e2e {
namespace {

Json resourceEntry(const ResourceType& type) {
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
  if (!type.shortNames.empty()) entry["shortNames"] = type.shortNames;
  if (!type.categories.empty()) entry["categories"] = type.categories;
  return entry;
}

Json subresource(const ResourceType& type, const char* name, const char* kind, Json verbs) {
  return {{"name", type.plural + "/" + name},
          {"singularName", ""},
          {"namespaced", type.namespaced},
          {"kind", kind},
          {"verbs", std::move(verbs)}};
}

Json resourceList(const std::string& groupVersion, const std::vector<ResourceTypePtr>& types) {
  Json resources = Json::array();
  for (const ResourceTypePtr& type : types) {
    if (type->groupVersion() != groupVersion) continue;
    resources.push_back(resourceEntry(*type));
    if (type->hasStatus) {
      resources.push_back(
          subresource(*type, "status", type->kind.c_str(), {"get", "patch", "update"}));
    }
    if (type->group == "apps" && (type->plural == "deployments" || type->plural == "replicasets")) {
      Json scale = subresource(*type, "scale", "Scale", {"get", "patch", "update"});
      scale["group"] = "autoscaling";
      scale["version"] = "v1";
      resources.push_back(scale);
    }
    if (!type->group.empty()) continue;
    if (type->plural == "serviceaccounts") {
      Json token = subresource(*type, "token", "TokenRequest", {"create"});
      token["group"] = "authentication.k8s.io";
      token["version"] = "v1";
      resources.push_back(token);
    } else if (type->plural == "namespaces") {
      resources.push_back(subresource(*type, "finalize", "Namespace", {"update"}));
    } else if (type->plural == "pods") {
      resources.push_back(subresource(*type, "binding", "Binding", {"create"}));
      Json eviction = subresource(*type, "eviction", "Eviction", {"create"});
      eviction["group"] = "policy";
      eviction["version"] = "v1";
      resources.push_back(eviction);
    }
  }
  return resources;
}

// GA before beta before alpha, the higher number first, as apimachinery orders versions.
int rankOf(const std::string& version) {
  if (version.find("alpha") != std::string::npos) return 2;
  return version.find("beta") != std::string::npos ? 1 : 0;
}

Json groupOf(const std::string& group, const std::vector<std::string>& versions) {
  Json list = Json::array();
  for (const std::string& version : versions) {
    std::string groupVersion = group;
    groupVersion.append("/").append(version);
    list.push_back({{"groupVersion", groupVersion}, {"version", version}});
  }
  return {{"name", group}, {"versions", list}, {"preferredVersion", list[0]}};
}

bool sendText(RequestContext& context, int status, const std::string& text) {
  HttpResponse response;
  response.status = status;
  response.contentType = "text/plain; charset=utf-8";
  response.body = text;
  context.exchange.send(response);
  return true;
}

bool sendDocument(RequestContext& context, std::string body,
                  const char* contentType = "application/json") {
  HttpResponse response;
  response.contentType = contentType;
  response.body = std::move(body);
  context.exchange.send(response);
  return true;
}

bool sendDiscovery(RequestContext& context, const Json& body) {
  sendJson(context, 200, body);
  return true;
}

}  // namespace

struct Discovery::Route {
  std::string_view path;  // one that ends in / also stands for what is below it
  int since;              // minor version
  bool (Discovery::*serve)(RequestContext& context, const std::string& rest);
};

const std::vector<Discovery::Route>& Discovery::routes() {
  static const std::vector<Route> all = {
      {"/healthz", 0, &Discovery::serveAlive},
      {"/livez", 0, &Discovery::serveAlive},
      {"/readyz", 0, &Discovery::serveReady},
      {"/version", 0, &Discovery::serveVersion},
      {"/api", 0, &Discovery::serveCoreVersions},
      {"/api/", 0, &Discovery::serveResources},
      {"/apis", 0, &Discovery::serveGroups},
      {"/apis/", 0, &Discovery::serveGroupOrResources},
      {"/openapi/v2", 0, &Discovery::serveOpenApiV2},
      {"/openapi/v3", 24, &Discovery::serveOpenApiV3Paths},
      {"/openapi/v3/", 24, &Discovery::serveOpenApiV3},
  };
  return all;
}

bool Discovery::serve(RequestContext& context) {
  std::string path = context.request.path;
  while (path.size() > 1 && path.back() == '/')
    path.pop_back();
  if (path == "/") return serveIndex(context, "");
  for (const Route& route : routes()) {
    const bool matches =
        route.path.back() == '/' ? path.starts_with(route.path) : path == route.path;
    if (matches && emulation_.atLeast(route.since))
      return (this->*route.serve)(context, path.substr(route.path.size()));
  }
  return false;
}

bool Discovery::serveIndex(RequestContext& context, const std::string&) {
  return sendDiscovery(
      context,
      {{"paths",
        {"/api", "/api/v1", "/apis", "/healthz", "/livez", "/openapi/v2", "/readyz", "/version"}}});
}

bool Discovery::serveAlive(RequestContext& context, const std::string&) {
  return sendText(context, 200, "ok");
}

bool Discovery::serveReady(RequestContext& context, const std::string&) {
  return ready_ ? sendText(context, 200, "ok") : sendText(context, 500, "starting");
}

bool Discovery::serveVersion(RequestContext& context, const std::string&) {
  const std::string minor = std::to_string(emulation_.minor);
  return sendDiscovery(context, {{"major", "1"},
                                 {"minor", minor},
                                 {"gitVersion", "v1." + minor + ".0+pointsman"},
                                 {"gitCommit", ""},
                                 {"gitTreeState", "clean"},
                                 {"buildDate", "1970-01-01T00:00:00Z"},
                                 {"goVersion", "go1.0"},
                                 {"compiler", "gcc"},
                                 {"platform", "linux/amd64"}});
}

bool Discovery::serveCoreVersions(RequestContext& context, const std::string&) {
  return sendDiscovery(context, {{"kind", "APIVersions"},
                                 {"versions", {"v1"}},
                                 {"serverAddressByClientCIDRs", Json::array()}});
}

std::vector<std::pair<std::string, std::vector<std::string>>> Discovery::groups() const {
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
  // These two have no types of their own.
  for (const char* group : {"authentication.k8s.io", "authorization.k8s.io"})
    all.push_back({group, {"v1"}});
  for (auto& [group, versions] : all) {
    std::stable_sort(versions.begin(), versions.end(),
                     [](const std::string& a, const std::string& b) {
                       if (rankOf(a) != rankOf(b)) return rankOf(a) < rankOf(b);
                       return a.size() != b.size() ? a.size() > b.size() : a > b;
                     });
  }
  return all;
}

bool Discovery::serveGroups(RequestContext& context, const std::string&) {
  Json list = Json::array();
  for (const auto& [group, versions] : groups())
    list.push_back(groupOf(group, versions));
  return sendDiscovery(context, {{"kind", "APIGroupList"}, {"apiVersion", "v1"}, {"groups", list}});
}

bool Discovery::serveGroupOrResources(RequestContext& context, const std::string& rest) {
  if (rest.find('/') != std::string::npos) return serveResources(context, rest);
  for (const auto& [name, versions] : groups()) {
    if (name != rest) continue;
    Json group = groupOf(name, versions);
    group["kind"] = "APIGroup";
    group["apiVersion"] = "v1";
    return sendDiscovery(context, group);
  }
  return false;
}

bool Discovery::serveResources(RequestContext& context, const std::string& groupVersion) {
  Json resources = resourceList(groupVersion, *registry_.types());
  const auto review = [&](const char* name, const char* kind) {
    resources.push_back({{"name", name},
                         {"singularName", ""},
                         {"namespaced", false},
                         {"kind", kind},
                         {"verbs", {"create"}}});
  };
  if (groupVersion == "authorization.k8s.io/v1") {
    review("selfsubjectaccessreviews", "SelfSubjectAccessReview");
    review("subjectaccessreviews", "SubjectAccessReview");
  } else if (groupVersion == "authentication.k8s.io/v1") {
    if (emulation_.atLeast(28)) review("selfsubjectreviews", "SelfSubjectReview");
  } else if (resources.empty()) {
    return false;
  }
  return sendDiscovery(context, {{"kind", "APIResourceList"},
                                 {"apiVersion", "v1"},
                                 {"groupVersion", groupVersion},
                                 {"resources", resources}});
}

std::string Discovery::document(const std::string& key, const std::function<std::string()>& make) {
  const std::lock_guard lock(documentsMutex_);
  if (documentsGeneration_ != registry_.generation()) {
    documents_.clear();
    documentsGeneration_ = registry_.generation();
  }
  auto found = documents_.find(key);
  if (found == documents_.end()) found = documents_.emplace(key, make()).first;
  return found->second;
}

bool Discovery::serveOpenApiV2(RequestContext& context, const std::string&) {
  const auto types = registry_.types();
  const std::string accept = context.request.header("Accept");
  if (accept.find("proto-openapi.spec.v2") == std::string::npos)
    return sendDocument(context, document("v2", [&] { return schemas_.openApiV2Json(*types); }));
  // The older name of the media type has an @, which Go's mime package refuses to read back;
  // servers of that time left the type to be guessed.
  const bool newer = accept.find("spec.v2.v1.0+protobuf") != std::string::npos;
  return sendDocument(context, document("v2pb", [&] { return schemas_.openApiV2Protobuf(*types); }),
                      newer ? "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
                            : "application/octet-stream");
}

bool Discovery::serveOpenApiV3Paths(RequestContext& context, const std::string&) {
  Json paths = Json::object();
  const std::string generation = std::to_string(registry_.generation());
  for (const ResourceTypePtr& type : *registry_.types()) {
    const std::string name = (type->group.empty() ? "api/" : "apis/") + type->groupVersion();
    std::string url = "/openapi/v3/";
    url.append(name).append("?hash=").append(generation);
    paths[name] = {{"serverRelativeURL", url}};
  }
  return sendDiscovery(context, {{"paths", paths}});
}

bool Discovery::serveOpenApiV3(RequestContext& context, const std::string& rest) {
  const std::string accept = context.request.header("Accept");
  if (accept.find("openapi.v3") != std::string::npos && accept.find("json") == std::string::npos) {
    throw StatusError(406, "NotAcceptable",
                      "only the following media types are accepted: application/json");
  }
  // api/VERSION or apis/GROUP/VERSION
  const std::vector<std::string> parts = splitPath(rest);
  const bool core = parts.size() == 2 && parts[0] == "api";
  if (!core && !(parts.size() == 3 && parts[0] == "apis")) return false;
  const std::string group = core ? "" : parts[1];
  const std::string version = parts.back();
  std::vector<ResourceTypePtr> members;
  for (const ResourceTypePtr& type : *registry_.types()) {
    if (type->group == group && type->version == version) members.push_back(type);
  }
  if (members.empty()) return false;
  return sendDocument(context, document("v3/" + group + "/" + version, [&] {
                        return schemas_.openApiV3Json(group, version, members);
                      }));
}

}  // namespace pointsman::e2e

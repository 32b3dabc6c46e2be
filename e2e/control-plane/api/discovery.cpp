#include "e2e/control-plane/api/api_server.h"

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

}  // namespace

bool ApiServer::discovery(Context& context) {
  std::string path = context.request.path;
  while (path.size() > 1 && path.back() == '/')
    path.pop_back();
  const auto plain = [&](int status, const std::string& text) {
    HttpResponse response;
    response.status = status;
    response.contentType = "text/plain; charset=utf-8";
    response.body = text;
    context.exchange.send(response);
    return true;
  };
  const auto json = [&](const Json& body) {
    sendJson(context, 200, body);
    return true;
  };
  if (path == "/healthz" || path == "/livez") return plain(200, "ok");
  if (path == "/readyz") return ready_ ? plain(200, "ok") : plain(500, "starting");
  if (path == "/version") {
    const std::string minor = std::to_string(options_.emulation.minor);
    return json({{"major", "1"},
                 {"minor", minor},
                 {"gitVersion", "v1." + minor + ".0+pointsman"},
                 {"gitCommit", ""},
                 {"gitTreeState", "clean"},
                 {"buildDate", "1970-01-01T00:00:00Z"},
                 {"goVersion", "go1.0"},
                 {"compiler", "gcc"},
                 {"platform", "linux/amd64"}});
  }
  const auto types = registry_.types();
  if (path == "/api") {
    return json({{"kind", "APIVersions"},
                 {"versions", {"v1"}},
                 {"serverAddressByClientCIDRs", Json::array()}});
  }
  // Groups in the order they were registered; authorization and authentication have no types.
  std::vector<std::string> order;
  std::map<std::string, std::vector<std::string>> versions;
  for (const ResourceTypePtr& type : *types) {
    if (type->group.empty()) continue;
    auto& list = versions[type->group];
    if (list.empty()) order.push_back(type->group);
    if (std::find(list.begin(), list.end(), type->version) == list.end())
      list.push_back(type->version);
  }
  for (const char* group : {"authentication.k8s.io", "authorization.k8s.io"}) {
    order.emplace_back(group);
    versions[group] = {"v1"};
  }
  for (auto& [group, list] : versions) {
    std::stable_sort(list.begin(), list.end(), [](const std::string& a, const std::string& b) {
      if (rankOf(a) != rankOf(b)) return rankOf(a) < rankOf(b);
      return a.size() != b.size() ? a.size() > b.size() : a > b;
    });
  }
  const auto groupObject = [&](const std::string& group) {
    Json list = Json::array();
    for (const std::string& version : versions[group]) {
      std::string groupVersion = group;
      groupVersion.append("/").append(version);
      list.push_back({{"groupVersion", groupVersion}, {"version", version}});
    }
    return Json{{"name", group}, {"versions", list}, {"preferredVersion", list[0]}};
  };
  if (path == "/apis") {
    Json groups = Json::array();
    for (const std::string& group : order)
      groups.push_back(groupObject(group));
    return json({{"kind", "APIGroupList"}, {"apiVersion", "v1"}, {"groups", groups}});
  }
  if (path.starts_with("/apis/") || path.starts_with("/api/")) {
    const bool core = path.starts_with("/api/");
    const std::string rest = path.substr(core ? 5 : 6);
    const auto slash = rest.find('/');
    if (!core && slash == std::string::npos) {
      if (!versions.contains(rest)) return false;
      Json group = groupObject(rest);
      group["kind"] = "APIGroup";
      group["apiVersion"] = "v1";
      return json(group);
    }
    Json resources = resourceList(rest, *types);
    const auto review = [&](const char* name, const char* kind) {
      resources.push_back({{"name", name},
                           {"singularName", ""},
                           {"namespaced", false},
                           {"kind", kind},
                           {"verbs", {"create"}}});
    };
    if (rest == "authorization.k8s.io/v1") {
      review("selfsubjectaccessreviews", "SelfSubjectAccessReview");
      review("subjectaccessreviews", "SubjectAccessReview");
    } else if (rest == "authentication.k8s.io/v1" && options_.emulation.atLeast(28)) {
      review("selfsubjectreviews", "SelfSubjectReview");
    } else if (resources.empty() && rest != "authentication.k8s.io/v1") {
      return false;
    }
    return json({{"kind", "APIResourceList"},
                 {"apiVersion", "v1"},
                 {"groupVersion", rest},
                 {"resources", resources}});
  }

  // OpenAPI documents are made when asked for, and again when the types have changed.
  const std::string accept = context.request.header("Accept");
  const auto document = [&](const std::string& key, const std::function<std::string()>& make) {
    const std::lock_guard lock(documentsMutex_);
    if (documentsGeneration_ != registry_.generation()) {
      documents_.clear();
      documentsGeneration_ = registry_.generation();
    }
    auto found = documents_.find(key);
    if (found == documents_.end()) found = documents_.emplace(key, make()).first;
    return found->second;
  };
  HttpResponse response;
  if (path == "/openapi/v2") {
    const bool protobuf = accept.find("proto-openapi.spec.v2") != std::string::npos;
    if (protobuf) {
      // The older name of the media type has an @, which Go's mime package refuses to read back;
      // servers of that time left the type to be guessed.
      const bool newer = accept.find("spec.v2.v1.0+protobuf") != std::string::npos;
      response.contentType = newer ? "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
                                   : "application/octet-stream";
      response.body = document("v2pb", [&] { return schemas_.openApiV2Protobuf(*types); });
    } else {
      response.body = document("v2", [&] { return schemas_.openApiV2Json(*types); });
    }
    context.exchange.send(response);
    return true;
  }
  if (path == "/openapi/v3" && options_.emulation.atLeast(24)) {
    Json paths = Json::object();
    const std::string generation = std::to_string(registry_.generation());
    for (const ResourceTypePtr& type : *types) {
      const std::string name = (type->group.empty() ? "api/" : "apis/") + type->groupVersion();
      std::string url = "/openapi/v3/";
      url.append(name).append("?hash=").append(generation);
      paths[name] = {{"serverRelativeURL", url}};
    }
    return json({{"paths", paths}});
  }
  if (path.starts_with("/openapi/v3/") && options_.emulation.atLeast(24)) {
    if (accept.find("openapi.v3") != std::string::npos &&
        accept.find("json") == std::string::npos) {
      throw StatusError(406, "NotAcceptable",
                        "only the following media types are accepted: application/json");
    }
    std::string rest = path.substr(12);
    std::string group;
    if (rest.starts_with("apis/")) {
      rest = rest.substr(5);
      const auto slash = rest.find('/');
      if (slash == std::string::npos) return false;
      group = rest.substr(0, slash);
      rest = rest.substr(slash + 1);
    } else if (rest.starts_with("api/")) {
      rest = rest.substr(4);
    } else {
      return false;
    }
    std::vector<ResourceTypePtr> members;
    for (const ResourceTypePtr& type : *types) {
      if (type->group == group && type->version == rest) members.push_back(type);
    }
    if (members.empty()) return false;
    response.body = document("v3/" + group + "/" + rest,
                             [&] { return schemas_.openApiV3Json(group, rest, members); });
    context.exchange.send(response);
    return true;
  }
  if (path == "/") {
    Json paths = {"/api",   "/api/v1",     "/apis",   "/healthz",
                  "/livez", "/openapi/v2", "/readyz", "/version"};
    return json({{"paths", paths}});
  }
  return false;
}

}  // namespace pointsman::e2e

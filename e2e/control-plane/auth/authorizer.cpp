#include "e2e/control-plane/auth/authorizer.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace pointsman::e2e {
namespace {

constexpr const char* kRbac = "rbac.authorization.k8s.io/";

bool Contains(const Json& rule, const char* field, const std::string& value, bool wildcard) {
  const auto list = rule.find(field);
  if (list == rule.end() || !list->is_array()) return false;
  return std::any_of(list->begin(), list->end(),
                     [&](const Json& item) { return item == value || (wildcard && item == "*"); });
}

bool RuleAllows(const Json& rule, const AccessRequest& request) {
  if (!Contains(rule, "verbs", request.verb, true)) return false;
  if (request.resource.empty()) {
    const auto urls = rule.find("nonResourceURLs");
    if (urls == rule.end() || !urls->is_array()) return false;
    return std::any_of(urls->begin(), urls->end(), [&](const Json& item) {
      const std::string url = item.is_string() ? item.get<std::string>() : "";
      return url == "*" || url == request.path ||
             (url.ends_with('*') && request.path.starts_with(url.substr(0, url.size() - 1)));
    });
  }
  if (!Contains(rule, "apiGroups", request.group, true)) return false;
  const std::string resource =
      request.subresource.empty() ? request.resource : request.resource + "/" + request.subresource;
  if (!Contains(rule, "resources", resource, true) &&
      (request.subresource.empty() ||
       !Contains(rule, "resources", "*/" + request.subresource, false))) {
    return false;
  }
  const auto names = rule.find("resourceNames");
  if (names == rule.end() || !names->is_array() || names->empty()) return true;
  return !request.name.empty() && Contains(rule, "resourceNames", request.name, false);
}

bool SubjectIs(const Json& binding, const std::string& ns, const UserInfo& user) {
  const auto subjects = binding.find("subjects");
  if (subjects == binding.end() || !subjects->is_array()) return false;
  return std::any_of(subjects->begin(), subjects->end(), [&](const Json& subject) {
    const std::string kind = subject.value("kind", "");
    const std::string name = subject.value("name", "");
    if (kind == "User") return user.name == name;
    if (kind == "Group") return user.InGroup(name);
    if (kind != "ServiceAccount") return false;
    const std::string subject_ns = subject.value("namespace", ns);
    return user.name == "system:serviceaccount:" + subject_ns + ":" + name;
  });
}

Json ClusterRole(const char* name, Json rules) {
  return {{"apiVersion", "rbac.authorization.k8s.io/v1"},
          {"kind", "ClusterRole"},
          {"metadata",
           {{"name", name},
            {"labels", {{"kubernetes.io/bootstrapping", "rbac-defaults"}}},
            {"annotations", {{"rbac.authorization.kubernetes.io/autoupdate", "true"}}}}},
          {"rules", std::move(rules)}};
}

Json ClusterRoleBinding(const char* name, const char* role, Json subjects) {
  for (Json& subject : subjects)
    subject["apiGroup"] = "rbac.authorization.k8s.io";
  return {{"apiVersion", "rbac.authorization.k8s.io/v1"},
          {"kind", "ClusterRoleBinding"},
          {"metadata",
           {{"name", name},
            {"labels", {{"kubernetes.io/bootstrapping", "rbac-defaults"}}},
            {"annotations", {{"rbac.authorization.kubernetes.io/autoupdate", "true"}}}}},
          {"roleRef",
           {{"apiGroup", "rbac.authorization.k8s.io"}, {"kind", "ClusterRole"}, {"name", role}}},
          {"subjects", std::move(subjects)}};
}

}  // namespace

bool Authorizer::Allowed(const UserInfo& user, const AccessRequest& request) const {
  if (user.InGroup("system:masters")) return true;
  const auto role_allows = [&](const Json& binding, const std::string& ns) {
    const Json& ref = binding["roleRef"];
    const bool cluster = ref.value("kind", "") == "ClusterRole";
    const ObjectPtr role = store_.Get(std::string(kRbac) + (cluster ? "clusterroles" : "roles"),
                                      cluster ? "" : ns, ref.value("name", ""));
    if (!role) return false;
    const Json object = role->Parse();
    const auto rules = object.find("rules");
    if (rules == object.end() || !rules->is_array()) return false;
    return std::any_of(rules->begin(), rules->end(),
                       [&](const Json& rule) { return RuleAllows(rule, request); });
  };
  for (const ObjectPtr& stored : store_.List(std::string(kRbac) + "clusterrolebindings").objects) {
    const Json binding = stored->Parse();
    if (SubjectIs(binding, "", user) && role_allows(binding, "")) return true;
  }
  if (request.ns.empty() || request.resource.empty()) return false;
  for (const ObjectPtr& stored :
       store_.List(std::string(kRbac) + "rolebindings", request.ns).objects) {
    const Json binding = stored->Parse();
    if (SubjectIs(binding, request.ns, user) && role_allows(binding, request.ns)) return true;
  }
  return false;
}

std::string Authorizer::Denial(const UserInfo& user, const AccessRequest& request) {
  std::string text = "User \"" + user.name + "\" cannot " + request.verb;
  if (request.resource.empty()) return text + " path \"" + request.path + "\"";
  text += " resource \"" + request.resource;
  if (!request.subresource.empty()) text += "/" + request.subresource;
  text += "\" in API group \"" + request.group + "\"";
  return text + (request.ns.empty() ? " at the cluster scope"
                                    : " in the namespace \"" + request.ns + "\"");
}

std::vector<std::pair<ResourceName, Json>> BootstrapRoles() {
  const std::string roles = std::string(kRbac) + "clusterroles";
  const std::string bindings = std::string(kRbac) + "clusterrolebindings";
  const auto group = [](const char* name) { return Json{{"kind", "Group"}, {"name", name}}; };
  const auto user = [](const char* name) { return Json{{"kind", "User"}, {"name", name}}; };
  return {
      {roles, ClusterRole("cluster-admin", Json::parse(R"([
        {"apiGroups":["*"],"resources":["*"],"verbs":["*"]},
        {"nonResourceURLs":["*"],"verbs":["*"]}])"))},
      {roles, ClusterRole("system:discovery", Json::parse(R"([
        {"nonResourceURLs":["/api","/api/*","/apis","/apis/*","/healthz","/livez","/openapi",
                            "/openapi/*","/readyz","/version","/version/"],"verbs":["get"]}])"))},
      {roles, ClusterRole("system:public-info-viewer", Json::parse(R"([
        {"nonResourceURLs":["/healthz","/livez","/readyz","/version","/version/"],"verbs":["get"]}])"))},
      {roles, ClusterRole("system:basic-user", Json::parse(R"([
        {"apiGroups":["authorization.k8s.io"],"resources":["selfsubjectaccessreviews","selfsubjectrulesreviews"],"verbs":["create"]},
        {"apiGroups":["authentication.k8s.io"],"resources":["selfsubjectreviews"],"verbs":["create"]}])"))},
      {roles, ClusterRole("system:node-proxier", Json::parse(R"([
        {"apiGroups":[""],"resources":["endpoints","services"],"verbs":["list","watch"]},
        {"apiGroups":[""],"resources":["nodes"],"verbs":["get","list","watch"]},
        {"apiGroups":["","events.k8s.io"],"resources":["events"],"verbs":["create","patch","update"]},
        {"apiGroups":["discovery.k8s.io"],"resources":["endpointslices"],"verbs":["list","watch"]}])"))},
      {bindings, ClusterRoleBinding("cluster-admin", "cluster-admin", {group("system:masters")})},
      {bindings,
       ClusterRoleBinding("system:discovery", "system:discovery", {group("system:authenticated")})},
      {bindings,
       ClusterRoleBinding("system:public-info-viewer", "system:public-info-viewer",
                          {group("system:authenticated"), group("system:unauthenticated")})},
      {bindings, ClusterRoleBinding("system:basic-user", "system:basic-user",
                                    {group("system:authenticated")})},
      {bindings, ClusterRoleBinding("system:node-proxier", "system:node-proxier",
                                    {user("system:kube-proxy")})},
  };
}

}  // namespace pointsman::e2e

// Tokens of service accounts and access reviews: requests that are answered and not stored.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "e2e/control-plane/api/api_server.h"
#include "e2e/control-plane/registry/api_time.h"
#include "e2e/control-plane/registry/json_path.h"

namespace pointsman::e2e {

void ApiServer::tokenRequest(RequestContext& context, const Target& target) {
  Json body = decodeBody(context.request, "TokenRequest");
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

void ApiServer::accessReview(RequestContext& context, const std::string& kind) {
  Json body = decodeBody(context.request, kind);
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

}  // namespace pointsman::e2e

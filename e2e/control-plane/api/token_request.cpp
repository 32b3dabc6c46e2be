// The subresource token of service accounts: a request that is answered and not stored.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "e2e/control-plane/api/api_server.h"
#include "e2e/control-plane/base/api_time.h"
#include "e2e/control-plane/registry/json_path.h"

namespace pointsman::e2e {

void ApiServer::TokenRequest(RequestContext& context, const Target& target) {
  Json body = DecodeBody(context.request, "TokenRequest");
  const ObjectPtr account = store_.Get("serviceaccounts", target.ns, target.name);
  if (!account) throw NotFound("", "serviceaccounts", target.name);
  const std::int64_t seconds = IntAt(body, {"spec", "expirationSeconds"}, 3600);
  if (seconds < 600) {
    throw Invalid("authentication.k8s.io", "TokenRequest", "",
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
  body["status"] = {{"token", authenticator_.MintServiceAccountToken(
                                  target.ns, target.name, account->uid,
                                  std::chrono::seconds(seconds), TokenBinding(target, body))},
                    {"expirationTimestamp",
                     FormatTime(std::chrono::system_clock::now() + std::chrono::seconds(seconds))}};
  SendJson(context, 201, body);
}

std::optional<Authenticator::Binding> ApiServer::TokenBinding(const Target& target,
                                                              const Json& body) const {
  const Json* reference = At(body, {"spec", "boundObjectRef"});
  if (reference == nullptr || !reference->is_object()) return std::nullopt;
  if (StringAt(*reference, {"kind"}) != "Pod") {
    throw BadRequest("cannot bind token to object of kind " + StringAt(*reference, {"kind"}));
  }
  const std::string name = StringAt(*reference, {"name"});
  const std::string uid = StringAt(*reference, {"uid"});
  const ObjectPtr pod = store_.Get("pods", target.ns, name);
  if (!pod) throw NotFound("", "pods", name);
  if (!uid.empty() && uid != pod->uid) {
    throw Conflict("", "pods", name,
                   "the UID in the bound object reference (" + uid +
                       ") does not match the UID in record. The object might have "
                       "been deleted and then recreated");
  }
  const Json object = pod->Parse();
  if (StringAt(object, {"spec", "serviceAccountName"}) != target.name) {
    throw BadRequest("cannot bind token for serviceaccount \"" + target.name + "\" to pod \"" +
                     name + "\" running with different serviceaccount name.");
  }
  Authenticator::Binding binding{name, pod->uid, "", ""};
  const std::string node = StringAt(object, {"spec", "nodeName"});
  if (options_.emulation.AtLeast(30) && !node.empty()) {
    binding.node = node;
    if (const ObjectPtr stored = store_.Get("nodes", "", node)) binding.node_uid = stored->uid;
  }
  return binding;
}

}  // namespace pointsman::e2e

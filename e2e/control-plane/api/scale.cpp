// The scale subresource of workloads, an autoscaling/v1 Scale (kubectl scale).
#include <string>

#include "e2e/control-plane/api/api_server.h"
#include "e2e/control-plane/api/patch.h"
#include "e2e/control-plane/registry/json_path.h"

namespace pointsman::e2e {
namespace {

Json scaleOf(const Json& object) {
  const Json& metadata = object["metadata"];
  Json scale = {{"apiVersion", "autoscaling/v1"},
                {"kind", "Scale"},
                {"metadata", Json::object()},
                {"spec", {{"replicas", intAt(object, {"spec", "replicas"})}}},
                {"status", {{"replicas", intAt(object, {"status", "replicas"})}}}};
  for (const char* field : {"name", "namespace", "uid", "resourceVersion", "creationTimestamp"})
    scale["metadata"][field] = metadata[field];
  std::string selector;
  if (const Json* labels = at(object, {"spec", "selector", "matchLabels"})) {
    for (const auto& [key, value] : labels->items())
      selector += (selector.empty() ? "" : ",") + key + "=" + value.get<std::string>();
  }
  if (!selector.empty()) scale["status"]["selector"] = selector;
  return scale;
}

}  // namespace

void ApiServer::scale(RequestContext& context, const Target& target) {
  const ResourceType& type = *target.type;
  const std::string& method = context.request.method;
  Target parent = target;
  parent.subresource.clear();
  for (int attempt = 0;; ++attempt) {
    const ObjectPtr before = store_.get(type.storeName(), target.ns, target.name);
    if (!before) throw notFound(type.group, type.plural, target.name);
    Json object = before->parse();
    Json wanted = scaleOf(object);
    if (method == "GET") return sendJson(context, 200, wanted);
    if (method == "PUT") {
      wanted = decodeBody(context.request, "Scale");
    } else if (method == "PATCH") {
      const std::string media = mediaTypeOf(context.request);
      const Json patch = Json::parse(context.request.body, nullptr, false);
      if (patch.is_discarded()) throw badRequest("Scale: the body is not JSON");
      if (media == "application/json-patch+json") {
        applyJsonPatch(wanted, patch);
      } else if (media == "application/merge-patch+json" ||
                 media == "application/strategic-merge-patch+json") {
        applyMergePatch(wanted, patch);
      } else {
        throw StatusError(415, "UnsupportedMediaType",
                          "the scale subresource takes a JSON or a merge patch here",
                          Json::object());
      }
    } else {
      throw methodNotAllowed();
    }
    const std::string version = stringAt(wanted, {"metadata", "resourceVersion"});
    if (!version.empty() && version != std::to_string(before->resourceVersion)) {
      throw modifiedMeanwhile(type, target.name);
    }
    const Json* replicas = at(wanted, {"spec", "replicas"});
    if (replicas != nullptr && (!replicas->is_number_integer() || *replicas < 0)) {
      throw invalid(
          "autoscaling", "Scale", target.name,
          {{"spec.replicas", "FieldValueInvalid",
            "Invalid value: " + replicas->dump() + ": must be greater than or equal to 0"}});
    }
    object["spec"]["replicas"] = replicas == nullptr ? Json(0) : *replicas;
    try {
      const ObjectPtr now = updateObject(context, parent, before, object, true);
      return sendJson(context, 200, scaleOf(now->parse()));
    } catch (const StatusError& error) {
      if (error.code() != 409 || attempt == 20) throw;
    }
  }
}

}  // namespace pointsman::e2e

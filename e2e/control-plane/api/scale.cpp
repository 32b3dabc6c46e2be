// The scale subresource of workloads, an autoscaling/v1 Scale (kubectl scale).
#include <string>

#include "e2e/control-plane/api/api_server.h"
#include "e2e/control-plane/api/patch.h"
#include "e2e/control-plane/registry/json_path.h"

namespace pointsman::e2e {
namespace {

Json ScaleOf(const Json& object) {
  const Json& metadata = object["metadata"];
  Json scale = {{"apiVersion", "autoscaling/v1"},
                {"kind", "Scale"},
                {"metadata", Json::object()},
                {"spec", {{"replicas", IntAt(object, {"spec", "replicas"})}}},
                {"status", {{"replicas", IntAt(object, {"status", "replicas"})}}}};
  for (const char* field : {"name", "namespace", "uid", "resourceVersion", "creationTimestamp"})
    scale["metadata"][field] = metadata[field];
  std::string selector;
  if (const Json* labels = At(object, {"spec", "selector", "matchLabels"})) {
    for (const auto& [key, value] : labels->items())
      selector += (selector.empty() ? "" : ",") + key + "=" + value.get<std::string>();
  }
  if (!selector.empty()) scale["status"]["selector"] = selector;
  return scale;
}

}  // namespace

void ApiServer::Scale(RequestContext& context, const Target& target) {
  const ResourceType& type = *target.type;
  const std::string& method = context.request.method;
  Target parent = target;
  parent.subresource.clear();
  for (int attempt = 0;; ++attempt) {
    const ObjectPtr before = store_.Get(type.StoreName(), target.ns, target.name);
    if (!before) throw NotFound(type.group, type.plural, target.name);
    Json object = before->Parse();
    Json wanted = ScaleOf(object);
    if (method == "GET") return SendJson(context, 200, wanted);
    if (method == "PUT") {
      wanted = DecodeBody(context.request, "Scale");
    } else if (method == "PATCH") {
      const std::string media = MediaTypeOf(context.request);
      const Json patch = Json::parse(context.request.body, nullptr, false);
      if (patch.is_discarded()) throw BadRequest("Scale: the body is not JSON");
      if (media == "application/json-patch+json") {
        ApplyJsonPatch(wanted, patch);
      } else if (media == "application/merge-patch+json" ||
                 media == "application/strategic-merge-patch+json") {
        ApplyMergePatch(wanted, patch);
      } else {
        throw StatusError(415, "UnsupportedMediaType",
                          "the scale subresource takes a JSON or a merge patch here",
                          Json::object());
      }
    } else {
      throw MethodNotAllowed();
    }
    const std::string version = StringAt(wanted, {"metadata", "resourceVersion"});
    if (!version.empty() && version != std::to_string(before->resource_version)) {
      throw ModifiedMeanwhile(type, target.name);
    }
    const Json* replicas = At(wanted, {"spec", "replicas"});
    if (replicas != nullptr && (!replicas->is_number_integer() || *replicas < 0)) {
      throw Invalid(
          "autoscaling", "Scale", target.name,
          {{"spec.replicas", "FieldValueInvalid",
            "Invalid value: " + replicas->dump() + ": must be greater than or equal to 0"}});
    }
    object["spec"]["replicas"] = replicas == nullptr ? Json(0) : *replicas;
    try {
      const ObjectPtr now = UpdateObject(context, parent, before, object, true);
      return SendJson(context, 200, ScaleOf(now->Parse()));
    } catch (const StatusError& error) {
      if (error.code() != 409 || attempt == 20) throw;
    }
  }
}

}  // namespace pointsman::e2e

// The verb patch.
#include <optional>
#include <string>
#include <utility>

#include "e2e/control-plane/api/api_server.h"
#include "e2e/control-plane/api/crds.h"
#include "e2e/control-plane/api/managed_fields.h"
#include "e2e/control-plane/api/metadata.h"
#include "e2e/control-plane/api/patch.h"
#include "e2e/control-plane/registry/json_path.h"

namespace pointsman::e2e {
namespace {

constexpr int kMaxPatchAttempts = 21;  // of a patch that another write comes before

enum class PatchKind { kJson, kMerge, kStrategicMerge, kApply };

PatchKind patchKindOf(const HttpRequest& request, const ResourceType& type) {
  const std::string media = mediaTypeOf(request);
  if (media == "application/json-patch+json") return PatchKind::kJson;
  if (media == "application/merge-patch+json") return PatchKind::kMerge;
  if (media == "application/strategic-merge-patch+json" && !type.custom)
    return PatchKind::kStrategicMerge;
  if (media == "application/apply-patch+yaml") return PatchKind::kApply;
  std::string accepted = "application/json-patch+json, application/merge-patch+json";
  if (!type.custom) accepted += ", application/strategic-merge-patch+json";
  throw StatusError(
      415, "UnsupportedMediaType",
      "the body of the request was in an unknown format - accepted media types include: " +
          accepted + ", application/apply-patch+yaml",
      Json::object());
}

// Throws StatusError 400 or 422 for options and a configuration that cannot be applied.
void checkApplyRequest(const HttpRequest& request, const Json& body) {
  if (request.parameter("fieldManager").value_or("").empty()) {
    throw invalid(
        "meta.k8s.io", "PatchOptions", "",
        {{"fieldManager", "FieldValueRequired", "Required value: is required for apply patch"}});
  }
  if (!body.is_object()) throw badRequest("error decoding YAML: an object was expected");
  if (const Json* managed = at(body, {"metadata", "managedFields"});
      managed != nullptr && !managed->is_null())
    throw badRequest("metadata.managedFields must be nil");
  if (stringAt(body, {"apiVersion"}).empty() || stringAt(body, {"kind"}).empty())
    throw badRequest("Object 'Kind' is missing in the configuration to apply");
}

}  // namespace

// The configuration to apply, with what it may not say taken out.
Json ApiServer::appliedConfiguration(RequestContext& context, const Target& target,
                                     Json body) const {
  const ResourceType& type = *target.type;
  checkApplyRequest(context.request, body);
  const bool versioned = !stringAt(body, {"metadata", "resourceVersion"}).empty();
  checkIdentity(body, target);
  if (!versioned) body["metadata"].erase("resourceVersion");
  dropUnknownFields(body, target, context);
  if (type.storeName() == "apiextensions.k8s.io/customresourcedefinitions")
    CustomResources::checkApplied(body, options_.emulation);
  if (target.subresource == "status") {
    Json only = {
        {"apiVersion", body["apiVersion"]}, {"kind", body["kind"]}, {"metadata", body["metadata"]}};
    if (body.contains("status")) only["status"] = body["status"];
    return only;
  }
  if (type.hasStatus) body.erase("status");
  return body;
}

// An apply to what does not exist; nothing: another write created it meanwhile.
ObjectPtr ApiServer::createApplied(RequestContext& context, const Target& target, const Json& body,
                                   bool force) {
  const ResourceType& type = *target.type;
  AccessRequest access = accessOf(context.request, target);
  access.verb = "create";
  authorize(context, access);
  Json fresh = serverSideApply(nullptr, body, {context.manager, type.groupVersion(), ""}, force,
                               type.openApiSchema);
  fresh["apiVersion"] = type.groupVersion();
  fresh["kind"] = type.kind;
  try {
    return createObject(context, target, std::move(fresh));
  } catch (const StatusError& error) {
    if (error.reason() != "AlreadyExists") throw;
    return nullptr;
  }
}

void ApiServer::patch(RequestContext& context, const Target& target) {
  const HttpRequest& request = context.request;
  const ResourceType& type = *target.type;
  const PatchKind kind = patchKindOf(request, type);
  const bool apply = kind == PatchKind::kApply;
  Json body = apply ? parseYaml(request.body) : Json::parse(request.body, nullptr, false);
  if (body.is_discarded()) throw badRequest("error decoding patch: the body is not JSON");
  const bool force = isTrue(request.parameter("force"));
  if (force && !apply) {
    throw invalid(
        "meta.k8s.io", "PatchOptions", "",
        {{"force", "FieldValueForbidden", "Forbidden: may not be specified for non-apply patch"}});
  }
  if (apply) body = appliedConfiguration(context, target, std::move(body));
  // A patch that names the version or the uid it is for is not tried on another one.
  const bool merges = kind == PatchKind::kMerge || kind == PatchKind::kStrategicMerge;
  const bool conditional = (merges && !stringAt(body, {"metadata", "resourceVersion"}).empty()) ||
                           at(body, {"metadata", "uid"}) != nullptr;
  for (int attempt = 1;; ++attempt) {
    const ObjectPtr before = store_.get(type.storeName(), target.ns, target.name);
    if (!before) {
      if (!apply || !target.subresource.empty())
        throw notFound(type.group, type.plural, target.name);
      if (const ObjectPtr created = createApplied(context, target, body, force))
        return answer(context, 201, target, created);
      if (attempt == kMaxPatchAttempts) throw alreadyExists(type.group, type.plural, target.name);
      continue;
    }
    Json object = before->parse();
    object["apiVersion"] = type.groupVersion();
    switch (kind) {
      case PatchKind::kApply:
        object = serverSideApply(&object, body,
                                 {context.manager, type.groupVersion(), target.subresource}, force,
                                 type.openApiSchema);
        if (!body["metadata"].contains("resourceVersion"))
          object["metadata"]["resourceVersion"] = std::to_string(before->resourceVersion);
        break;
      case PatchKind::kStrategicMerge:
        applyStrategicMergePatch(object, body, type.openApiSchema);
        break;
      case PatchKind::kMerge:
        applyMergePatch(object, body);
        break;
      case PatchKind::kJson:
        applyJsonPatch(object, body);
        break;
    }
    try {
      return answer(context, 200, target,
                    updateObject(context, target, before, std::move(object), !apply));
    } catch (const StatusError& error) {
      const bool raced = error.reason() == "Conflict" && error.details().contains("name");
      if (!raced || conditional || attempt == kMaxPatchAttempts) throw;
    }
  }
}

}  // namespace pointsman::e2e

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

PatchKind PatchKindOf(const HttpRequest& request, const ResourceType& type) {
  const std::string media = MediaTypeOf(request);
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
void CheckApplyRequest(const HttpRequest& request, const Json& body) {
  if (request.Parameter("fieldManager").value_or("").empty()) {
    throw Invalid(
        "meta.k8s.io", "PatchOptions", "",
        {{"fieldManager", "FieldValueRequired", "Required value: is required for apply patch"}});
  }
  if (!body.is_object()) throw BadRequest("error decoding YAML: an object was expected");
  if (const Json* managed = At(body, {"metadata", "managedFields"});
      managed != nullptr && !managed->is_null())
    throw BadRequest("metadata.managedFields must be nil");
  if (StringAt(body, {"apiVersion"}).empty() || StringAt(body, {"kind"}).empty())
    throw BadRequest("Object 'Kind' is missing in the configuration to apply");
}

}  // namespace

// The configuration to apply, with what it may not say taken out.
Json ApiServer::AppliedConfiguration(RequestContext& context, const Target& target,
                                     Json body) const {
  const ResourceType& type = *target.type;
  CheckApplyRequest(context.request, body);
  const bool versioned = !StringAt(body, {"metadata", "resourceVersion"}).empty();
  CheckIdentity(body, target);
  if (!versioned) body["metadata"].erase("resourceVersion");
  DropUnknownFields(body, target, context);
  if (type.StoreName() == "apiextensions.k8s.io/customresourcedefinitions")
    CustomResources::CheckApplied(body, options_.emulation);
  if (target.subresource == "status") {
    Json only = {
        {"apiVersion", body["apiVersion"]}, {"kind", body["kind"]}, {"metadata", body["metadata"]}};
    if (body.contains("status")) only["status"] = body["status"];
    return only;
  }
  if (type.has_status) body.erase("status");
  return body;
}

// An apply to what does not exist; nothing: another write created it meanwhile.
ObjectPtr ApiServer::CreateApplied(RequestContext& context, const Target& target, const Json& body,
                                   bool force) {
  const ResourceType& type = *target.type;
  if (const std::string uid = StringAt(body, {"metadata", "uid"}); !uid.empty()) {
    throw Conflict(type.group, type.plural, target.name,
                   "uid mismatch: the provided object specified uid " + uid +
                       ", and no existing object was found");
  }
  AccessRequest access = AccessOf(context.request, target);
  access.verb = "create";
  Authorize(context, access);
  Json fresh = ServerSideApply(nullptr, body, {context.manager, type.GroupVersion(), ""}, force,
                               type.open_api_schema);
  fresh["apiVersion"] = type.GroupVersion();
  fresh["kind"] = type.kind;
  try {
    return CreateObject(context, target, std::move(fresh));
  } catch (const StatusError& error) {
    if (error.reason() != "AlreadyExists") throw;
    return nullptr;
  }
}

void ApiServer::Patch(RequestContext& context, const Target& target) {
  const HttpRequest& request = context.request;
  const ResourceType& type = *target.type;
  const PatchKind kind = PatchKindOf(request, type);
  const bool apply = kind == PatchKind::kApply;
  Json body = apply ? ParseYaml(request.body) : Json::parse(request.body, nullptr, false);
  if (body.is_discarded()) throw BadRequest("error decoding patch: the body is not JSON");
  const bool force = IsTrue(request.Parameter("force"));
  if (force && !apply) {
    throw Invalid(
        "meta.k8s.io", "PatchOptions", "",
        {{"force", "FieldValueForbidden", "Forbidden: may not be specified for non-apply patch"}});
  }
  if (apply) body = AppliedConfiguration(context, target, std::move(body));
  // A patch that names the version or the uid it is for is not tried on another one.
  const bool merges = kind == PatchKind::kMerge || kind == PatchKind::kStrategicMerge;
  const bool conditional = (merges && !StringAt(body, {"metadata", "resourceVersion"}).empty()) ||
                           At(body, {"metadata", "uid"}) != nullptr;
  for (int attempt = 1;; ++attempt) {
    const ObjectPtr before = store_.Get(type.StoreName(), target.ns, target.name);
    if (!before) {
      if (!apply || !target.subresource.empty())
        throw NotFound(type.group, type.plural, target.name);
      if (const ObjectPtr created = CreateApplied(context, target, body, force))
        return Answer(context, 201, target, created);
      if (attempt == kMaxPatchAttempts) throw AlreadyExists(type.group, type.plural, target.name);
      continue;
    }
    Json object = before->Parse();
    object["apiVersion"] = type.GroupVersion();
    switch (kind) {
      case PatchKind::kApply:
        object = ServerSideApply(&object, body,
                                 {context.manager, type.GroupVersion(), target.subresource}, force,
                                 type.open_api_schema);
        if (!body["metadata"].contains("resourceVersion"))
          object["metadata"]["resourceVersion"] = std::to_string(before->resource_version);
        break;
      case PatchKind::kStrategicMerge:
        ApplyStrategicMergePatch(object, body, type.open_api_schema);
        break;
      case PatchKind::kMerge:
        ApplyMergePatch(object, body);
        break;
      case PatchKind::kJson:
        ApplyJsonPatch(object, body);
        break;
    }
    try {
      return Answer(context, 200, target,
                    UpdateObject(context, target, before, std::move(object), !apply));
    } catch (const StatusError& error) {
      const bool raced = error.reason() == "Conflict" && error.details().contains("name");
      if (!raced || conditional || attempt == kMaxPatchAttempts) throw;
    }
  }
}

}  // namespace pointsman::e2e

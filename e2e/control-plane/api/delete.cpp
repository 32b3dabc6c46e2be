// The verbs delete and deletecollection.
#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>

#include "e2e/control-plane/api/api_server.h"
#include "e2e/control-plane/registry/deletion.h"
#include "e2e/control-plane/registry/json_path.h"

namespace pointsman::e2e {
namespace {

DeleteOptions DeleteOptionsOf(const HttpRequest& request, const Json& body, bool dry_run) {
  if (const std::string kind = StringAt(body, {"kind"}); !kind.empty() && kind != "DeleteOptions")
    throw BadRequest("no kind \"" + kind + "\" is registered for options of a deletion");
  DeleteOptions options;
  options.dry_run = dry_run;
  options.propagation_policy = request.Parameter("propagationPolicy").value_or("");
  if (const Json* policy = At(body, {"propagationPolicy"});
      policy != nullptr && policy->is_string()) {
    options.propagation_policy = *policy;
  }
  if (!options.propagation_policy.empty() && options.propagation_policy != "Background" &&
      options.propagation_policy != "Foreground" && options.propagation_policy != "Orphan") {
    throw Invalid("meta.k8s.io", "DeleteOptions", "",
                  {{"propagationPolicy", "FieldValueNotSupported",
                    "Unsupported value: \"" + options.propagation_policy +
                        "\": supported values: \"Background\", \"Foreground\", \"Orphan\""}});
  }
  const Json* orphan = At(body, {"orphanDependents"});
  if (orphan != nullptr && !orphan->is_null() && !options.propagation_policy.empty()) {
    throw Invalid("meta.k8s.io", "DeleteOptions", "",
                  {{"propagationPolicy", "FieldValueInvalid",
                    "Invalid value: " + Json(options.propagation_policy).dump() +
                        ": orphanDependents and deletionPropagation cannot be both set"}});
  }
  if (orphan != nullptr && orphan->is_boolean() && *orphan == true)
    options.propagation_policy = "Orphan";
  if (const Json* uid = At(body, {"preconditions", "uid"}); uid != nullptr && uid->is_string()) {
    options.uid = *uid;
  }
  if (const Json* version = At(body, {"preconditions", "resourceVersion"});
      version != nullptr && version->is_string()) {
    options.resource_version = *version;
  }
  if (const auto grace = request.Parameter("gracePeriodSeconds"); grace && !grace->empty()) {
    options.grace_period_seconds =
        static_cast<std::int64_t>(ParseVersion("gracePeriodSeconds", *grace));
  }
  if (const Json* grace = At(body, {"gracePeriodSeconds"});
      grace != nullptr && grace->is_number_integer()) {
    options.grace_period_seconds = std::max<std::int64_t>(0, grace->get<std::int64_t>());
  }
  return options;
}

}  // namespace

void ApiServer::Remove(RequestContext& context, const Target& target) {
  const ResourceType& type = *target.type;
  const Json body = DecodeOptionalBody(context.request, "DeleteOptions");
  DeleteOptions options = DeleteOptionsOf(context.request, body, context.dry_run);
  if (const Json* dry_run = At(body, {"dryRun"});
      dry_run != nullptr && dry_run->is_array() && !dry_run->empty()) {
    options.dry_run = true;
  }
  if (type.group.empty() && type.plural == "namespaces" &&
      (target.name == "default" || target.name == "kube-system" || target.name == "kube-public")) {
    throw Forbidden("", "namespaces", target.name, "this namespace may not be deleted");
  }
  if (const ObjectPtr before = store_.Get(type.StoreName(), target.ns, target.name)) {
    const Json old = before->Parse();
    Admit(context, target, "DELETE", nullptr, &old);
  }
  const DeleteResult result = DeleteObject(store_, type, target.ns, target.name, options);
  if (!result.removed || type.returned_when_deleted)
    return Answer(context, 200, target, result.object);
  Json details = {{"name", target.name}, {"kind", type.plural}, {"uid", result.object->uid}};
  if (!type.group.empty()) details["group"] = type.group;
  SendSuccess(context, 200, details);
}

void ApiServer::RemoveCollection(RequestContext& context, const Target& target) {
  const ResourceType& type = *target.type;
  if (type.namespaced && target.ns.empty()) throw MethodNotAllowed();
  if (type.group.empty() && (type.plural == "namespaces" ||
                             (type.plural == "services" && !options_.emulation.AtLeast(23)))) {
    throw MethodNotAllowed();
  }
  const Json body = DecodeOptionalBody(context.request, "DeleteOptions");
  const DeleteOptions options = DeleteOptionsOf(context.request, body, context.dry_run);
  const Selector selector = SelectorOf(context.request, target);
  Snapshot snapshot = store_.List(type.StoreName(), target.ns);
  std::erase_if(snapshot.objects, [&](const ObjectPtr& o) { return !selector.Matches(*o); });
  for (const ObjectPtr& object : snapshot.objects) {
    Target one = target;
    one.name = object->name;
    const Json old = object->Parse();
    Admit(context, one, "DELETE", nullptr, &old);
    try {
      DeleteObject(store_, type, object->ns, object->name, options);
    } catch (const StatusError& error) {
      if (error.code() != 404) throw;  // gone already
    }
  }
  SendList(context, type, snapshot.objects, {store_.ResourceVersion(), "", std::nullopt},
           Rendering());
}

}  // namespace pointsman::e2e

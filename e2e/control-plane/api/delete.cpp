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

DeleteOptions deleteOptionsOf(const HttpRequest& request, const Json& body, bool dryRun) {
  DeleteOptions options;
  options.dryRun = dryRun;
  options.propagationPolicy = request.parameter("propagationPolicy").value_or("");
  if (const Json* policy = at(body, {"propagationPolicy"});
      policy != nullptr && policy->is_string()) {
    options.propagationPolicy = *policy;
  }
  if (!options.propagationPolicy.empty() && options.propagationPolicy != "Background" &&
      options.propagationPolicy != "Foreground" && options.propagationPolicy != "Orphan") {
    throw invalid("meta.k8s.io", "DeleteOptions", "",
                  {{"propagationPolicy", "FieldValueNotSupported",
                    "Unsupported value: \"" + options.propagationPolicy +
                        "\": supported values: \"Background\", \"Foreground\", \"Orphan\""}});
  }
  const Json* orphan = at(body, {"orphanDependents"});
  if (orphan != nullptr && orphan->is_boolean() && *orphan == true)
    options.propagationPolicy = "Orphan";
  if (const Json* uid = at(body, {"preconditions", "uid"}); uid != nullptr && uid->is_string()) {
    options.uid = *uid;
  }
  if (const Json* version = at(body, {"preconditions", "resourceVersion"});
      version != nullptr && version->is_string()) {
    options.resourceVersion = *version;
  }
  if (const auto grace = request.parameter("gracePeriodSeconds"); grace && !grace->empty()) {
    options.gracePeriodSeconds =
        static_cast<std::int64_t>(parseVersion("gracePeriodSeconds", *grace));
  }
  if (const Json* grace = at(body, {"gracePeriodSeconds"});
      grace != nullptr && grace->is_number_integer()) {
    options.gracePeriodSeconds = std::max<std::int64_t>(0, grace->get<std::int64_t>());
  }
  return options;
}

}  // namespace

void ApiServer::remove(RequestContext& context, const Target& target) {
  const ResourceType& type = *target.type;
  const Json body = decodeOptionalBody(context.request, "DeleteOptions");
  DeleteOptions options = deleteOptionsOf(context.request, body, context.dryRun);
  if (const Json* dryRun = at(body, {"dryRun"});
      dryRun != nullptr && dryRun->is_array() && !dryRun->empty()) {
    options.dryRun = true;
  }
  if (type.group.empty() && type.plural == "namespaces" &&
      (target.name == "default" || target.name == "kube-system" || target.name == "kube-public")) {
    throw forbidden("", "namespaces", target.name, "this namespace may not be deleted");
  }
  if (const ObjectPtr before = store_.get(type.storeName(), target.ns, target.name)) {
    const Json old = before->parse();
    admit(context, target, "DELETE", nullptr, &old);
  }
  const DeleteResult result = deleteObject(store_, type, target.ns, target.name, options);
  if (!result.removed) return answer(context, 200, target, result.object);
  Json details = {{"name", target.name}, {"kind", type.plural}, {"uid", result.object->uid}};
  if (!type.group.empty()) details["group"] = type.group;
  sendSuccess(context, 200, details);
}

void ApiServer::removeCollection(RequestContext& context, const Target& target) {
  const ResourceType& type = *target.type;
  if (type.namespaced && target.ns.empty()) throw methodNotAllowed();
  if (type.group.empty() && (type.plural == "namespaces" ||
                             (type.plural == "services" && !options_.emulation.atLeast(23)))) {
    throw methodNotAllowed();
  }
  const Json body = decodeOptionalBody(context.request, "DeleteOptions");
  const DeleteOptions options = deleteOptionsOf(context.request, body, context.dryRun);
  const Selector selector = selectorOf(context.request, target);
  Snapshot snapshot = store_.list(type.storeName(), target.ns);
  std::erase_if(snapshot.objects, [&](const ObjectPtr& o) { return !selector.matches(*o); });
  for (const ObjectPtr& object : snapshot.objects) {
    Target one = target;
    one.name = object->name;
    const Json old = object->parse();
    admit(context, one, "DELETE", nullptr, &old);
    try {
      deleteObject(store_, type, object->ns, object->name, options);
    } catch (const StatusError& error) {
      if (error.code() != 404) throw;  // gone already
    }
  }
  sendList(context, type, snapshot.objects, {store_.resourceVersion(), "", std::nullopt},
           Rendering());
}

}  // namespace pointsman::e2e

#include "e2e/control-plane/registry/deletion.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "e2e/control-plane/base/api_time.h"
#include "e2e/control-plane/registry/json_path.h"

namespace pointsman::e2e {
namespace {

bool HasFinalizers(const ResourceType& type, const Json& object) {
  const Json* list = At(object, {"metadata", "finalizers"});
  if (list != nullptr && list->is_array() && !list->empty()) return true;
  if (type.group.empty() && type.plural == "namespaces") {
    const Json* own = At(object, {"spec", "finalizers"});
    return own != nullptr && own->is_array() && !own->empty();
  }
  return false;
}

// How long a Pod has to end, which its kubelet grants and then removes it with a second deletion
// (registry/core/pod/strategy.go, CheckGracefulDelete). 0: it goes at once, as everything else
// does.
std::int64_t GracePeriod(const ResourceType& type, const Json& object,
                         const DeleteOptions& options) {
  if (!type.group.empty() || type.plural != "pods") return 0;
  const std::string phase = StringAt(object, {"status", "phase"});
  if (StringAt(object, {"spec", "nodeName"}).empty() || phase == "Failed" || phase == "Succeeded")
    return 0;
  return options.grace_period_seconds.value_or(
      IntAt(object, {"spec", "terminationGracePeriodSeconds"}, 30));
}

ObjectPtr RemoveNow(Store& store, const ResourceType& type, const ObjectPtr& object) {
  ObjectPtr last =
      store.Remove(type.StoreName(), object->ns, object->name, object->resource_version);
  if (type.after_write) {
    const Json old = object->Parse();
    type.after_write(&old, nullptr);
  }
  return last;
}

}  // namespace

DeleteResult DeleteObject(Store& store, const ResourceType& type, std::string_view ns,
                          std::string_view name, const DeleteOptions& options) {
  for (;;) {
    const ObjectPtr present = store.Get(type.StoreName(), ns, name);
    if (!present) throw NotFound(type.group, type.plural, std::string(name));
    if (options.uid && *options.uid != present->uid) {
      throw Conflict(type.group, type.kind, std::string(name),
                     "the UID in the precondition (" + *options.uid +
                         ") does not match the UID in record (" + present->uid +
                         "). The object might have been deleted and then recreated");
    }
    if (options.resource_version &&
        *options.resource_version != std::to_string(present->resource_version)) {
      throw Conflict(type.group, type.kind, std::string(name),
                     "the ResourceVersion in the precondition (" + *options.resource_version +
                         ") does not match the ResourceVersion in record (" +
                         std::to_string(present->resource_version) +
                         "). The object might have been modified");
    }
    Json object = present->Parse();
    Json& metadata = object["metadata"];
    const std::string finalizer = options.propagation_policy == "Foreground" ? "foregroundDeletion"
                                  : options.propagation_policy == "Orphan"   ? "orphan"
                                                                             : "";
    if (!finalizer.empty()) {
      Json& list = metadata["finalizers"];
      if (!list.is_array()) list = Json::array();
      if (std::find(list.begin(), list.end(), finalizer) == list.end()) list.push_back(finalizer);
    }
    const std::int64_t grace = GracePeriod(type, object, options);
    const bool marked = metadata.contains("deletionTimestamp");
    const bool sooner =
        options.grace_period_seconds && grace < IntAt(metadata, {"deletionGracePeriodSeconds"});
    try {
      if (!HasFinalizers(type, object) && grace > 0 && marked && !sooner) return {present, false};
      if (!HasFinalizers(type, object) && grace == 0) {
        if (options.dry_run) return {present, true};
        return {RemoveNow(store, type, present), true};
      }
      if (marked && !sooner && finalizer.empty()) return {present, false};
      if (!marked || sooner) {
        metadata["deletionTimestamp"] =
            FormatTime(std::chrono::system_clock::now() + std::chrono::seconds(grace));
        metadata["deletionGracePeriodSeconds"] = grace;
        if (type.generations) metadata["generation"] = metadata.value("generation", 0) + 1;
        if (type.group.empty() && type.plural == "namespaces") {
          object["status"]["phase"] = "Terminating";
        }
      }
      if (options.dry_run) return {present, false};
      const Json old = present->Parse();
      const ObjectPtr updated = store.Update(type.StoreName(), object, present->resource_version);
      if (type.after_write) {
        const Json now = updated->Parse();
        type.after_write(&old, &now);
      }
      return {updated, false};
    } catch (const StatusError& e) {
      // Another writer came between; unless the caller asked for that very version, look again.
      if (e.code() != 409 || options.resource_version) throw;
    }
  }
}

bool RemoveIfFinalized(Store& store, const ResourceType& type, const ObjectPtr& object) {
  const Json value = object->Parse();
  if (At(value, {"metadata", "deletionTimestamp"}) == nullptr || HasFinalizers(type, value) ||
      IntAt(value, {"metadata", "deletionGracePeriodSeconds"}) > 0) {
    return false;
  }
  try {
    RemoveNow(store, type, object);
  } catch (const StatusError& e) {
    if (e.code() == 404) return true;
    if (e.code() == 409) return false;  // changed meanwhile: whoever did decides again
    throw;
  }
  return true;
}

}  // namespace pointsman::e2e

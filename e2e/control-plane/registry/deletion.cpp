#include "e2e/control-plane/registry/deletion.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "e2e/control-plane/registry/api_time.h"
#include "e2e/control-plane/registry/json_path.h"

namespace pointsman::e2e {
namespace {

bool hasFinalizers(const ResourceType& type, const Json& object) {
  const Json* list = at(object, {"metadata", "finalizers"});
  if (list != nullptr && list->is_array() && !list->empty()) return true;
  if (type.group.empty() && type.plural == "namespaces") {
    const Json* own = at(object, {"spec", "finalizers"});
    return own != nullptr && own->is_array() && !own->empty();
  }
  return false;
}

// How long a Pod has to end, which its kubelet grants and then removes it with a second deletion
// (registry/core/pod/strategy.go, CheckGracefulDelete). 0: it goes at once, as everything else
// does.
std::int64_t gracePeriod(const ResourceType& type, const Json& object,
                         const DeleteOptions& options) {
  if (!type.group.empty() || type.plural != "pods") return 0;
  const std::string phase = stringAt(object, {"status", "phase"});
  if (stringAt(object, {"spec", "nodeName"}).empty() || phase == "Failed" || phase == "Succeeded")
    return 0;
  return options.gracePeriodSeconds.value_or(
      intAt(object, {"spec", "terminationGracePeriodSeconds"}, 30));
}

ObjectPtr removeNow(Store& store, const ResourceType& type, const ObjectPtr& object) {
  ObjectPtr last =
      store.remove(type.storeName(), object->ns, object->name, object->resourceVersion);
  if (type.afterWrite) {
    const Json old = object->parse();
    type.afterWrite(&old, nullptr);
  }
  return last;
}

}  // namespace

DeleteResult deleteObject(Store& store, const ResourceType& type, std::string_view ns,
                          std::string_view name, const DeleteOptions& options) {
  for (;;) {
    const ObjectPtr present = store.get(type.storeName(), ns, name);
    if (!present) throw notFound(type.group, type.plural, std::string(name));
    if (options.uid && *options.uid != present->uid) {
      throw conflict(type.group, type.plural, std::string(name),
                     "the UID in the precondition (" + *options.uid +
                         ") does not match the UID in record (" + present->uid +
                         "). The object might have been deleted and then recreated");
    }
    if (options.resourceVersion &&
        *options.resourceVersion != std::to_string(present->resourceVersion)) {
      throw conflict(type.group, type.plural, std::string(name),
                     "the ResourceVersion in the precondition (" + *options.resourceVersion +
                         ") does not match the ResourceVersion in record (" +
                         std::to_string(present->resourceVersion) +
                         "). The object might have been modified");
    }
    Json object = present->parse();
    Json& metadata = object["metadata"];
    const std::string finalizer = options.propagationPolicy == "Foreground" ? "foregroundDeletion"
                                  : options.propagationPolicy == "Orphan"   ? "orphan"
                                                                            : "";
    if (!finalizer.empty()) {
      Json& list = metadata["finalizers"];
      if (!list.is_array()) list = Json::array();
      if (std::find(list.begin(), list.end(), finalizer) == list.end()) list.push_back(finalizer);
    }
    const std::int64_t grace = gracePeriod(type, object, options);
    const bool marked = metadata.contains("deletionTimestamp");
    const bool sooner =
        options.gracePeriodSeconds && grace < intAt(metadata, {"deletionGracePeriodSeconds"});
    try {
      if (!hasFinalizers(type, object) && grace > 0 && marked && !sooner) return {present, false};
      if (!hasFinalizers(type, object) && grace == 0) {
        if (options.dryRun) return {present, true};
        return {removeNow(store, type, present), true};
      }
      if (marked && !sooner && finalizer.empty()) return {present, false};
      if (!marked || sooner) {
        metadata["deletionTimestamp"] =
            formatTime(std::chrono::system_clock::now() + std::chrono::seconds(grace));
        metadata["deletionGracePeriodSeconds"] = grace;
        if (type.generations) metadata["generation"] = metadata.value("generation", 0) + 1;
        if (type.group.empty() && type.plural == "namespaces") {
          object["status"]["phase"] = "Terminating";
        }
      }
      if (options.dryRun) return {present, false};
      const Json old = present->parse();
      const ObjectPtr updated = store.update(type.storeName(), object, present->resourceVersion);
      if (type.afterWrite) {
        const Json now = updated->parse();
        type.afterWrite(&old, &now);
      }
      return {updated, false};
    } catch (const StatusError& e) {
      // Another writer came between; unless the caller asked for that very version, look again.
      if (e.code() != 409 || options.resourceVersion) throw;
    }
  }
}

bool removeIfFinalized(Store& store, const ResourceType& type, const ObjectPtr& object) {
  const Json value = object->parse();
  if (at(value, {"metadata", "deletionTimestamp"}) == nullptr || hasFinalizers(type, value) ||
      intAt(value, {"metadata", "deletionGracePeriodSeconds"}) > 0) {
    return false;
  }
  try {
    removeNow(store, type, object);
  } catch (const StatusError& e) {
    if (e.code() == 404) return true;
    if (e.code() == 409) return false;  // changed meanwhile: whoever did decides again
    throw;
  }
  return true;
}

}  // namespace pointsman::e2e

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "e2e/control-plane/registry/resource_type.h"

namespace pointsman::e2e {

struct DeleteOptions {
  // Background, Foreground or Orphan; empty means the default of the type (Background).
  std::string propagation_policy;
  std::optional<std::string> uid;               // precondition
  std::optional<std::string> resource_version;  // precondition
  std::optional<std::int64_t> grace_period_seconds;
  bool dry_run = false;
};

struct DeleteResult {
  ObjectPtr object;      // the last state, or the state with deletionTimestamp
  bool removed = false;  // false: finalizers, or a Pod's grace period, hold it back
};

// Deletes as the API does: preconditions, a Pod's grace period, finalizers (Foreground and Orphan
// add theirs), deletionTimestamp, a namespace's own finalizer; then the type's after_write. Throws
// StatusError 404, 409. For the DELETE verb, the garbage collector and the other controllers.
DeleteResult DeleteObject(Store& store, const ResourceType& type, std::string_view ns,
                          std::string_view name, const DeleteOptions& options = {});

// Removes an object that is marked as deleted and has no finalizers left; call it after an update
// that took one away. Returns whether it was removed.
bool RemoveIfFinalized(Store& store, const ResourceType& type, const ObjectPtr& object);

}  // namespace pointsman::e2e

// Pods as controllers handle them.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "e2e/control-plane/controllers/controllers.h"

namespace pointsman::e2e {

// What an object that `owner` controls says of it in its metadata.ownerReferences.
Json ControllerReference(const Json& owner);
// False: the object of that uid was none of its owners.
bool DropOwner(Json& object, const std::string& uid);

// The Pod a controller makes of its template: owned by `owner`, with a generated name.
Json PodFromTemplate(const Json& owner, const Json& pod_template);
// With the admission, defaults and validation of the API. Throws StatusError.
ObjectPtr CreatePod(Store& store, Registry& registry, Json pod);
// Gracefully; gone or going already is no error.
void DeletePod(Store& store, Registry& registry, const Json& pod);

bool IsReady(const Json& pod);
// Since when; nullopt: it is not, or for no known time.
std::optional<std::chrono::system_clock::time_point> ReadySince(const Json& pod);
bool IsTerminating(const Json& object);
bool HasEnded(const Json& pod);
bool IsControlledBy(const Json& object, const Json& owner);
// "namespace/name" of the controlling owner of that kind, "" if there is none.
std::string ControllerKey(const StoredObject& object, const std::string& kind);

// Of a Pod template, for names and labels.
std::string HashOf(const Json& value);
// "10%" of `total`, or the number.
int64_t Share(const Json& value, int64_t total, bool round_up);

}  // namespace pointsman::e2e

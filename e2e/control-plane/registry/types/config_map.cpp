#include <string>
#include <vector>

#include "e2e/control-plane/registry/field_checks.h"
#include "e2e/control-plane/registry/types/types.h"

namespace pointsman::e2e {

ResourceType makeConfigMapType(const TypeBuilder& build) {
  ResourceType configMaps = build.make("", "v1", "configmaps", "ConfigMap", true, {"cm"});
  configMaps.columns = {kName, column("Data"), kAge};
  configMaps.cells = [](const Json& o, Clock::time_point now) -> Cells {
    return {nameOf(o), std::to_string(sizeOf(o, "data") + sizeOf(o, "binaryData")), age(o, now)};
  };
  configMaps.validate = [](const Json& o, const Json* old, const RequestInfo&) {
    std::vector<FieldError> errors;
    checkConfigKeys(o, "data", errors);
    checkConfigKeys(o, "binaryData", errors);
    if (old != nullptr && old->value("immutable", false) &&
        (o.value("data", Json()) != old->value("data", Json()) || !o.value("immutable", false))) {
      errors.push_back(forbiddenValue("data", "field is immutable when `immutable` is set"));
    }
    return errors;
  };
  return configMaps;
}

}  // namespace pointsman::e2e

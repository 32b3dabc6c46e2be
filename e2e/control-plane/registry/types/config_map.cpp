#include <string>
#include <vector>

#include "e2e/control-plane/registry/field_checks.h"
#include "e2e/control-plane/registry/types/types.h"

namespace pointsman::e2e {

ResourceType MakeConfigMapType(const TypeBuilder& build) {
  ResourceType config_maps = build.Make("", "v1", "configmaps", "ConfigMap", true, {"cm"});
  config_maps.columns = {kName, Column("Data"), kAge};
  config_maps.cells = [](const Json& o, Clock::time_point now) -> Cells {
    return {NameOf(o), SizeOf(o, "data") + SizeOf(o, "binaryData"), Age(o, now)};
  };
  config_maps.validate = [](const Json& o, const Json* old, const RequestInfo&) {
    std::vector<FieldError> errors;
    CheckConfigKeys(o, "data", errors);
    CheckConfigKeys(o, "binaryData", errors);
    if (old != nullptr && old->value("immutable", false) &&
        (o.value("data", Json()) != old->value("data", Json()) || !o.value("immutable", false))) {
      errors.push_back(ForbiddenValue("data", "field is immutable when `immutable` is set"));
    }
    return errors;
  };
  return config_maps;
}

}  // namespace pointsman::e2e

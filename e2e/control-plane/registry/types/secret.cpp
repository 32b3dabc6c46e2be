#include <string>
#include <vector>

#include "e2e/control-plane/registry/base64.h"
#include "e2e/control-plane/registry/field_checks.h"
#include "e2e/control-plane/registry/json_path.h"
#include "e2e/control-plane/registry/types/types.h"

namespace pointsman::e2e {

ResourceType makeSecretType(const TypeBuilder& build) {
  ResourceType secrets = build.make("", "v1", "secrets", "Secret", true);
  secrets.columns = {kName, column("Type"), column("Data"), kAge};
  secrets.cells = [](const Json& o, Clock::time_point now) -> Cells {
    return {nameOf(o), stringAt(o, {"type"}), std::to_string(sizeOf(o, "data")), age(o, now)};
  };
  secrets.applyDefaults = [](Json& o) {
    setDefault(o, "type", "Opaque");
    if (o.contains("stringData") && o["stringData"].is_object()) {
      for (const auto& [key, value] : o["stringData"].items()) {
        if (value.is_string()) o["data"][key] = base64Encode(value.get<std::string>());
      }
      o.erase("stringData");
    }
  };
  secrets.validate = [](const Json& o, const Json* old, const RequestInfo&) {
    std::vector<FieldError> errors;
    checkConfigKeys(o, "data", errors);
    if (old != nullptr && old->value("type", "") != o.value("type", "")) {
      errors.push_back(invalidValue("type", o.value("type", ""), "field is immutable"));
    }
    return errors;
  };
  build.indexFields(secrets, {"type"});
  return secrets;
}

}  // namespace pointsman::e2e

#include <string>
#include <vector>

#include "e2e/control-plane/base/base64.h"
#include "e2e/control-plane/registry/field_checks.h"
#include "e2e/control-plane/registry/json_path.h"
#include "e2e/control-plane/registry/types/types.h"

namespace pointsman::e2e {

ResourceType MakeSecretType(const TypeBuilder& build) {
  ResourceType secrets = build.Make("", "v1", "secrets", "Secret", true);
  secrets.columns = {kName, Column("Type"), Column("Data"), kAge};
  secrets.cells = [](const Json& o, Clock::time_point now) -> Cells {
    return {NameOf(o), StringAt(o, {"type"}), std::to_string(SizeOf(o, "data")), Age(o, now)};
  };
  secrets.apply_defaults = [](Json& o) {
    SetDefault(o, "type", "Opaque");
    if (o.contains("stringData") && o["stringData"].is_object()) {
      for (const auto& [key, value] : o["stringData"].items()) {
        if (value.is_string()) o["data"][key] = Base64Encode(value.get<std::string>());
      }
      o.erase("stringData");
    }
  };
  secrets.validate = [](const Json& o, const Json* old, const RequestInfo&) {
    std::vector<FieldError> errors;
    CheckConfigKeys(o, "data", errors);
    if (old != nullptr && old->value("type", "") != o.value("type", "")) {
      errors.push_back(InvalidValue("type", o.value("type", ""), "field is immutable"));
    }
    return errors;
  };
  build.IndexFields(secrets, {"type"});
  return secrets;
}

}  // namespace pointsman::e2e

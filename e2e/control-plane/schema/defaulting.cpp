#include "e2e/control-plane/schema/defaulting.h"

namespace pointsman::e2e::schema {

void ApplyDefaults(Json& value, const Structural& s) {
  if (value.is_object()) {
    for (const auto& [name, property] : s.properties) {
      if (!property.default_value) continue;
      auto found = value.find(name);
      if (found == value.end() || (found->is_null() && !property.nullable)) {
        value[name] = *property.default_value;
      }
    }
    for (auto& [name, field] : value.items()) {
      const Structural* schema = s.Field(name);
      if (!schema) continue;
      if (field.is_null() && !schema->nullable && schema->default_value) {
        field = *schema->default_value;
      }
      ApplyDefaults(field, *schema);
    }
  } else if (value.is_array() && s.items) {
    for (auto& item : value) {
      if (item.is_null() && !s.items->nullable && s.items->default_value) {
        item = *s.items->default_value;
      }
      ApplyDefaults(item, *s.items);
    }
  }
}

}  // namespace pointsman::e2e::schema

#include "e2e/control-plane/registry/types/cells.h"

#include "e2e/control-plane/base/api_time.h"
#include "e2e/control-plane/registry/json_path.h"

namespace pointsman::e2e {

const TableColumn kName{"Name", "string", "name",
                        "Name must be unique within a namespace. Is required when creating "
                        "resources, although some resources may allow a client to request the "
                        "generation of an appropriate name automatically.",
                        0};
const TableColumn kAge{"Age", "string", "",
                       "CreationTimestamp is a timestamp representing the server time when this "
                       "object was created.",
                       0};

TableColumn Column(const char* name, const char* type, int priority) {
  return {name, type, "", name, priority};
}

std::string NameOf(const Json& object) {
  return StringAt(object, {"metadata", "name"});
}

std::string Age(const Json& object, Clock::time_point now) {
  const Json* metadata = At(object, {"metadata"});
  return metadata == nullptr ? "<unknown>" : AgeOf(*metadata, "creationTimestamp", now);
}

std::string Join(const std::vector<std::string>& parts, const std::string& separator) {
  std::string text;
  for (const std::string& part : parts)
    text += (text.empty() ? "" : separator) + part;
  return text;
}

std::string JoinSome(const std::vector<std::string>& all, std::size_t most) {
  if (all.size() <= most) return Join(all);
  const std::vector<std::string> some(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(most));
  return Join(some) + " + " + std::to_string(all.size() - most) + " more...";
}

std::string OrNone(const std::string& text) {
  return text.empty() ? "<none>" : text;
}

std::string SelectorText(const Json* selector) {
  if (selector == nullptr || !selector->is_object() || selector->empty()) return "<none>";
  std::string text;
  for (const auto& [key, value] : selector->items()) {
    text +=
        (text.empty() ? "" : ",") + key + "=" + (value.is_string() ? value.get<std::string>() : "");
  }
  return text;
}

std::string LabelSelectorText(const Json* selector) {
  if (selector == nullptr || !selector->is_object()) return "<none>";
  std::string text;
  if (const Json* labels = At(*selector, {"matchLabels"}); labels != nullptr && !labels->empty()) {
    text = SelectorText(labels);
  }
  for (const Json& e : ArrayAt(*selector, {"matchExpressions"})) {
    std::vector<std::string> values;
    for (const Json& v : ArrayAt(e, {"values"}))
      values.push_back(v.get<std::string>());
    const std::string op = StringAt(e, {"operator"});
    const std::string key = StringAt(e, {"key"});
    std::string piece = op == "Exists"         ? key
                        : op == "DoesNotExist" ? "!" + key
                        : op == "In"           ? key + " in (" + Join(values) + ")"
                                               : key + " notin (" + Join(values) + ")";
    text += (text.empty() ? "" : ",") + piece;
  }
  return OrNone(text);
}

std::size_t SizeOf(const Json& object, const char* field) {
  const auto value = object.find(field);
  return value == object.end() ? 0 : value->size();
}

}  // namespace pointsman::e2e

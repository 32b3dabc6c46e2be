#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "e2e/control-plane/registry/resource_type.h"

namespace pointsman::e2e {

// A label selector, equality- and set-based. Throws StatusError 400 for what does not parse.
class LabelSelector {
 public:
  explicit LabelSelector(std::string_view text);
  bool empty() const { return requirements_.empty(); }
  bool Matches(const std::vector<std::pair<std::string, std::string>>& labels) const;

 private:
  struct Requirement {
    enum Op { kIn, kNotIn, kExists, kMissing, kGreater, kLess } op = kExists;
    std::string key;
    std::vector<std::string> values;
  };
  std::vector<Requirement> requirements_;
};

// A field selector: metadata.name, metadata.namespace and what the type offers. Throws StatusError
// 400 for another field or what does not parse.
class FieldSelector {
 public:
  FieldSelector(std::string_view text, const ResourceType& type);
  bool empty() const { return requirements_.empty(); }
  bool Matches(const StoredObject& object) const;
  // The name an exact metadata.name requirement asks for.
  std::optional<std::string> name() const;

 private:
  struct Requirement {
    std::string field;
    std::string value;
    bool equal = true;
  };
  std::vector<Requirement> requirements_;
};

struct Selector {
  LabelSelector labels;
  FieldSelector fields;
  bool empty() const { return labels.empty() && fields.empty(); }
  bool Matches(const StoredObject& object) const {
    return labels.Matches(object.labels) && fields.Matches(object);
  }
};

}  // namespace pointsman::e2e

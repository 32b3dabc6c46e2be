#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "e2e/control-plane/base/status_error.h"

namespace pointsman::e2e {

// The JSONPath of printer columns: .a.b, ['a.b'], [0], [*], [?(@.type=="Ready")]. Throws
// std::invalid_argument for anything else.
class JsonPath {
 public:
  explicit JsonPath(std::string_view path);
  // Every match, in order; pointers into `root`.
  std::vector<const Json*> Find(const Json& root) const;

 private:
  struct Step {
    enum Kind { kField, kIndex, kAll, kFilter } kind = kField;
    std::string name;  // field, or the filter's path
    std::vector<std::string> filter_path;
    std::string op;
    Json value;
    int index = 0;
  };
  std::vector<Step> steps_;
};

// The member, or null when any step is missing or not an object.
const Json* At(const Json& object, std::initializer_list<const char*> path);
std::string StringAt(const Json& object, std::initializer_list<const char*> path);
std::int64_t IntAt(const Json& object, std::initializer_list<const char*> path,
                   std::int64_t otherwise = 0);
// The member if it is a list, else an empty one.
const Json& ArrayAt(const Json& object, std::initializer_list<const char*> path);

}  // namespace pointsman::e2e

#pragma once

#include "e2e/control-plane/registry/status_error.h"

namespace pointsman::e2e {

/// The JSONPath of printer columns: .a.b, ['a.b'], [0], [*], [?(@.type=="Ready")]. Throws
/// std::invalid_argument for anything else.
class JsonPath {
 public:
  explicit JsonPath(std::string_view path);
  /// Every match, in order; pointers into `root`.
  std::vector<const Json*> find(const Json& root) const;

 private:
  struct Step {
    enum Kind { kField, kIndex, kAll, kFilter } kind = kField;
    std::string name;  // field, or the filter's path
    std::vector<std::string> filterPath;
    std::string op;
    Json value;
    int index = 0;
  };
  std::vector<Step> steps_;
};

/// "5s", "3m20s", "47h", "12d": an age as kubectl prints it.
std::string humanDuration(std::chrono::seconds age);
/// Seconds since the epoch of an RFC 3339 time; nullopt when malformed.
std::optional<std::chrono::system_clock::time_point> parseTime(std::string_view text);
/// The age of the RFC 3339 time at `field` of `object`; "<unknown>" without one.
std::string ageOf(const Json& object, const char* field, std::chrono::system_clock::time_point now);
std::string formatTime(std::chrono::system_clock::time_point time);

/// The member, or null when any step is missing or not an object.
const Json* at(const Json& object, std::initializer_list<const char*> path);
std::string stringAt(const Json& object, std::initializer_list<const char*> path);
std::int64_t intAt(const Json& object, std::initializer_list<const char*> path,
                   std::int64_t otherwise = 0);
/// The member if it is a list, else an empty one.
const Json& arrayAt(const Json& object, std::initializer_list<const char*> path);

}  // namespace pointsman::e2e

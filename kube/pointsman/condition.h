// A metav1.Condition.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace pointsman::kube {

enum class ConditionStatus : uint8_t { kUnknown, kTrue, kFalse };

struct Condition {
  std::string type;
  ConditionStatus status = ConditionStatus::kUnknown;
  std::string reason;                // CamelCase, never empty
  std::string message;               // for a person; limits::kMaxConditionMessage at most
  std::string last_transition_time;  // RFC 3339, seconds, UTC
  int64_t observed_generation = 0;
  bool operator==(const Condition&) const = default;
};

// Sets the condition of that type; the transition time moves to `now` (RFC 3339) only when the
// status changes. Returns whether anything changed. Order of types is kept. What is set is kept to
// the schema first.
bool SetCondition(std::vector<Condition>& conditions, Condition condition, const std::string& now);
const Condition* FindCondition(const std::vector<Condition>& conditions, const std::string& type);
bool IsTrue(const std::vector<Condition>& conditions, const std::string& type);

// Makes of it what the CRDs' schemas take, whatever it was made of: the message shortened and
// valid UTF-8, a reason and a time in their form. Does nothing to what is in that form already.
void KeepToSchema(Condition& condition);

// Of what KeepToSchema makes of it.
nlohmann::json ToJson(const Condition& condition);
Condition ConditionFromJson(const nlohmann::json& object);

}  // namespace pointsman::kube

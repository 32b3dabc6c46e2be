#include "kube/pointsman/condition.h"

#include "kube/pointsman/limits.h"
#include "kube/text/text.h"
#include "kube/time/rfc3339.h"

namespace pointsman::kube {
namespace {

std::string_view ToString(ConditionStatus status) {
  switch (status) {
    case ConditionStatus::kTrue:
      return "True";
    case ConditionStatus::kFalse:
      return "False";
    case ConditionStatus::kUnknown:
      break;
  }
  return "Unknown";
}

// Absent, null and wrongly typed members read as empty: a status is what another process wrote, and
// one odd member must not hide the rest of it.
std::string StringMember(const nlohmann::json& object, const char* name) {
  const auto member = object.find(name);
  return member != object.end() && member->is_string() ? member->get<std::string>() : std::string();
}

bool IsLetter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// The pattern of metav1.Condition: ^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$
bool IsReason(std::string_view text) {
  const auto is_word = [](char c) { return IsLetter(c) || (c >= '0' && c <= '9') || c == '_'; };
  return !text.empty() && text.size() <= limits::kMaxConditionReason && IsLetter(text.front()) &&
         is_word(text.back()) && std::all_of(text.begin(), text.end(), [&](char c) {
           return is_word(c) || c == ',' || c == ':';
         });
}

}  // namespace

void KeepToSchema(Condition& condition) {
  condition.type = text::Message(condition.type, limits::kMaxConditionType);
  if (!IsReason(condition.reason)) condition.reason = "Unknown";
  condition.message = text::Message(condition.message, limits::kMaxConditionMessage);
  // A condition must have a time; the beginning of time is one that says it is not known.
  if (!ParseTime(condition.last_transition_time))
    condition.last_transition_time = "1970-01-01T00:00:00Z";
  condition.observed_generation = std::max<int64_t>(0, condition.observed_generation);
}

bool SetCondition(std::vector<Condition>& conditions, Condition condition, const std::string& now) {
  for (Condition& existing : conditions) {
    if (existing.type != condition.type) continue;
    condition.last_transition_time =
        existing.status == condition.status && ParseTime(existing.last_transition_time)
            ? existing.last_transition_time
            : now;
    KeepToSchema(condition);
    if (existing == condition) return false;
    existing = std::move(condition);
    return true;
  }
  condition.last_transition_time = now;
  KeepToSchema(condition);
  conditions.push_back(std::move(condition));
  return true;
}

const Condition* FindCondition(const std::vector<Condition>& conditions, const std::string& type) {
  for (const Condition& condition : conditions) {
    if (condition.type == type) return &condition;
  }
  return nullptr;
}

bool IsTrue(const std::vector<Condition>& conditions, const std::string& type) {
  const Condition* condition = FindCondition(conditions, type);
  return condition != nullptr && condition->status == ConditionStatus::kTrue;
}

nlohmann::json ToJson(const Condition& written) {
  Condition condition = written;
  KeepToSchema(condition);
  return {{"type", condition.type},
          {"status", ToString(condition.status)},
          {"reason", condition.reason},
          {"message", condition.message},
          {"lastTransitionTime", condition.last_transition_time},
          {"observedGeneration", condition.observed_generation}};
}

Condition ConditionFromJson(const nlohmann::json& object) {
  Condition condition;
  if (!object.is_object()) return condition;
  condition.type = StringMember(object, "type");
  const std::string status = StringMember(object, "status");
  if (status == "True") {
    condition.status = ConditionStatus::kTrue;
  } else if (status == "False") {
    condition.status = ConditionStatus::kFalse;
  }
  condition.reason = StringMember(object, "reason");
  condition.message = StringMember(object, "message");
  condition.last_transition_time = StringMember(object, "lastTransitionTime");
  const auto generation = object.find("observedGeneration");
  if (generation != object.end() && generation->is_number_integer()) {
    condition.observed_generation = generation->get<int64_t>();
  }
  return condition;
}

}  // namespace pointsman::kube

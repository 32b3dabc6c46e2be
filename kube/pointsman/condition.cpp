#include "kube/pointsman/condition.h"

#include "kube/pointsman/timestamp.h"

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

}  // namespace

bool SetCondition(std::vector<Condition>& conditions, Condition condition, const std::string& now) {
  for (Condition& existing : conditions) {
    if (existing.type != condition.type) continue;
    condition.last_transition_time =
        existing.status == condition.status && !existing.last_transition_time.empty()
            ? existing.last_transition_time
            : now;
    if (existing == condition) return false;
    existing = std::move(condition);
    return true;
  }
  condition.last_transition_time = now;
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

nlohmann::json ToJson(const Condition& condition) {
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

std::string NowRfc3339() {
  return FormatTime(std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now()));
}

}  // namespace pointsman::kube

#include "kube/pointsman/change_impact.h"

#include <algorithm>
#include <cmath>

#include "kube/pointsman/limits.h"

namespace pointsman::kube {

bool FailsMore(const ChangeImpact& impact, int64_t percent) {
  if (!impact.connections_before || !impact.failed_before || !impact.connections_after ||
      !impact.failed_after || *impact.failed_before > *impact.connections_before ||
      *impact.failed_after > *impact.connections_after || *impact.connections_before <= 0 ||
      *impact.failed_before < 0 || *impact.connections_after <= 0 || *impact.failed_after < 0)
    return false;
  const auto before = static_cast<double>(*impact.connections_before);
  const auto after = static_cast<double>(*impact.connections_after);
  const double share = (static_cast<double>(*impact.failed_before) + 1) / (before + 2);
  const double excess = static_cast<double>(*impact.failed_after) - after * share;
  const double deviation = std::sqrt(after * share * (1 - share) * (1 + after / before));
  return excess >= kFewestFailed && excess >= kDeviations * deviation &&
         excess * 100 > after * static_cast<double>(percent);
}

ChangeImpact ReadImpact(ObjectReader reader) {
  ChangeImpact impact;
  reader.Int("revision", 0, limits::kMaxRevision, impact.revision);
  for (const auto& [name, member] : kImpactFigures)
    reader.Int(name, 0, limits::kMaxCount, impact.*member);
  return impact;
}

nlohmann::json ToJson(const ChangeImpact& impact) {
  nlohmann::json object = {{"revision", impact.revision}};
  for (const auto& [name, member] : kImpactFigures) {
    if (impact.*member) object[name] = *(impact.*member);
  }
  return object;
}

void KeepToSchema(ChangeImpact& impact) {
  impact.revision = std::clamp<int64_t>(impact.revision, 0, limits::kMaxRevision);
  for (const auto& [name, member] : kImpactFigures) {
    if (impact.*member)
      impact.*member = std::clamp<int64_t>(*(impact.*member), 0, limits::kMaxCount);
  }
}

}  // namespace pointsman::kube

#include <string>

#include "e2e/control-plane/registry/json_path.h"
#include "e2e/control-plane/registry/types/types.h"

namespace pointsman::e2e {

ResourceType MakePodDisruptionBudgetType(const TypeBuilder& build) {
  ResourceType budgets =
      build.Make("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", true, {"pdb"});
  budgets.generations = true;
  budgets.columns = {kName, Column("Min Available"), Column("Max Unavailable"),
                     Column("Allowed Disruptions", "integer"), kAge};
  budgets.cells = [](const Json& o, Clock::time_point now) -> Cells {
    const auto text = [&](const char* field) -> std::string {
      const Json* v = At(o, {"spec", field});
      return v == nullptr ? "N/A" : v->is_string() ? v->get<std::string>() : v->dump();
    };
    return {NameOf(o), text("minAvailable"), text("maxUnavailable"),
            IntAt(o, {"status", "disruptionsAllowed"}), Age(o, now)};
  };
  return budgets;
}

}  // namespace pointsman::e2e

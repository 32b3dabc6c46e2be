#include <string>

#include "e2e/control-plane/registry/json_path.h"
#include "e2e/control-plane/registry/types/types.h"

namespace pointsman::e2e {

ResourceType makePodDisruptionBudgetType(const TypeBuilder& build) {
  ResourceType budgets =
      build.make("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", true, {"pdb"});
  budgets.generations = true;
  budgets.columns = {kName, column("Min Available"), column("Max Unavailable"),
                     column("Allowed Disruptions", "integer"), kAge};
  budgets.cells = [](const Json& o, Clock::time_point now) -> Cells {
    const auto text = [&](const char* field) -> std::string {
      const Json* v = at(o, {"spec", field});
      return v == nullptr ? "N/A" : v->is_string() ? v->get<std::string>() : v->dump();
    };
    return {nameOf(o), text("minAvailable"), text("maxUnavailable"),
            intAt(o, {"status", "disruptionsAllowed"}), age(o, now)};
  };
  return budgets;
}

}  // namespace pointsman::e2e

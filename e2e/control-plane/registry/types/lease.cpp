#include <vector>

#include "e2e/control-plane/registry/field_checks.h"
#include "e2e/control-plane/registry/json_path.h"
#include "e2e/control-plane/registry/types/types.h"

namespace pointsman::e2e {

ResourceType MakeLeaseType(const TypeBuilder& build) {
  ResourceType leases = build.Make("coordination.k8s.io", "v1", "leases", "Lease", true);
  leases.columns = {kName, Column("Holder"), kAge};
  leases.cells = [](const Json& o, Clock::time_point now) -> Cells {
    return {NameOf(o), StringAt(o, {"spec", "holderIdentity"}), Age(o, now)};
  };
  leases.validate = [](const Json& o, const Json*, const RequestInfo&) {
    std::vector<FieldError> errors;
    if (const Json* d = At(o, {"spec", "leaseDurationSeconds"}); d != nullptr && *d <= 0) {
      errors.push_back(InvalidValue("spec.leaseDurationSeconds", *d, "must be greater than 0"));
    }
    if (const Json* t = At(o, {"spec", "leaseTransitions"}); t != nullptr && *t < 0) {
      errors.push_back(
          InvalidValue("spec.leaseTransitions", *t, "must be greater than or equal to 0"));
    }
    return errors;
  };
  return leases;
}

}  // namespace pointsman::e2e

#include <string>

#include "e2e/control-plane/registry/types/types.h"

namespace pointsman::e2e {

ResourceType makeServiceAccountType(const TypeBuilder& build) {
  ResourceType accounts = build.make("", "v1", "serviceaccounts", "ServiceAccount", true, {"sa"});
  if (build.emulation().atLeast(34)) {
    accounts.columns = {kName, kAge};
  } else {
    accounts.columns = {kName, column("Secrets"), kAge};
    accounts.cells = [](const Json& o, Clock::time_point now) -> Cells {
      return {nameOf(o), std::to_string(sizeOf(o, "secrets")), age(o, now)};
    };
  }
  return accounts;
}

}  // namespace pointsman::e2e

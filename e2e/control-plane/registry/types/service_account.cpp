#include <string>

#include "e2e/control-plane/registry/types/types.h"

namespace pointsman::e2e {

ResourceType MakeServiceAccountType(const TypeBuilder& build) {
  ResourceType accounts = build.Make("", "v1", "serviceaccounts", "ServiceAccount", true, {"sa"});
  if (build.emulation().AtLeast(34)) {
    accounts.columns = {kName, kAge};
  } else {
    accounts.columns = {kName, Column("Secrets"), kAge};
    accounts.cells = [](const Json& o, Clock::time_point now) -> Cells {
      return {NameOf(o), std::to_string(SizeOf(o, "secrets")), Age(o, now)};
    };
  }
  return accounts;
}

}  // namespace pointsman::e2e

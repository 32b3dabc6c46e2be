// The road that most clusters need, from ipvs to nftables, and back. Only Debian's own kernel has
// both; it runs in virtual machines, emulated.
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "e2e/scenarios/policy_migration_fixture.h"

namespace pointsman::e2e {
namespace {

using std::chrono_literals::operator""s;

class PolicyMigrationStockKernelTest : public PolicyMigrationFixture {};

TEST_F(PolicyMigrationStockKernelTest, IpvsToNftablesAndBack) {
  START_OR_RETURN(Start("vm", "ipvs",
                        {.new_per_second = 4,
                         .streams = 3,
                         .timeout = "20s",
                         .max_unavailable = 2,
                         .patience = 90s}));
  const Tries begun_in_ipvs = StartAllowed();
  StartDenied();
  // IPVS has to carry its streams until they end, and the drain ends then: this time is never over.
  Apply("nftables", "600s");
  AwaitServed();
  MoreDeniedTries();
  for (const Node& node : world_->cluster().nodes())
    EXPECT_EQ(ModesIn(node), (std::set<std::string>{"ipvs", "nftables"})) << node.name();
  const Tries begun_in_nftables = StartAllowed();
  EndAllowed(begun_in_ipvs);
  AwaitOnly("nftables");
  MoreDeniedTries();
  // These streams are connection tracking's, and outlive the mode.
  Apply("ipvs");
  AwaitOnly("ipvs");
  MoreDeniedTries();
  EndAllowed(begun_in_nftables);
  EndDenied();
}

}  // namespace
}  // namespace pointsman::e2e

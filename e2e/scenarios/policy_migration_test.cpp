// What is denied stays denied in every second of a move between modes, what is allowed never fails:
// on kernels that boot fast. (policy_migration_vm_test.cpp: on a stock kernel.)
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "e2e/scenarios/policy_migration_fixture.h"

namespace pointsman::e2e {
namespace {

using std::chrono_literals::operator""s;
using ::testing::HasSubstr;

class PolicyMigrationTest : public PolicyMigrationFixture {
 protected:
  void Start(const std::string& kind) { PolicyMigrationFixture::Start(kind, "iptables", {}); }
  void MoveThere(const std::vector<std::string>& modes) {
    const Tries allowed = StartAllowed();
    StartDenied();
    for (const std::string& mode : modes) {
      Apply(mode);
      AwaitOnly(mode);
      MoreDeniedTries();
    }
    EndAllowed(allowed);
    EndDenied();
  }
};

TEST_F(PolicyMigrationTest, IptablesToIpvsAndBack) {
  START_OR_RETURN(Start("uml"));
  MoveThere({"ipvs", "iptables", "ipvs", "iptables"});
}

TEST_F(PolicyMigrationTest, IptablesToNftablesAndBack) {
  START_OR_RETURN(Start("netns"));
  MoveThere({"nftables", "iptables"});
}

// userspace mode's connections are the node's own, which Felix lets through: no node begins it.
TEST_F(PolicyMigrationTest, AModeBesideWhichNoPolicyWouldHoldIsNotBegun) {
  START_OR_RETURN(Start("netns"));
  const Tries allowed = StartAllowed();
  StartDenied();
  Apply("userspace");
  for (const Node& node : world_->cluster().nodes()) {
    world_->Await(
        node.name() + " says that userspace mode is refused here",
        [&] {
          const std::string text = world_->MustKubectl({"get", "npx", node.name(), "-o", "yaml"});
          return text.find("NeighbourRefused") != std::string::npos;
        },
        60s, [&] { return world_->RolloutEvidence(); });
    const std::string text = world_->MustKubectl({"get", "npx", node.name(), "-o", "json"});
    EXPECT_THAT(text, HasSubstr("NetworkPolicy lets through")) << "the table's reason";
    EXPECT_THAT(text, HasSubstr("\"activeMode\": \"iptables\""));
  }
  MoreDeniedTries();
  EndAllowed(allowed);
  EndDenied();
}

}  // namespace
}  // namespace pointsman::e2e

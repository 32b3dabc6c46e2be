#include "node-agent/neighbours/neighbour_table.h"

#include <algorithm>
#include <string>
#include <vector>

#include <gmock/gmock.h>

#include "kube/pointsman/limits.h"
#include "kube/pointsman/neighbour_names.h"
#include "node-agent/dataplane/mode_traits.h"

namespace pointsman::agent {
namespace {

TEST(NeighbourTableTest, HasTheNamesThatUsersMayAcceptAndNoOthers) {
  std::vector<std::string_view> names;
  for (const Neighbour& neighbour : Neighbours())
    names.push_back(neighbour.name);
  EXPECT_THAT(names, ::testing::ElementsAreArray(kube::kNeighbourNames));
  EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));
  EXPECT_LE(names.size(), kube::limits::kMaxNeighbours);
  EXPECT_LE(names.size(), kube::limits::kMaxAcceptedNeighbours);
}

// On a new node something must serve: the default fallback mode is refused beside nothing.
TEST(NeighbourTableTest, IptablesAndNftablesAreRefusedBesideNothing) {
  for (const Neighbour& neighbour : Neighbours()) {
    EXPECT_NE(neighbour.iptables.level, Level::kRefused) << neighbour.name;
    EXPECT_NE(neighbour.nftables.level, Level::kRefused) << neighbour.name;
  }
}

TEST(NeighbourTableTest, UserspaceIsRefusedBesideEveryPolicyEngineAndMesh) {
  int engines = 0;
  for (const Neighbour& neighbour : Neighbours()) {
    if (neighbour.kind != NeighbourKind::kPolicyEngine &&
        neighbour.kind != NeighbourKind::kServiceMesh)
      continue;
    ++engines;
    EXPECT_EQ(neighbour.userspace.level, Level::kRefused) << neighbour.name;
  }
  EXPECT_GE(engines, 8);
}

TEST(NeighbourTableTest, SaysWhyAndWhatToDo) {
  for (const Neighbour& neighbour : Neighbours()) {
    EXPECT_FALSE(neighbour.title.empty()) << neighbour.name;
    EXPECT_FALSE(neighbour.source.empty()) << neighbour.name;
    EXPECT_FALSE(neighbour.signs.empty()) << neighbour.name;
    EXPECT_NE(ToString(neighbour.kind), "") << neighbour.name;
    for (const SignPattern& pattern : neighbour.signs)
      EXPECT_FALSE(pattern.name.empty()) << neighbour.name;
    for (const ModeTraits& traits : AllModes()) {
      const Verdict& verdict = neighbour.Of(traits.mode);
      const bool fine = verdict.level == Level::kFine;
      EXPECT_EQ(verdict.reason.empty(), fine) << neighbour.name;
      EXPECT_EQ(verdict.remedy.empty(), fine) << neighbour.name;
      EXPECT_FALSE(verdict.reason.ends_with('.')) << neighbour.name;
      EXPECT_FALSE(verdict.remedy.ends_with('.')) << neighbour.name;
    }
  }
}

}  // namespace
}  // namespace pointsman::agent

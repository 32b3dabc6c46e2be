#include "node-agent/dataplane/family_problems.h"

#include <array>
#include <stdexcept>
#include <vector>

#include <gmock/gmock.h>

namespace pointsman::agent {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr net::Family k4 = net::Family::kIPv4;
constexpr net::Family k6 = net::Family::kIPv6;

class FamilyProblemsTest : public testing::Test {
 protected:
  // What a try of the family says now; each is counted.
  SyncResult Answer(net::Family family) {
    ++tries_[family == k6 ? 1 : 0];
    if (family == k6 && throws_) throw std::runtime_error("ip6tables-restore: MARK is refused");
    return {.problems = family == k6 ? problems_of_v6_ : std::vector<SyncProblem>{},
            .kernel_writes = 1};
  }
  SyncResult Full() {
    SyncResult sum;
    for (const net::Family family : {k4, k6})
      problems_.Try(family, "rules", sum, [&] { return Answer(family); });
    return sum;
  }
  SyncResult Change() {
    SyncResult sum;
    for (const net::Family family : {k4, k6})
      problems_.TryChange(family, "rules", sum, [&] { return Answer(family); });
    return sum;
  }

  FamilyProblems problems_;
  std::vector<SyncProblem> problems_of_v6_;
  bool throws_ = false;
  std::array<int, 2> tries_{};
};

TEST_F(FamilyProblemsTest, ChangesDoNotTryABrokenFamilyAgain) {
  throws_ = true;
  ASSERT_EQ(Full().problems.size(), 1U);
  for (int i = 0; i < 3; ++i) {
    const SyncResult result = Change();
    ASSERT_EQ(result.problems.size(), 1U);
    EXPECT_EQ(result.problems[0].family, k6);
    EXPECT_EQ(result.problems[0].message, "ip6tables-restore: MARK is refused");
    EXPECT_EQ(result.kernel_writes, 1U) << "the other family's";
  }
  EXPECT_THAT(tries_, ElementsAre(4, 1));
  // A full sync does, and then changes go on.
  throws_ = false;
  EXPECT_THAT(Full().problems, IsEmpty());
  EXPECT_THAT(Change().problems, IsEmpty());
  EXPECT_THAT(tries_, ElementsAre(6, 3));
}

TEST_F(FamilyProblemsTest, AFamilyThatBreaksInAChangeWaitsForAFullSync) {
  Full();
  problems_of_v6_ = {{"sysctl x", "read-only"}, {"sysctl y", "read-only"}};
  EXPECT_EQ(Change().problems.size(), 2U);
  problems_of_v6_.clear();
  EXPECT_EQ(Change().problems.size(), 2U);
  EXPECT_THAT(Full().problems, IsEmpty());
  EXPECT_THAT(Change().problems, IsEmpty());
  EXPECT_THAT(tries_, ElementsAre(5, 4));
}

}  // namespace
}  // namespace pointsman::agent

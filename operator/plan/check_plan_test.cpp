#include "operator/plan/check_plan.h"

#include <random>

#include <gtest/gtest.h>

namespace pointsman::op {
namespace {

class CheckPlanTest : public ::testing::TestWithParam<uint32_t> {};

TEST_P(CheckPlanTest, HostileNodesHarmThemselvesOnly) {
  constexpr uint32_t kSeeds = 6;
  for (uint32_t seed = GetParam() * kSeeds; seed < (GetParam() + 1) * kSeeds; ++seed) {
    std::mt19937 random(seed);
    std::string bytes(1500, '\0');
    for (char& byte : bytes)
      byte = static_cast<char>(random());
    EXPECT_NO_THROW(CheckPlan(bytes)) << "seed " << seed;
    if (HasFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, CheckPlanTest, ::testing::Range<uint32_t>(0, 6));

TEST(CheckPlanShortTest, ShortHistories) {
  CheckPlan("");
  for (int byte = 0; byte < 256; byte += 9)
    EXPECT_NO_THROW(CheckPlan(std::string(40, static_cast<char>(byte)))) << byte;
}

}  // namespace
}  // namespace pointsman::op

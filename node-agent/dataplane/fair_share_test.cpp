#include "node-agent/dataplane/fair_share.h"

#include <algorithm>
#include <random>
#include <set>
#include <string>

#include <gmock/gmock.h>

namespace pointsman::agent {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::set<std::string> Refused(const std::vector<Demand>& demands, uint64_t room) {
  std::set<std::string> names;
  for (const size_t i : BeyondFairShare(demands, room))
    names.insert(std::string(demands[i].ns) + "/" + std::string(demands[i].service));
  return names;
}

TEST(BeyondFairShare, NobodyWhileAllFits) {
  EXPECT_THAT(Refused({}, 0), IsEmpty());
  EXPECT_THAT(Refused({{"a", "one", 60}, {"b", "two", 40}}, 100), IsEmpty());
}

TEST(BeyondFairShare, TheGreedyOneDoesWithout) {
  EXPECT_THAT(Refused({{"a", "one", 1}, {"greedy", "huge", 1000}, {"b", "two", 60}}, 100),
              ElementsAre("greedy/huge"));
}

TEST(BeyondFairShare, ManySmallServicesOfOneTenantAreNoLessGreedy) {
  // Each of them is smaller than the honest one.
  std::vector<std::string> names;
  names.reserve(20);
  for (int i = 0; i < 20; ++i)
    names.push_back("s" + std::to_string(100 + i));
  std::vector<Demand> demands{{"honest", "web", 50}};
  for (const std::string& name : names)
    demands.push_back({"greedy", name, 10});
  const auto refused = Refused(demands, 100);
  EXPECT_FALSE(refused.contains("honest/web"));
  EXPECT_EQ(refused.size(), 15U);
  EXPECT_FALSE(refused.contains("greedy/s100"));
  EXPECT_TRUE(refused.contains("greedy/s119"));
}

TEST(BeyondFairShare, ATenantsSmallServicesOutliveItsLargeOne) {
  EXPECT_THAT(Refused({{"a", "huge", 1000}, {"a", "small", 10}, {"b", "web", 50}}, 100),
              ElementsAre("a/huge"));
}

TEST(BeyondFairShare, WhatIsServedFitsWhateverTheOrder) {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    std::vector<std::string> names;
    names.reserve(30);
    for (int i = 0; i < 30; ++i)
      names.push_back("s" + std::to_string(i));
    std::vector<Demand> demands;
    demands.reserve(names.size());
    static constexpr std::string_view kNamespaces[] = {"a", "b", "c", "d"};
    for (const std::string& name : names)
      demands.push_back({kNamespaces[random() % 4], name, random() % 100});
    const uint64_t room = random() % 2000;
    const auto refused = Refused(demands, room);
    uint64_t served = 0;
    for (const Demand& demand : demands) {
      if (!refused.contains(std::string(demand.ns) + "/" + std::string(demand.service)))
        served += demand.amount;
    }
    EXPECT_LE(served, room);
    std::shuffle(demands.begin(), demands.end(), random);
    EXPECT_EQ(Refused(demands, room), refused);
  }
}

}  // namespace
}  // namespace pointsman::agent

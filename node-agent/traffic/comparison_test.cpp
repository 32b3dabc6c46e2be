#include "node-agent/traffic/comparison.h"

#include <cmath>
#include <random>
#include <string>

#include <gtest/gtest.h>

namespace pointsman::agent {
namespace {

const net::IpPort kPlace{net::IpAddress::Parse("10.96.0.10").value(), 80};

net::IpAddress Client(uint32_t number) {
  return net::IpAddress::V4((uint32_t{10} << 24) + number);
}

// `clients` of them, each with these outcomes; `first`: the number of the first one.
ClientOutcomes Each(uint32_t clients, uint64_t answered, uint64_t unanswered, uint32_t first = 0) {
  ClientOutcomes outcomes;
  for (uint32_t i = 0; i < clients; ++i)
    outcomes[Client(first + i)] = {answered, unanswered};
  return outcomes;
}

bool IsWorse(const ClientOutcomes& before, const ClientOutcomes& after) {
  return Compare(kPlace, before, after).has_value();
}

// By hand: after A of A answered, n more all unanswered have 1 / C(A+1+n, n).
TEST(ComparisonTest, TheChanceIsTheBetaBinomialOne) {
  EXPECT_NEAR(ChanceOfNoBetter({10, 0}, {0, 10}), 1 / 352'716.0, 1e-12);
  EXPECT_NEAR(ChanceOfNoBetter({20, 0}, {0, 5}), 1 / 65'780.0, 1e-12);
  EXPECT_NEAR(ChanceOfNoBetter({0, 0}, {0, 1}), 0.5, 1e-12);
  EXPECT_NEAR(ChanceOfNoBetter({7, 3}, {10, 0}), 1, 1e-9) << "it cannot be better than all";
  EXPECT_GT(ChanceOfNoBetter({50, 50}, {40, 60}), 0.05);
  const double far = ChanceOfNoBetter({100'000, 10}, {10, 100'000});
  EXPECT_TRUE(std::isfinite(far));
  EXPECT_LT(far, kChance);
}

TEST(ComparisonTest, ClientsThatAreCutOffAreWorse) {
  const auto worse = Compare(kPlace, Each(4, 10, 0), Each(3, 0, 4));
  ASSERT_TRUE(worse);
  EXPECT_EQ(worse->clients.size(), 3U);
  EXPECT_EQ(worse->before.answered, 30U) << "the client that did not come again is no measure";
  EXPECT_EQ(worse->after.unanswered, 12U);
}

TEST(ComparisonTest, HalfOfTheConnectionsIsEnough) {
  EXPECT_TRUE(IsWorse(Each(4, 20, 0), Each(4, 10, 10)));
  EXPECT_FALSE(IsWorse(Each(4, 20, 0), Each(4, 18, 2))) << "a crowded backend";
}

TEST(ComparisonTest, FewConnectionsOrLittleKnowledgeAreNoEvidence) {
  EXPECT_FALSE(IsWorse(Each(1, 100, 0), Each(1, 0, 4)));
  EXPECT_FALSE(IsWorse(Each(1, 2, 0), Each(1, 0, 20))) << "two of two is not always";
  EXPECT_FALSE(IsWorse({}, Each(5, 0, 100)));
  EXPECT_FALSE(IsWorse(Each(5, 100, 0), {}));
}

TEST(ComparisonTest, WhatDidNotAnswerBeforeIsNotHeldAgainstIt) {
  EXPECT_FALSE(IsWorse(Each(5, 0, 100), Each(5, 0, 100)));
  EXPECT_FALSE(IsWorse(Each(5, 50, 50), Each(5, 45, 55)));
}

// A scanner, a client that a policy keeps out, beside clients that are served.
TEST(ComparisonTest, AClientThatWasNeverAnsweredIsNoMeasure) {
  ClientOutcomes before = Each(3, 20, 0);
  ClientOutcomes after = Each(3, 20, 0);
  after.merge(Each(1, 0, 1000, 100));
  EXPECT_FALSE(IsWorse(before, after));
  before.merge(Each(1, 0, 3, 100));
  EXPECT_FALSE(IsWorse(before, after));
}

TEST(ComparisonTest, StrangersCountWhenNobodyIsAnswered) {
  EXPECT_TRUE(IsWorse(Each(30, 1, 0), Each(10, 0, 1, 100)));
  ClientOutcomes after = Each(10, 0, 1, 100);
  after.merge(Each(1, 1, 0, 200));
  EXPECT_FALSE(IsWorse(Each(30, 1, 0), after)) << "one is answered";
  EXPECT_FALSE(IsWorse(Each(30, 1, 0), Each(1, 0, 1000, 100))) << "one scanner";
  EXPECT_FALSE(IsWorse(Each(3, 1, 0), Each(10, 0, 1, 100))) << "hardly anybody came before";
}

// A client that is seldom answered came seldom before and comes often now, the others the reverse.
TEST(ComparisonTest, OtherClientsThanBeforeAreNoMatter) {
  ClientOutcomes before = Each(1, 40, 0);
  before.merge(Each(1, 1, 1, 100));
  EXPECT_FALSE(IsWorse(before, Each(1, 2, 38, 100)));
  before.merge(Each(20, 0, 1, 200));
  EXPECT_FALSE(IsWorse(before, Each(20, 0, 10, 200)));
}

TEST(ComparisonTest, ManyClientsAreNoEvidenceByTheirNumber) {
  std::mt19937 random(3);
  ClientOutcomes before;
  ClientOutcomes after;
  std::bernoulli_distribution answered(0.5);
  for (uint32_t client = 0; client < 5'000; ++client) {
    for (ClientOutcomes* of : {&before, &after}) {
      for (int n = 0; n < 10; ++n) {
        Outcomes& outcomes = (*of)[Client(client)];
        ++(answered(random) ? outcomes.answered : outcomes.unanswered);
      }
    }
  }
  EXPECT_FALSE(IsWorse(before, after));
  for (auto& [client, outcomes] : after)
    outcomes = {outcomes.answered / 2, 10 - outcomes.answered / 2};
  EXPECT_TRUE(IsWorse(before, after));
}

// When nothing changes: 100,000 watches of clients of all kinds.
TEST(ComparisonTest, NothingChangedIsNeverWorse) {
  std::mt19937 random(7);
  int worse = 0;
  for (int i = 0; i < 100'000; ++i) {
    ClientOutcomes before;
    ClientOutcomes after;
    const uint32_t clients = 1 + random() % 6;
    for (uint32_t client = 0; client < clients; ++client) {
      // From "always" to "hardly ever".
      const auto percent = static_cast<double>(random() % 100);
      std::bernoulli_distribution answered(1 - std::pow(percent / 100, 3));
      for (ClientOutcomes* of : {&before, &after}) {
        for (uint32_t n = random() % 40; n > 0; --n) {
          Outcomes& outcomes = (*of)[Client(client)];
          ++(answered(random) ? outcomes.answered : outcomes.unanswered);
        }
      }
    }
    worse += IsWorse(before, after) ? 1 : 0;
  }
  EXPECT_EQ(worse, 0);
}

}  // namespace
}  // namespace pointsman::agent

#include "node-agent/handover/combined_check.h"

#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>

namespace pointsman::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Optional;

class OrderedCheck final : public TrafficCheck {
 public:
  explicit OrderedCheck(size_t compares) : compares_(compares) {}
  bool SeenEnough(const ServiceModel&) override {
    ++looks;
    return enough;
  }
  size_t Before(kube::Mode, kube::Mode, const ServiceModel&) override { return compares_; }
  std::vector<std::string> AfterSwitch() override { return at_once; }
  std::optional<std::vector<std::string>> Verdict(const ServiceModel&) override {
    ++verdicts;
    return later;
  }
  void Stop() override { stopped = true; }

  int looks = 0;
  int verdicts = 0;
  bool enough = true;
  bool stopped = false;
  std::vector<std::string> at_once;
  std::optional<std::vector<std::string>> later = std::vector<std::string>{};

 private:
  const size_t compares_;
};

class CombinedCheckTest : public ::testing::Test {
 protected:
  ServiceModel model_;
  OrderedCheck first_{2};
  OrderedCheck second_{3};
  CombinedCheck both_{std::vector<TrafficCheck*>{&first_, &second_}};
};

TEST_F(CombinedCheckTest, EachLooksUntilAllHaveSeenEnough) {
  first_.enough = false;
  EXPECT_FALSE(both_.SeenEnough(model_));
  EXPECT_EQ(second_.looks, 1) << "at the same time";
  first_.enough = true;
  EXPECT_TRUE(both_.SeenEnough(model_));
  EXPECT_EQ(both_.Before(kube::Mode::kIptables, kube::Mode::kIpvs, model_), 5U);
}

TEST_F(CombinedCheckTest, WhatEitherFindsIsFound) {
  second_.at_once = {"default/web"};
  EXPECT_THAT(both_.AfterSwitch(), ElementsAre("default/web"));
  first_.at_once = {"default/dns"};
  EXPECT_THAT(both_.AfterSwitch(), ElementsAre("default/dns", "default/web"));
}

TEST_F(CombinedCheckTest, TheVerdictIsWaitedForUntilOneFindsItWorse) {
  EXPECT_THAT(both_.AfterSwitch(), IsEmpty());
  first_.later.reset();
  EXPECT_EQ(both_.Verdict(model_), std::nullopt);
  EXPECT_EQ(both_.Verdict(model_), std::nullopt);
  EXPECT_EQ(second_.verdicts, 1) << "it has said what it had to say";
  first_.later = {"default/web"};
  EXPECT_THAT(both_.Verdict(model_), Optional(ElementsAre("default/web")));

  EXPECT_THAT(both_.AfterSwitch(), IsEmpty());
  first_.later.reset();
  second_.later = {"default/dns"};
  EXPECT_THAT(both_.Verdict(model_), Optional(ElementsAre("default/dns"))) << "at once";
  both_.Stop();
  EXPECT_TRUE(first_.stopped && second_.stopped);
}

}  // namespace
}  // namespace pointsman::agent

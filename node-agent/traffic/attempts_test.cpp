#include "node-agent/traffic/attempts.h"

#include <chrono>

#include <gtest/gtest.h>

namespace pointsman::agent {
namespace {

using std::chrono_literals::operator""s;
using std::chrono_literals::operator""ms;

const net::IpPort kPlace{net::IpAddress::Parse("10.96.0.10").value(), 80};

net::IpPort Client(uint16_t port, uint32_t number = 2) {
  return {net::IpAddress::V4((uint32_t{10} << 24) + number), port};
}

class AttemptsTest : public ::testing::Test {
 protected:
  Outcomes Of(uint32_t client = 2) {
    const auto place = attempts_.outcomes().find(kPlace);
    if (place == attempts_.outcomes().end()) return {};
    const auto found = place->second.find(Client(0, client).ip);
    return found == place->second.end() ? Outcomes{} : found->second;
  }
  void Expect(uint64_t answered, uint64_t unanswered) {
    EXPECT_EQ(Of().answered, answered);
    EXPECT_EQ(Of().unanswered, unanswered);
  }
  void Ask(uint16_t port) { attempts_.Asked(Client(port), kPlace, now_); }

  Attempts attempts_{3500ms};
  Attempts::TimePoint now_{100s};
};

TEST_F(AttemptsTest, AConnectionIsOneHoweverOftenItIsSeenAndTried) {
  Ask(1000);
  Ask(1000);  // on a bridge too
  now_ += 1s;
  Ask(1000);  // again, since nobody answered
  attempts_.Answered(Client(1000), kPlace);
  attempts_.Answered(Client(1000), kPlace);
  Expect(1, 0);
  attempts_.Expire(now_ + 60s);
  Expect(1, 0);
}

TEST_F(AttemptsTest, WhatIsResetOrNotAnsweredInTimeIsUnanswered) {
  Ask(1000);
  attempts_.Reset(Client(1000), kPlace);
  Expect(0, 1);
  Ask(1001);
  attempts_.Expire(now_ + 3s);
  Expect(0, 1);
  attempts_.Expire(now_ + 4s);
  Expect(0, 2);
  now_ += 7s;
  Ask(1001);  // the client still tries
  attempts_.Expire(now_ + 60s);
  Expect(0, 2);
}

TEST_F(AttemptsTest, AnAnswerWithoutAQuestionIsNone) {
  attempts_.Answered(Client(1000), kPlace);
  attempts_.Reset(Client(1001), kPlace);
  Expect(0, 0);
}

TEST_F(AttemptsTest, APortThatIsUsedAgainIsAnotherConnection) {
  for (int i = 0; i < 3; ++i) {
    Ask(1000);
    attempts_.Answered(Client(1000), kPlace);
  }
  Expect(3, 0);
}

TEST_F(AttemptsTest, WhatIsOpenWhenACountEndsIsOfNeither) {
  Ask(1000);
  Ask(1001);
  attempts_.Answered(Client(1001), kPlace);
  EXPECT_EQ(attempts_.TakeCount().at(kPlace).at(Client(0).ip).answered, 1U);
  now_ += 1s;
  Ask(1000);  // tried again
  attempts_.Expire(now_ + 60s);
  Expect(0, 0);
  attempts_.Answered(Client(1000), kPlace);
  Expect(0, 0);
  Ask(1000);  // a new one
  attempts_.Answered(Client(1000), kPlace);
  Expect(1, 0);
}

TEST_F(AttemptsTest, WhatMayHaveBeenAnsweredUnseenIsForgotten) {
  Ask(1000);
  attempts_.ForgetOpen();
  attempts_.Expire(now_ + 60s);
  Expect(0, 0);
}

TEST_F(AttemptsTest, AFloodTakesNoMoreThanItsShare) {
  for (uint32_t client = 0; client < 3 * Attempts::kMaxOpen; ++client)
    attempts_.Asked(Client(1000, client), kPlace, now_);
  attempts_.Expire(now_ + 60s);
  ASSERT_TRUE(attempts_.outcomes().contains(kPlace));
  EXPECT_EQ(attempts_.outcomes().at(kPlace).size(), Attempts::kMaxClients);
  EXPECT_EQ(attempts_.TakeCount().size(), 1U);
  Ask(1001);
  attempts_.Answered(Client(1001), kPlace);
  Expect(1, 0);
}

}  // namespace
}  // namespace pointsman::agent

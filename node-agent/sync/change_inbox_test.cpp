#include "node-agent/sync/change_inbox.h"

#include <thread>

#include <gtest/gtest.h>

namespace pointsman::agent {
namespace {

using Clock = ChangeInbox::Clock;
using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""s;

TEST(ChangeInbox, KeepsTheNewestOfEachObject) {
  ChangeInbox inbox;
  const auto first = std::make_shared<kube::Service>(), second = std::make_shared<kube::Service>();
  inbox.PutService("default/web", first);
  inbox.PutService("default/web", second);
  inbox.PutService("default/db", nullptr);
  const auto batch = inbox.Take({}, Clock::now() + 5s);
  ASSERT_TRUE(batch);
  EXPECT_EQ(batch->services.size(), 2U);
  EXPECT_EQ(batch->services.at("default/web"), second);
  EXPECT_EQ(batch->services.at("default/db"), nullptr);
  EXPECT_TRUE(batch->oldest);
  EXPECT_TRUE(inbox.Take({}, Clock::now())->empty());
}

TEST(ChangeInbox, ABurstIsHeldBackUntilItMayBeApplied) {
  ChangeInbox inbox;
  inbox.PutAddressesChanged();
  const auto not_before = Clock::now() + 30ms;
  const auto batch = inbox.Take(not_before, Clock::now() + 5s);
  EXPECT_GE(Clock::now(), not_before);
  EXPECT_TRUE(batch->addresses_changed);
}

// The taker looks at the kernel twice a second: that must not cut a burst in pieces
// (minSyncPeriod).
TEST(ChangeInbox, ADeadlineHandsOutNothingThatIsHeldBack) {
  ChangeInbox inbox;
  inbox.PutAddressesChanged();
  const auto not_before = Clock::now() + std::chrono::hours(1);
  EXPECT_TRUE(inbox.Take(not_before, Clock::now() + 10ms)->empty());
  EXPECT_TRUE(inbox.Take(not_before, Clock::now())->empty());
  EXPECT_TRUE(inbox.Take({}, Clock::now() + 5s)->addresses_changed);
}

TEST(ChangeInbox, ACompleteListComesNotBeforeItsObjects) {
  ChangeInbox inbox;
  inbox.PutService("default/web", std::make_shared<kube::Service>());
  const auto first = inbox.Take({}, Clock::now() + 5s);
  EXPECT_TRUE(first->synced.none());
  inbox.PutService("default/db", std::make_shared<kube::Service>());
  inbox.PutCacheSynced(CacheId::kServices);
  const auto second = inbox.Take({}, Clock::now() + 5s);
  EXPECT_EQ(second->services.size(), 1U);
  EXPECT_TRUE(second->synced.test(static_cast<size_t>(CacheId::kServices)));
  EXPECT_FALSE(second->synced.all());
}

TEST(ChangeInbox, WakesForAChangeAndForStop) {
  ChangeInbox inbox;
  std::thread putter([&inbox] {
    inbox.PutNode(std::make_shared<kube::Node>());
    inbox.Stop();
  });
  // Whichever comes first wakes the taker, though it waits without a deadline.
  const auto first = inbox.Take({}, Clock::time_point::max());
  putter.join();
  const auto second = inbox.Take({}, Clock::time_point::max());
  EXPECT_NE(first.has_value(), second.has_value());
  EXPECT_TRUE((first ? first : second)->node);
  // A taker that has work left may go on after it was stopped.
  inbox.PutAddressesChanged();
  EXPECT_TRUE(inbox.Take({}, Clock::time_point::max()));
}

}  // namespace
}  // namespace pointsman::agent

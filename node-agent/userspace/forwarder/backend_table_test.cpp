#include "node-agent/userspace/forwarder/backend_table.h"

#include <gtest/gtest.h>

namespace pointsman::forwarder {
namespace {

using namespace std::chrono_literals;

IpPort Place(int k) {
  return {net::IpAddress::V4(0x0af40000U + static_cast<uint32_t>(k)), 8080};
}

net::IpAddress Client(int k) {
  return net::IpAddress::V4(0xc0a80000U + static_cast<uint32_t>(k));
}

Slot MakeSlot(uint32_t number, const std::vector<int>& backends, uint32_t affinity = 0,
              std::string service = "default/web/TCP/IPv4") {
  Slot slot{.number = number, .service = std::move(service), .affinity_seconds = affinity};
  for (int k : backends)
    slot.backends.push_back(Place(k));
  return slot;
}

class BackendTableTest : public ::testing::Test {
 protected:
  IpPort Next(uint32_t slot, int client = 1, std::vector<IpPort> tried = {}) {
    return table_.Choose(slot, Client(client), tried, now_).value_or(IpPort{});
  }
  BackendTable table_;
  Clock::time_point now_ = Clock::now();
};

TEST_F(BackendTableTest, TheTurnSurvivesChanges) {
  table_.Set(MakeSlot(1, {1, 2, 3}));
  EXPECT_EQ(Next(1), Place(1));
  EXPECT_EQ(Next(1), Place(2));
  table_.Set(MakeSlot(1, {1, 3, 4}));
  EXPECT_EQ(Next(1), Place(3));
  table_.Set(MakeSlot(1, {1, 2}));  // the one whose turn it was is gone, and so are those after it
  EXPECT_EQ(Next(1), Place(1));
}

TEST_F(BackendTableTest, TriedOnesAreNotOfferedAgain) {
  table_.Set(MakeSlot(1, {1, 2}));
  EXPECT_EQ(Next(1, 1, {Place(1)}), Place(2));
  EXPECT_EQ(Next(1, 1, {Place(2)}), Place(1));
  EXPECT_FALSE(table_.Choose(1, Client(1), std::vector{Place(1), Place(2)}, now_));
  EXPECT_FALSE(table_.Choose(9, Client(1), {}, now_));
}

TEST_F(BackendTableTest, SuspectsComeLastForAWhile) {
  table_.Set(MakeSlot(1, {1, 2, 3}));
  table_.Failed(Place(2), now_);
  for (int i = 0; i < 6; ++i)
    EXPECT_NE(Next(1), Place(2));
  EXPECT_EQ(Next(1, 1, {Place(1), Place(3)}), Place(2));
  now_ += BackendTable::kSuspectTime;
  std::set<IpPort> seen{Next(1), Next(1), Next(1)};
  EXPECT_TRUE(seen.contains(Place(2)));
  // One that was reached is none.
  table_.Failed(Place(1), now_);
  table_.Reached(1, Client(1), Place(1), now_);
  seen = {Next(1), Next(1), Next(1)};
  EXPECT_EQ(seen.size(), 3U);
}

TEST_F(BackendTableTest, AffinityEndsAfterItsTimeSinceTheLastConnection) {
  table_.Set(MakeSlot(1, {1, 2}, 100));
  const IpPort first = Next(1);
  table_.Reached(1, Client(1), first, now_);
  now_ += 60s;
  EXPECT_EQ(Next(1), first);
  table_.Reached(1, Client(1), first, now_);
  now_ += 100s;
  EXPECT_EQ(Next(1), first);
  now_ += 1s;
  EXPECT_NE(Next(1), first);
}

TEST_F(BackendTableTest, AffinityIsOneForAllSlotsOfAServicePort) {
  table_.Set(MakeSlot(1, {1, 2}, 100));
  table_.Set(MakeSlot(2, {1, 2}, 100));
  table_.Reached(1, Client(1), Place(2), now_);
  EXPECT_EQ(Next(2), Place(2));
  // It lives as long as one of them does, and through their changes.
  table_.Remove(1);
  EXPECT_EQ(Next(2), Place(2));
  table_.Set(MakeSlot(2, {1, 2, 3}, 100));
  EXPECT_EQ(Next(2), Place(2));
  EXPECT_EQ(table_.affine_clients(), 1U);
  table_.Remove(2);
  EXPECT_EQ(table_.affine_clients(), 0U);
}

TEST_F(BackendTableTest, AffinityIsSwitchedOffAndOn) {
  table_.Set(MakeSlot(1, {1, 2}, 100));
  table_.Reached(1, Client(1), Place(1), now_);
  table_.Set(MakeSlot(1, {1, 2}));
  EXPECT_EQ(table_.affine_clients(), 0U);
  table_.Reached(1, Client(1), Place(1), now_);
  EXPECT_EQ(table_.affine_clients(), 0U);
}

TEST_F(BackendTableTest, RememberedClientsAreBounded) {
  table_.Set(MakeSlot(1, {1}, 100));
  for (int i = 0; i < static_cast<int>(BackendTable::kMaxAffineClients) + 10; ++i)
    table_.Reached(1, Client(i), Place(1), now_);
  EXPECT_EQ(table_.affine_clients(), BackendTable::kMaxAffineClients);
}

}  // namespace
}  // namespace pointsman::forwarder

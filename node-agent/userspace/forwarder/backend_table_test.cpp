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

class BindingsTest : public BackendTableTest {
 protected:
  static constexpr const char* kWeb = "default/web/TCP/IPv4";
  // By client.
  std::map<net::IpAddress, Binding> Now(const std::string& service = kWeb) {
    std::map<net::IpAddress, Binding> all;
    for (const ServiceBindings& of : table_.Bindings(now_)) {
      if (of.service != service) continue;
      for (const Binding& binding : of.bindings)
        EXPECT_TRUE(all.emplace(binding.client, binding).second);
    }
    return all;
  }
  size_t Give(int client, const IpPort& backend, uint32_t left) {
    return table_.Bind({{kWeb, {{Client(client), backend, left}}}}, now_);
  }
};

TEST_F(BindingsTest, SayHowMuchTimeIsLeft) {
  table_.Set(MakeSlot(1, {1, 2}, 100));
  table_.Set(MakeSlot(2, {3}, 50, "default/dns/UDP/IPv4"));
  table_.Set(MakeSlot(3, {4}));
  EXPECT_TRUE(table_.Bindings(now_).empty());
  table_.Reached(1, Client(1), Place(2), now_);
  table_.Reached(2, Client(1), Place(3), now_);
  table_.Reached(3, Client(1), Place(4), now_);
  now_ += 30500ms;
  table_.Reached(1, Client(2), Place(1), now_);
  EXPECT_EQ(table_.Bindings(now_).size(), 2U);
  EXPECT_EQ(Now(), (std::map<net::IpAddress, Binding>{{Client(1), {Client(1), Place(2), 70}},
                                                      {Client(2), {Client(2), Place(1), 100}}}));
  EXPECT_EQ(Now("default/dns/UDP/IPv4").at(Client(1)), (Binding{Client(1), Place(3), 20}));
  now_ += 69s;
  EXPECT_EQ(Now().at(Client(1)).seconds_left, 1U);
  EXPECT_TRUE(Now("default/dns/UDP/IPv4").empty());
  now_ += 500ms;
  EXPECT_FALSE(Now().contains(Client(1)));
}

TEST_F(BindingsTest, AGivenOneEndsWhenItsTimeDoes) {
  table_.Set(MakeSlot(1, {1, 2, 3}, 100));
  EXPECT_EQ(Give(1, Place(3), 40), 0U);
  EXPECT_EQ(Give(2, Place(3), 40), 0U);
  EXPECT_EQ(Now().at(Client(1)), (Binding{Client(1), Place(3), 40}));
  now_ += 40s;
  EXPECT_EQ(Next(1, 1), Place(3));
  // Unless the client connects again.
  table_.Reached(1, Client(1), Place(3), now_);
  now_ += 1ms;
  EXPECT_EQ(Next(1, 1), Place(3));
  EXPECT_NE(Next(1, 2), Place(3));
  // A time-out that has become shorter.
  table_.Set(MakeSlot(1, {1, 2, 3}, 10));
  EXPECT_EQ(Give(3, Place(3), 40), 0U);
  EXPECT_EQ(Now().at(Client(3)).seconds_left, 10U);
}

TEST_F(BindingsTest, ABoundClientStaysUntilItsTimeOrItsBackendEnds) {
  table_.Set(MakeSlot(1, {1, 2, 3}, 100));
  table_.Reached(1, Client(1), Place(1), now_);
  EXPECT_EQ(Give(1, Place(3), 100), 0U);
  EXPECT_EQ(Next(1), Place(1));
  table_.Set(MakeSlot(1, {2, 3}, 100));
  EXPECT_EQ(Give(1, Place(3), 100), 0U);
  EXPECT_EQ(Next(1), Place(3));
  now_ += 101s;
  EXPECT_EQ(Give(1, Place(2), 7), 0U);
  EXPECT_EQ(Now().at(Client(1)), (Binding{Client(1), Place(2), 7}));
  // It came back from another mode, in which it has been elsewhere meanwhile.
  now_ += 5s;
  EXPECT_EQ(Give(1, Place(3), 4), 0U);
  EXPECT_EQ(Next(1), Place(2));
  EXPECT_EQ(Give(1, Place(3), 50), 0U);
  EXPECT_EQ(Now().at(Client(1)), (Binding{Client(1), Place(3), 50}));
  // Of two the first counts, or the one that is much later.
  EXPECT_EQ(table_.Bind({{kWeb, {{Client(5), Place(2), 9}, {Client(5), Place(3), 9}}}}, now_), 0U);
  EXPECT_EQ(Now().at(Client(5)).backend, Place(2));
  EXPECT_EQ(table_.Bind({{kWeb, {{Client(6), Place(2), 9}, {Client(6), Place(3), 90}}}}, now_), 0U);
  EXPECT_EQ(Now().at(Client(6)), (Binding{Client(6), Place(3), 90}));
  EXPECT_EQ(table_.affine_clients(), 3U);
  EXPECT_EQ(Now().size(), 3U);
}

TEST_F(BindingsTest, WithoutAPlaceTheyAreNotTaken) {
  table_.Set(MakeSlot(1, {1}, 100));
  table_.Set(MakeSlot(2, {2}, 100));  // another class of traffic of the same
  table_.Set(MakeSlot(3, {1}, 0, "default/plain/TCP/IPv4"));
  EXPECT_EQ(
      table_.Bind(
          {{kWeb, {{Client(1), Place(1), 9}, {Client(2), Place(2), 9}, {Client(3), Place(3), 9}}},
           {"default/plain/TCP/IPv4", {{Client(1), Place(1), 9}}},
           {"default/none/TCP/IPv4", {{Client(1), Place(1), 9}}}},
          now_),
      3U);
  EXPECT_EQ(Now().size(), 2U);
  EXPECT_EQ(table_.affine_clients(), 2U);
  // What they refer to goes with the Service.
  table_.Remove(1);
  EXPECT_EQ(table_.affine_clients(), 2U);
  table_.Remove(2);
  EXPECT_EQ(table_.affine_clients(), 0U);
  EXPECT_TRUE(table_.Bindings(now_).empty());
}

TEST_F(BindingsTest, TheOnesSilentLongestAreForgottenBeyondTheLimit) {
  table_.Set(MakeSlot(1, {1}, 1000));
  constexpr int kMost = static_cast<int>(BackendTable::kMaxAffineClients);
  now_ += 1000s;
  for (int i = 0; i < kMost - 1; ++i)
    table_.Reached(1, Client(i), Place(1), now_);
  // In no order of time; all but the last one were silent for longer than those.
  EXPECT_EQ(Give(kMost + 1, Place(1), 500), 0U);
  now_ += 10s;
  EXPECT_EQ(table_.Bind({{kWeb,
                          {{Client(kMost + 2), Place(1), 400},
                           {Client(kMost + 4), Place(1), 999},
                           {Client(kMost + 3), Place(1), 300}}}},
                        now_),
            0U);
  const std::map<net::IpAddress, Binding> left = Now();
  EXPECT_EQ(left.size(), BackendTable::kMaxAffineClients);
  EXPECT_TRUE(left.contains(Client(kMost + 4)));
  for (int i = 1; i <= 3; ++i)
    EXPECT_FALSE(left.contains(Client(kMost + i))) << i;
  // And then the oldest of the others, not the one that was given last.
  table_.Reached(1, Client(kMost + 5), Place(1), now_);
  EXPECT_FALSE(Now().contains(Client(0)));
  EXPECT_TRUE(Now().contains(Client(kMost + 4)));
}

}  // namespace
}  // namespace pointsman::forwarder

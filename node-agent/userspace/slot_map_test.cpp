#include "node-agent/userspace/slot_map.h"

#include <gtest/gtest.h>

#include "node-agent/testing/model_maker.h"
#include "node-agent/userspace/forwarder/protocol.h"

namespace pointsman::agent {
namespace {

using testing::Ip;
using testing::MakeBackend;
using testing::MakeEntry;

ServicePortEntry Web(const std::string& name = "web") {
  return MakeEntry(name, Protocol::kTcp, "10.96.0.10", 80,
                   {MakeBackend("10.244.0.2", 8080), MakeBackend("10.244.0.3", 8080)});
}

TEST(SlotMap, EachClassOfTrafficHasItsSlot) {
  SlotMap numbers;
  ServicePortEntry entry = Web();
  entry.node_port = 30080;
  entry.external_local = true;
  entry.external.backends.resize(1);
  entry.external_from_node = entry.internal;
  entry.affinity_timeout = std::chrono::seconds(10);
  entry.draining = {MakeBackend("10.244.0.9", 8080)};
  const Steered steered = numbers.Steer(entry, 40000);
  ASSERT_EQ(steered.slots.size(), 3U);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(steered.slots[i].kind, i);
    EXPECT_EQ(steered.slots[i].service, "default/web:p/TCP/IPv4");
    EXPECT_EQ(steered.slots[i].affinity_seconds, 10U);
  }
  EXPECT_EQ(steered.slots[1].backends.size(), 1U);
  EXPECT_EQ(steered.entry->internal.backends, (std::vector{MakeBackend("240.112.0.1", 40000)}));
  EXPECT_EQ(steered.entry->external.backends, (std::vector{MakeBackend("240.112.0.2", 40000)}));
  EXPECT_EQ(steered.entry->external_from_node.backends,
            (std::vector{MakeBackend("240.112.0.3", 40000)}));
  // The rules know nothing of these.
  EXPECT_EQ(steered.entry->affinity_timeout.count(), 0);
  EXPECT_TRUE(steered.entry->draining.empty());
  // The same again.
  EXPECT_EQ(numbers.Steer(entry, 40000).slots, steered.slots);
}

TEST(SlotMap, NoBackendsNoSlotAndSctpIsRefused) {
  SlotMap numbers;
  ServicePortEntry entry = Web();
  entry.internal.backends.clear();
  entry.internal.when_empty = BackendChoice::WhenEmpty::kDrop;
  entry.external.backends.clear();
  Steered steered = numbers.Steer(entry, 40000);
  EXPECT_TRUE(steered.slots.empty());
  EXPECT_EQ(*steered.entry, entry);
  entry = Web();
  entry.id.protocol = Protocol::kSctp;
  entry.internal.when_empty = BackendChoice::WhenEmpty::kDrop;
  steered = numbers.Steer(entry, 40000);
  EXPECT_TRUE(steered.slots.empty());
  EXPECT_TRUE(steered.entry->internal.backends.empty());
  EXPECT_EQ(steered.entry->internal.when_empty, BackendChoice::WhenEmpty::kReject);
}

TEST(SlotMap, AFreedNumberComesLast) {
  SlotMap numbers;
  ServicePortEntry entry = Web();
  entry.external.backends.clear();
  const forwarder::Slot slot = numbers.Steer(entry, 1).slots.at(0);
  numbers.Free(slot);
  EXPECT_NE(numbers.Steer(entry, 1).slots.at(0).number, slot.number);
  // Round once: all others were given out before it is again.
  SlotMap next;
  next.Adopt({slot}, forwarder::kMaxSlot);
  ServicePortEntry other = Web("other");
  other.external.backends.clear();
  EXPECT_EQ(next.Steer(other, 1).slots.at(0).number, slot.number + 1);
}

TEST(SlotMap, NumbersOfARunningForwarderAreKept) {
  ServicePortEntry entry = Web();
  SlotMap first;
  first.StartAfresh();
  const Steered steered = first.Steer(entry, 1);
  SlotMap second;
  second.Adopt(steered.slots, first.last());
  EXPECT_EQ(second.Steer(entry, 1).slots, steered.slots);
  EXPECT_EQ(second.last(), first.last());
}

TEST(SlotMap, WhenAllNumbersAreTakenItSaysSo) {
  std::vector<forwarder::Slot> all;
  for (uint32_t number = 1; number <= forwarder::kMaxSlot; ++number)
    all.push_back({.number = number, .service = "s" + std::to_string(number)});
  SlotMap numbers;
  numbers.Adopt(all, 7);
  EXPECT_THROW(numbers.Steer(Web(), 1), std::length_error);
  numbers.Free(all[100]);
  ServicePortEntry entry = Web();
  entry.external.backends.clear();
  EXPECT_EQ(numbers.Steer(entry, 1).slots.at(0).number, 101U);
}

TEST(SlotMap, WhatFindsNoSecondNumberGivesItsFirstBack) {
  std::vector<forwarder::Slot> all;
  for (uint32_t number = 1; number < forwarder::kMaxSlot; ++number)
    all.push_back({.number = number, .service = "s" + std::to_string(number)});
  SlotMap numbers;
  numbers.Adopt(all, 7);
  EXPECT_THROW(numbers.Steer(Web(), 1), std::length_error);
  ServicePortEntry other = Web("other");
  other.external.backends.clear();
  EXPECT_EQ(numbers.Steer(other, 1).slots.at(0).number, forwarder::kMaxSlot);
}

TEST(SlotMap, BackendsBeyondTheForwardersBoundAreLeftOut) {
  ServicePortEntry entry = Web();
  entry.internal.backends.clear();
  for (uint32_t i = 0; i < forwarder::kMaxBackendsOfSlot + 7; ++i)
    entry.internal.backends.push_back({net::IpAddress::V4(0x0a000000U + i), 8080});
  SlotMap numbers;
  const Steered steered = numbers.Steer(entry, 1);
  EXPECT_EQ(steered.backends_left_out, 7U);
  EXPECT_EQ(steered.slots.at(0).backends.size(), forwarder::kMaxBackendsOfSlot);
  EXPECT_EQ(steered.slots.at(0).backends.back().ip,
            net::IpAddress::V4(0x0a000000U + forwarder::kMaxBackendsOfSlot - 1));
}

TEST(SlotMap, TheGreedyServiceGoesWithoutSlots) {
  ServiceModel model;
  const auto put = [&](const std::string& ns, const std::string& name, int ports) {
    for (int i = 0; i < ports; ++i) {
      ServicePortEntry entry = Web(name);
      entry.id.ns = ns;
      entry.id.port_name = std::to_string(i);
      model.entries[entry.id] = std::make_shared<const ServicePortEntry>(entry);
    }
  };
  put("a", "web", 3);
  put("tenant", "greedy", 100);
  put("tenant", "small", 2);
  const auto all = [](const ServicePortEntry&) { return true; };
  EXPECT_TRUE(WithoutSlots(model, 1000, all).empty());
  EXPECT_EQ(WithoutSlots(model, 100, all),
            (std::set<std::pair<std::string, std::string>>{{"tenant", "greedy"}}));
}

}  // namespace
}  // namespace pointsman::agent

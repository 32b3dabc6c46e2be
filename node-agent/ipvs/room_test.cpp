#include "node-agent/ipvs/room.h"

#include <gmock/gmock.h>

#include "node-agent/testing/model_maker.h"

namespace pointsman::agent::ipvs {
namespace {

using agent::testing::Ip;
using agent::testing::MakeBackend;
using agent::testing::MakeEntry;
using agent::testing::ModelMaker;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr auto kAll = [](const ServicePortEntry&) { return true; };

ServicePortEntry Entry(const std::string& ns, const std::string& name) {
  ServicePortEntry entry =
      MakeEntry(name, Protocol::kTcp, "10.96.0.1", 80,
                {MakeBackend("10.244.0.2", 8080), MakeBackend("10.244.0.3", 8080, false)});
  entry.id.ns = ns;
  return entry;
}

TEST(Room, NeedsOfAServicePort) {
  ServicePortEntry entry = Entry("a", "web");
  EXPECT_EQ(NeedsOf(entry).servers, 1U);
  EXPECT_EQ(NeedsOf(entry).destinations, 2U);
  EXPECT_EQ(NeedsOf(entry).hairpins, 1U);
  entry.node_port = 30080;
  entry.external_ips = {Ip("203.0.113.1"), Ip("203.0.113.2")};
  entry.load_balancer_ips = {Ip("203.0.113.3")};
  entry.source_ranges = {net::IpPrefix::Parse("10.0.0.0/8").value()};
  EXPECT_EQ(NeedsOf(entry).servers, 5U);
  EXPECT_EQ(NeedsOf(entry).destinations, 10U);
  EXPECT_EQ(NeedsOf(entry).sources, 3U);
  entry.external_local = true;
  entry.external_from_node = entry.internal;
  entry.external.backends.pop_back();
  EXPECT_EQ(NeedsOf(entry).servers, 9U);
  EXPECT_EQ(NeedsOf(entry).destinations, 2U + 4 + 8);
}

TEST(Room, EachKindIsSharedOut) {
  ModelMaker maker;
  maker.Put(Entry("a", "web"));
  ServicePortEntry greedy = Entry("b", "greedy");
  for (int i = 1; i <= 100; ++i)
    greedy.load_balancer_ips.push_back(net::IpAddress::V4(0xcb007100U + static_cast<uint32_t>(i)));
  greedy.source_ranges = {net::IpPrefix::Parse("10.0.0.0/8").value()};
  maker.Put(greedy);
  EXPECT_THAT(Crowded(maker.model, {}, kAll), IsEmpty());
  Room room;
  EXPECT_THAT(Crowded(maker.model, room, kAll), IsEmpty());
  for (const auto& [kind, few] : {std::pair{&Room::servers, 101},
                                  {&Room::sources, 299},
                                  {&Room::destinations, 203},
                                  {&Room::hairpins, 1}}) {
    room = {};
    room.*kind = static_cast<uint64_t>(few);
    const auto crowded = Crowded(maker.model, room, kAll);
    ASSERT_EQ(crowded.size(), 1U) << few;
    EXPECT_EQ(crowded.begin()->first, ServiceName("b", "greedy"));
    EXPECT_THAT(crowded.begin()->second, HasSubstr("this node has " + std::to_string(few)));
  }
  // What another family or mode does not serve takes no room.
  room = {};
  room.servers = 1;
  EXPECT_THAT(
      Crowded(maker.model, room, [](const ServicePortEntry& entry) { return entry.id.ns == "a"; }),
      IsEmpty());
}

}  // namespace
}  // namespace pointsman::agent::ipvs

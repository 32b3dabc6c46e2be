#include "node-agent/userspace/forwarder/protocol.h"

#include <random>

#include <gtest/gtest.h>

namespace pointsman::forwarder {
namespace {

Slot MakeSlot(uint32_t number, size_t backends) {
  Slot slot{.number = number,
            .service = "default/web:http/TCP/IPv6",
            .kind = 2,
            .udp = number % 2 == 0,
            .affinity_seconds = 10800};
  for (size_t i = 0; i < backends; ++i) {
    slot.backends.push_back({net::IpAddress::V4(0x0a000000U + static_cast<uint32_t>(i)), 8080});
  }
  return slot;
}

// Frames, and what was decoded from them.
std::vector<Update> DecodeAll(const std::string& frames) {
  FrameReader reader;
  std::vector<Update> updates;
  FrameType type{};
  std::string_view body;
  // In pieces, as a socket hands them out.
  for (size_t at = 0; at < frames.size(); at += 1000) {
    reader.Append(std::string_view(frames).substr(at, 1000));
    while (reader.Next(type, body)) {
      EXPECT_EQ(type, FrameType::kUpdate);
      EXPECT_LE(body.size(), kMaxBody);
      updates.push_back(DecodeUpdate(body));
    }
  }
  return updates;
}

TEST(Protocol, WhatIsEncodedIsDecoded) {
  const HelloReply hello{.protocol = kProtocolVersion,
                         .version = "0.1.0",
                         .pid = 77,
                         .netns = 4026531840,
                         .port_v4 = 40000,
                         .port_v6 = 40001,
                         .generation = uint64_t{1} << 40,
                         .last_slot = 12345,
                         .draining = true};
  const HelloReply back = DecodeHelloReply(Encode(hello));
  EXPECT_EQ(back.version, hello.version);
  EXPECT_EQ(back.netns, hello.netns);
  EXPECT_EQ(back.port_v6, hello.port_v6);
  EXPECT_EQ(back.generation, hello.generation);
  EXPECT_EQ(back.last_slot, hello.last_slot);
  EXPECT_TRUE(back.draining);
  const Stats stats{
      .tcp_connections = 1, .udp_retries = 2, .connection_limit = 3, .udp_bytes_to_clients = 4};
  EXPECT_EQ(DecodeStats(Encode(stats)), stats);
  // Of one that counts less, and of one that counts more.
  const std::string text = Encode(stats);
  EXPECT_EQ(DecodeStats(text.substr(0, 8)), (Stats{.tcp_connections = 1}));
  EXPECT_EQ(DecodeStats(text + "12345678"), stats);
  EXPECT_THROW(DecodeStats(text.substr(0, 12)), ProtocolError);
  EXPECT_EQ(DecodeU32(EncodeU32(0xdeadbeef)), 0xdeadbeefU);
  EXPECT_EQ(DecodeU64(EncodeU64(~uint64_t{1})), ~uint64_t{1});
}

TEST(Protocol, ABigUpdateTravelsInSeveralFrames) {
  Update update{.from = 5, .to = 6, .whole = true, .last_slot = 9};
  for (uint32_t i = 1; i <= 5000; ++i)
    update.set.push_back(MakeSlot(i, 100));
  for (uint32_t i = 0; i < 300'000; ++i)
    update.removed.push_back(i);
  std::string frames;
  AppendUpdate(frames, update);
  const std::vector<Update> parts = DecodeAll(frames);
  ASSERT_GT(parts.size(), 2U);
  std::vector<Slot> set;
  std::vector<uint32_t> removed;
  for (size_t i = 0; i < parts.size(); ++i) {
    EXPECT_EQ(parts[i].last, i + 1 == parts.size());
    EXPECT_EQ(parts[i].to, 6U);
    set.insert(set.end(), parts[i].set.begin(), parts[i].set.end());
    removed.insert(removed.end(), parts[i].removed.begin(), parts[i].removed.end());
  }
  EXPECT_EQ(set, update.set);
  EXPECT_EQ(removed, update.removed);
}

TEST(Protocol, ADumpTravelsInSeveralFrames) {
  std::vector<Slot> slots;
  std::vector<const Slot*> pointers;
  for (uint32_t i = 1; i <= 2000; ++i)
    slots.push_back(MakeSlot(i, 100));
  pointers.reserve(slots.size());
  for (const Slot& slot : slots)
    pointers.push_back(&slot);
  std::string frames;
  AppendDump(frames, pointers);
  AppendDump(frames, {});
  FrameReader reader;
  reader.Append(frames);
  FrameType type{};
  std::string_view body;
  std::vector<Slot> back;
  bool last = false;
  while (!last) {
    ASSERT_TRUE(reader.Next(type, body));
    last = DecodeDumpPart(body, back);
  }
  EXPECT_EQ(back, slots);
  ASSERT_TRUE(reader.Next(type, body));
  EXPECT_TRUE(DecodeDumpPart(body, back));
  EXPECT_EQ(back.size(), slots.size());
}

TEST(Protocol, TheBiggestSlotFitsAndABiggerOneIsRefused) {
  Update update{.set = {MakeSlot(1, kMaxBackendsOfSlot)}};
  std::string frames;
  AppendUpdate(frames, update);
  EXPECT_EQ(DecodeAll(frames).at(0).set, update.set);
  update.set = {MakeSlot(1, kMaxBackendsOfSlot + 1)};
  EXPECT_THROW(AppendUpdate(frames, update), std::length_error);
}

TEST(Protocol, ImpossibleHeadersAreRefused) {
  FrameType type{};
  std::string_view body;
  FrameReader too_big;
  too_big.Append(EncodeU32(kMaxBody + 1) + EncodeU32(2));
  EXPECT_THROW(too_big.Next(type, body), ProtocolError);
  FrameReader not_a_frame;
  not_a_frame.Append("GET / HTTP/1.1\r\n\r\n");
  EXPECT_THROW(not_a_frame.Next(type, body), ProtocolError);
}

// Whatever comes, decoding ends with a value or with ProtocolError, and takes no more memory than
// the bytes that came allow.
TEST(Protocol, DamagedBodiesAreRefused) {
  std::string frames;
  AppendUpdate(frames, {.set = {MakeSlot(1, 3), MakeSlot(2, 1)}, .removed = {7}});
  const std::string body = frames.substr(kHeaderSize);
  for (size_t size = 0; size < body.size(); ++size)
    EXPECT_THROW(DecodeUpdate(body.substr(0, size)), ProtocolError) << size;
  EXPECT_THROW(DecodeUpdate(body + "x"), ProtocolError);
  std::mt19937 random(11);
  int refused = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string damaged = body;
    for (int k = 0; k < 3; ++k)
      damaged[random() % damaged.size()] = static_cast<char>(random());
    try {
      const Update update = DecodeUpdate(damaged);
      for (const Slot& slot : update.set) {
        EXPECT_FALSE(slot.backends.empty());
        EXPECT_LE(slot.number, kMaxSlot);
      }
    } catch (const ProtocolError&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 1000);
}

std::vector<ServiceBindings> MakeBindings() {
  std::vector<ServiceBindings> services;
  for (uint32_t s = 0; s < 300; ++s) {
    ServiceBindings of{.service = "default/s" + std::to_string(s) + "/TCP/IPv4", .bindings = {}};
    // One with more clients than a frame holds, and many small ones.
    const uint32_t count = s == 7 ? 100'000 : s + 1;
    for (uint32_t i = 0; i < count; ++i) {
      const net::IpAddress client = net::IpAddress::V4(0xc0a80000U + i);
      const net::IpAddress backend = net::IpAddress::V4(0x0a000000U + i % 5);
      of.bindings.push_back({client, {backend, 8080}, i + 1});
    }
    services.push_back(std::move(of));
  }
  const net::IpAddress ip = net::IpAddress::Parse("fd00::1").value();
  services.push_back({"default/six/UDP/IPv6", {{ip, {ip, 53}, 0xffffffff}}});
  return services;
}

TEST(Protocol, BindingsTravelInSeveralFrames) {
  const std::vector<ServiceBindings> services = MakeBindings();
  const std::vector<std::string> bodies = EncodeBindings(services);
  ASSERT_GT(bodies.size(), 2U);
  std::vector<ServiceBindings> back;
  for (size_t i = 0; i < bodies.size(); ++i) {
    EXPECT_LE(bodies[i].size(), kMaxBody);
    std::vector<ServiceBindings> part;
    EXPECT_EQ(DecodeBindingsPart(bodies[i], part), i + 1 == bodies.size());
    for (ServiceBindings& of : part) {
      if (back.empty() || back.back().service != of.service) {
        back.push_back(std::move(of));
        continue;
      }
      std::move(of.bindings.begin(), of.bindings.end(), std::back_inserter(back.back().bindings));
    }
  }
  EXPECT_EQ(back, services);
  // None at all is an answer too.
  ASSERT_EQ(EncodeBindings({}).size(), 1U);
  back.clear();
  EXPECT_TRUE(DecodeBindingsPart(EncodeBindings({})[0], back));
  EXPECT_TRUE(back.empty());
  EXPECT_THROW(EncodeBindings({{std::string(kMaxServiceName + 1, 'x'), services[0].bindings}}),
               std::length_error);
}

TEST(Protocol, DamagedBindingsAreRefused) {
  const net::IpAddress four = net::IpAddress::Parse("10.0.0.1").value();
  const net::IpAddress six = net::IpAddress::Parse("fd00::1").value();
  const auto encode = [&](uint32_t left) {
    return EncodeBindings({{"default/web/TCP/IPv4", {{four, {four, 80}, left}}},
                           {"default/web/TCP/IPv6", {{six, {six, 80}, 5}, {six, {six, 81}, 6}}}})
        .at(0);
  };
  std::vector<ServiceBindings> back;
  const std::string body = encode(1);
  EXPECT_TRUE(DecodeBindingsPart(body, back));
  for (size_t size = 0; size < body.size(); ++size)
    EXPECT_THROW(DecodeBindingsPart(body.substr(0, size), back), ProtocolError) << size;
  EXPECT_THROW(DecodeBindingsPart(body + "x", back), ProtocolError);
  EXPECT_THROW(DecodeBindingsPart(encode(0), back), ProtocolError);
  std::mt19937 random(12);
  int refused = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string damaged = body;
    for (int k = 0; k < 3; ++k)
      damaged[random() % damaged.size()] = static_cast<char>(random());
    back.clear();
    try {
      DecodeBindingsPart(damaged, back);
      for (const ServiceBindings& of : back) {
        for (const Binding& binding : of.bindings)
          EXPECT_GT(binding.seconds_left, 0U);
      }
    } catch (const ProtocolError&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 1000);
}

TEST(AddressPlan, SlotsAndAddressesCorrespond) {
  for (net::Family family : {net::Family::kIPv4, net::Family::kIPv6}) {
    for (uint32_t slot : {1U, 255U, 256U, 65536U, kMaxSlot}) {
      const net::IpAddress address = SlotAddress(family, slot);
      EXPECT_TRUE(SlotPrefix(family).Contains(address));
      EXPECT_EQ(SlotOf(address), slot);
    }
  }
  EXPECT_EQ(SlotAddress(net::Family::kIPv4, 5).ToString(), "240.112.0.5");
  EXPECT_EQ(SlotPrefix(net::Family::kIPv4).ToString(), "240.112.0.0/14");
  EXPECT_EQ(SlotPrefix(net::Family::kIPv6).ToString(), "fd70:6f69:6e74:736d::/110");
  EXPECT_FALSE(SlotOf(net::IpAddress::Parse("240.116.0.0").value()));
  EXPECT_FALSE(SlotOf(net::IpAddress::Parse("10.0.0.1").value()));
}

}  // namespace
}  // namespace pointsman::forwarder

#include "node-agent/ipvs/template_sync.h"

#include <netinet/in.h>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pointsman::agent::ipvs {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

netlink::IpvsTemplate Make(const char* client, const char* address, const char* destination) {
  netlink::IpvsTemplate t;
  t.protocol = IPPROTO_TCP;
  t.client = net::IpAddress::Parse(client).value();
  t.address = net::IpAddress::Parse(address).value();
  t.port = 80;
  t.destination = net::IpAddress::Parse(destination).value();
  t.destination_port = 8080;
  t.left = std::chrono::seconds(10799);
  return t;
}

std::string Hex(std::string_view bytes) {
  std::string text;
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i != 0 && i % 4 == 0) text += ' ';
    text += fmt::format("{:02x}", static_cast<uint8_t>(bytes[i]));
  }
  return text;
}

// The layout of struct ip_vs_sync_mesg, ip_vs_sync_v4 and ip_vs_sync_v6, all in network order.
TEST(TemplateSync, AMessageHasTheKernelsLayout) {
  const std::vector<std::string> messages =
      SyncMessages(0xab, std::vector{Make("192.168.50.2", "10.96.0.10", "10.244.0.3"),
                                     Make("fd00:50::2", "fd00:10:96::10", "fd00:10:244::3")});
  ASSERT_THAT(messages, SizeIs(1));
  EXPECT_EQ(Hex(messages[0]),
            // reserved, sync id, size; count, version, spare
            "00ab0074 02010000 "
            // type, protocol, size; flags; state, client port; ports; mark; seconds
            "00060024 00001000 00010000 00501f90 00000000 00002a2f "
            "c0a83202 0a60000a 0af40003 "
            "01060048 00001000 00010000 00501f90 00000000 00002a2f "
            "fd000050 00000000 00000000 00000002 "
            "fd000010 00960000 00000000 00000010 "
            "fd000010 02440000 00000000 00000003");
}

TEST(TemplateSync, ManyAreSeveralMessages) {
  EXPECT_THAT(SyncMessages(1, {}), SizeIs(0));
  const std::vector<netlink::IpvsTemplate> v4(100, Make("192.168.50.2", "10.96.0.10", "10.1.0.3"));
  const std::vector<netlink::IpvsTemplate> v6(20, Make("fd00:50::2", "fd00::10", "fd01::3"));
  const auto sizes = [](const std::vector<std::string>& messages) {
    std::vector<std::pair<size_t, int>> all;
    for (const std::string& message : messages) {
      const auto byte = [&](size_t at) { return static_cast<uint8_t>(message[at]); };
      EXPECT_EQ(static_cast<size_t>(byte(2) << 8 | byte(3)), message.size());
      all.emplace_back(message.size(), byte(4));
    }
    return all;
  };
  EXPECT_THAT(sizes(SyncMessages(1, v4)),
              ElementsAre(std::pair{8 + 38 * 36, 38}, std::pair{8 + 38 * 36, 38},
                          std::pair{8 + 24 * 36, 24}));
  EXPECT_THAT(sizes(SyncMessages(1, v6)),
              ElementsAre(std::pair{8 + 19 * 72, 19}, std::pair{8 + 72, 1}));
}

}  // namespace
}  // namespace pointsman::agent::ipvs

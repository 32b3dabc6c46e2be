#include "node-agent/netlink/ipvs_half_open.h"

#include <stdexcept>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pointsman::agent::netlink {
namespace {

using ::testing::ElementsAre;

// `piece`: how many bytes come at once.
std::vector<std::string> HalfOpen(std::string_view text, size_t piece = 1 << 20) {
  std::vector<std::string> servers;
  IpvsHalfOpenParser parser([&](const net::IpAddress& address, uint16_t port) {
    servers.push_back(fmt::format("{} {}", address.ToString(), port));
  });
  for (; !text.empty(); text.remove_prefix(std::min(piece, text.size())))
    parser.Add(text.substr(0, piece));
  parser.End();
  return servers;
}

TEST(IpvsHalfOpen, AreThoseOfWhichOneSidesSynIsSeen) {
  const std::string text =
      "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n"
      "TCP 0AFA0002 CBF5 C6336408 0050 0AF4000F 1F90 TIME_WAIT       119\n"
      "TCP 0AFA0002 CBF6 C6336408 0050 0AF4000F 1F90 SYN_RECV         59\n"
      "TCP 0AFA0002 CBF7 0A60000A 0050 0AF4000F 1F90 ESTABLISHED     899\n"
      "TCP 0AFA0002 CBF8 0A60000A 01BB 0AF4000F 1F90 SYN_SENT        119\n"
      "TCP 0AFA0006 0000 C6336408 0050 0AF4000D 1F90 ASSURED       10799\n"
      "UDP 0AFA0007 90D0 0A60000A 0050 0AF4000B 1F90 UDP             299\n"
      "TCP fd00:0250:0000:0000:0000:0000:0000:0004 9C40 2001:0db8:0000:0000:0000:0000:0000:0008 "
      "0050 fd00:0010:0244:0000:0000:0000:0000:0014 1F90 SYN_RECV         3\n";
  const auto expected = ElementsAre("198.51.100.8 80", "10.96.0.10 443", "2001:db8::8 80");
  EXPECT_THAT(HalfOpen(text), expected);
  EXPECT_THAT(HalfOpen(text, 1), expected);
}

TEST(IpvsHalfOpen, WhatIsNoneOfThatFormatIsRefused) {
  for (const char* line :
       {"TCP\n", "TCP 0AFA0002 CBF5 C6336408 0050 0AF4000F 1F90\n",
        "TCP 0AFA0002 CBF5 C63364 0050 0AF4000F 1F90 SYN_RECV 59\n",
        "TCP 0AFA0002 CBF5 C6336408 10050 0AF4000F 1F90 SYN_RECV 59\n", "TCP 0AFA0002"})
    EXPECT_THROW(HalfOpen(line), std::runtime_error) << line;
}

}  // namespace
}  // namespace pointsman::agent::netlink

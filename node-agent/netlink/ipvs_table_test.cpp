#include "node-agent/netlink/ipvs_table.h"

#include <linux/ip_vs.h>
#include <netinet/in.h>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pointsman::agent::netlink {
namespace {

using ::testing::ElementsAre;

constexpr std::string_view kHead =
    "IP Virtual Server version 1.2.1 (size=4096)\n"
    "Prot LocalAddress:Port Scheduler Flags\n"
    "  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n";

std::string WithHead(std::string_view lines) {
  return fmt::format("{}{}", kHead, lines);
}

std::string Text(const IpvsServer& server, const std::vector<IpvsDestination>& destinations) {
  std::string text = server.fwmark != 0 ? fmt::format("mark {}", server.fwmark)
                                        : fmt::format("{} {}:{}", server.protocol,
                                                      server.address.ToString(), server.port);
  text += " " + server.scheduler;
  for (const IpvsDestination& d : destinations) {
    text += fmt::format(", {}:{} {} w{} {}/{}", d.address.ToString(), d.port, d.forwarding,
                        d.weight, d.active, d.inactive);
  }
  return text;
}

// Every server as a line; `piece`: how many bytes come at once.
std::vector<std::string> Parse(std::string_view text, size_t piece = 1 << 20) {
  std::vector<std::string> lines;
  IpvsTableParser parser([&](const IpvsServer& server, std::vector<IpvsDestination>& d) {
    lines.push_back(Text(server, d));
  });
  for (; !text.empty(); text.remove_prefix(std::min(piece, text.size())))
    parser.Add(text.substr(0, piece));
  parser.End();
  return lines;
}

TEST(IpvsTable, ReadsWhatTheKernelPrints) {
  const std::string text = WithHead(
      "TCP  0A60000A:0050 rr  \n"
      "  -> 0AF40003:1F90      Masq    1      2          3         \n"
      "  -> 0AF40002:1F90      Masq    0      0          7         \n"
      "UDP  0A60000A:0035 rr  persistent 10800 FFFFFFFF\n"
      "SCTP  [fd00:0000:0000:0000:0000:0000:0000:0010]:0050 sh \n"
      "  -> [fd00:0000:0000:0000:0000:0000:0001:0002]:1F90      Masq    1     "
      " 0          0         "
      "\n"
      "  -> 0AF40002:1F91      Tunnel  5      0          0         \n"
      "FWM  0000002A wlc ops \n"
      "  -> C0A83201:0000      Route   -1     0          0         \n");
  const std::vector<std::string> lines = Parse(text);
  EXPECT_THAT(lines,
              ElementsAre("6 10.96.0.10:80 rr, 10.244.0.3:8080 0 w1 2/3, 10.244.0.2:8080 0 w0 0/7",
                          "17 10.96.0.10:53 rr",
                          "132 fd00::10:80 sh, fd00::1:2:8080 0 w1 0/0, 10.244.0.2:8081 2 w5 0/0",
                          "mark 42 wlc, 192.168.50.1:0 3 w-1 0/0"));
  for (const size_t piece : {1, 7, 100})
    EXPECT_EQ(Parse(text, piece), lines) << piece;
}

TEST(IpvsTable, AnEmptyTableHasNoServer) {
  EXPECT_THAT(Parse(kHead), ElementsAre());
  EXPECT_THAT(Parse(""), ElementsAre());
}

TEST(IpvsTable, RefusesWhatItDoesNotUnderstand) {
  for (const char* line : {
           "TCP  0A60000A rr \n", "TCP  0A60000A:ZZZZ rr \n", "TCP  60000A:0050 rr \n",
           "XYZ  0A60000A:0050 rr \n",
           "  -> 0AF40003:1F90      Masq    1      2          3         \n",  // of no server
           "TCP  0A60000A:0050 rr \n  -> 0AF40003:1F90      Masq    1      2\n",
           "TCP  0A60000A:0050 rr",  // cut off
       }) {
    EXPECT_THROW(Parse(WithHead(line)), std::runtime_error) << line;
  }
}

}  // namespace
}  // namespace pointsman::agent::netlink

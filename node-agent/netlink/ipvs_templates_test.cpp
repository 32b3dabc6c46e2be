#include "node-agent/netlink/ipvs_templates.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pointsman::agent::netlink {
namespace {

using ::testing::ElementsAre;

constexpr std::string_view kHead =
    "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n";

std::string WithHead(std::string_view lines) {
  return fmt::format("{}{}", kHead, lines);
}

std::string Text(const IpvsTemplate& t) {
  return fmt::format("{} {} {}:{} {}:{} {}", t.protocol, t.client.ToString(), t.address.ToString(),
                     t.port, t.destination.ToString(), t.destination_port, t.left.count());
}

// Every template as a line; `piece`: how many bytes come at once.
std::vector<std::string> Parse(std::string_view text, size_t piece = 1 << 20) {
  std::vector<std::string> lines;
  IpvsTemplateParser parser([&](const IpvsTemplate& t) { lines.push_back(Text(t)); });
  for (; !text.empty(); text.remove_prefix(std::min(piece, text.size())))
    parser.Add(text.substr(0, piece));
  parser.End();
  return lines;
}

TEST(IpvsTemplates, ReadsWhatTheKernelPrints) {
  const std::string text = WithHead(
      "TCP C0A83202 C35A A9FE7001 7590 0AF40003 1F90 TIME_WAIT       118\n"
      "TCP C0A83202 0000 A9FE7001 7590 0AF40003 1F90 NONE          10798\n"
      "UDP 0AF40004 0000 0A60000A 0035 0AF40002 1F90 ASSURED          99\n"
      "UDP 0AF40004 157C 0A60000A 0035 0AF40002 1F90 UDP             299\n"
      "UDP 0AF40005 0000 0A60000A 0035 0AF40002 1F90 UDP              42\n"
      "TCP fd00:0010:0244:0000:0000:0000:0000:0004 0000 fd00:0010:0096:0000:0000:0000:0000:0010 "
      "0050 fd00:0010:0244:0000:0000:0000:0000:0002 1F90 ASSURED          10\n"
      "SCTP C0A83202 0000 0A60000A 0050 0AF40003 2382 NONE              0\n"
      "TCP C0A83202 0000 0A60000A 0000 0AF40003 0000 NONE             50\n"
      "IP  C0A83202 0000 0000002A 0000 0AF40003 0000 NONE             50\n"
      "UDP C0A83203 0000 0A60000A 13C4 0AF40003 13C4 NONE             50 sip f2a@example\n");
  const std::vector<std::string> lines = Parse(text);
  EXPECT_THAT(lines, ElementsAre("6 192.168.50.2 169.254.112.1:30096 10.244.0.3:8080 10798",
                                 "17 10.244.0.4 10.96.0.10:53 10.244.0.2:8080 99",
                                 "17 10.244.0.5 10.96.0.10:53 10.244.0.2:8080 42",
                                 "6 fd00:10:244::4 fd00:10:96::10:80 fd00:10:244::2:8080 10",
                                 "132 192.168.50.2 10.96.0.10:80 10.244.0.3:9090 0",
                                 "6 192.168.50.2 10.96.0.10:0 10.244.0.3:0 50",
                                 "0 192.168.50.2 0.0.0.42:0 10.244.0.3:0 50",
                                 "17 192.168.50.3 10.96.0.10:5060 10.244.0.3:5060 50"));
  for (const size_t piece : {1, 7, 100})
    EXPECT_EQ(Parse(text, piece), lines) << piece;
}

TEST(IpvsTemplates, OneWhoseTimeIsOverIsLeftOut) {
  EXPECT_THAT(
      Parse(WithHead("TCP C0A83202 0000 0A60000A 0050 0AF40003 1F90 NONE    184467440737095516\n")),
      ElementsAre());
}

TEST(IpvsTemplates, AnEmptyTableHasNone) {
  EXPECT_THAT(Parse(kHead), ElementsAre());
  EXPECT_THAT(Parse(""), ElementsAre());
}

TEST(IpvsTemplates, RefusesWhatItDoesNotUnderstand) {
  for (const char* line : {
           "TCP C0A83202\n", "TCP C0A83202 0 0A60000A 0050 0AF40003 1F90 NONE          10798\n",
           "XYZ C0A83202 0000 0A60000A 0050 0AF40003 1F90 NONE          10798\n",
           "TCP A83202 0000 0A60000A 0050 0AF40003 1F90 NONE          10798\n",
           "TCP C0A83202 0000 0A60000A ZZ50 0AF40003 1F90 NONE          10798\n",
           "TCP C0A83202 0000 0A60000A 0050 0AF40003 1F90 NONE          soon\n",
           "TCP C0A83202 0000 0A60000A 0050 0AF40003 1F90 NONE",  // cut off
       }) {
    EXPECT_THROW(Parse(WithHead(line)), std::runtime_error) << line;
  }
}

}  // namespace
}  // namespace pointsman::agent::netlink

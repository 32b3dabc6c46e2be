#include "node-agent/netlink/ipvs_templates.h"

#include <fmt/format.h>
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
      // Linux 6.1
      "TCP 0AFA0002 CBF5 C6336408 0050 0AF4000F 1F90 TIME_WAIT       119\n"
      "TCP 0AFA0006 0000 C6336408 0050 0AF4000D 1F90 ASSURED       10799\n"
      "UDP 0AFA0007 90D0 0A60000A 0050 0AF4000B 1F90 UDP             299\n"
      "UDP 0AF40004 0000 0A60000A 0050 0AF4000F 1F90 ASSURED       10799\n"
      "TCP fd00:0250:0000:0000:0000:0000:0000:0004 0000 2001:0db8:0000:0000:0000:0000:0000:0008 "
      "0050 fd00:0010:0244:0000:0000:0000:0000:0014 1F90 ASSURED       10799\n"
      "UDP fd00:0050:0000:0000:0000:0000:0000:0002 0000 fd70:6f69:6e74:736d:0000:0000:0000:0001 "
      "7580 fd00:0010:0244:0000:0000:0000:0000:0015 1F90 ASSURED       10799\n"
      // As ip_vs_conn_seq_show has them: not assured yet; before Linux 4.19; port 21; by packet
      // mark; of a persistence engine.
      "SCTP C0A83202 0000 0A60000A 0050 0AF40003 2382 NONE              0\n"
      "UDP 0AF40005 0000 0A60000A 0035 0AF40002 1F90 UDP              42\n"
      "TCP C0A83202 0000 0A60000A 0000 0AF40003 0000 NONE             50\n"
      "IP  C0A83202 0000 0000002A 0000 0AF40003 0000 NONE             50\n"
      "UDP C0A83203 0000 0A60000A 13C4 0AF40003 13C4 NONE             50 sip f2a@example\n");
  const std::vector<std::string> lines = Parse(text);
  EXPECT_THAT(lines, ElementsAre("6 10.250.0.6 198.51.100.8:80 10.244.0.13:8080 10799",
                                 "17 10.244.0.4 10.96.0.10:80 10.244.0.15:8080 10799",
                                 "6 fd00:250::4 2001:db8::8:80 fd00:10:244::14:8080 10799",
                                 "17 fd00:50::2 fd70:6f69:6e74:736d::1:30080 "
                                 "fd00:10:244::15:8080 10799",
                                 "132 192.168.50.2 10.96.0.10:80 10.244.0.3:9090 0",
                                 "17 10.244.0.5 10.96.0.10:53 10.244.0.2:8080 42",
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

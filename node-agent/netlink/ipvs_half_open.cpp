#include "node-agent/netlink/ipvs_half_open.h"

#include <array>

namespace pointsman::agent::netlink {

void IpvsHalfOpenParser::Line(std::string_view line) {
  std::string_view rest = line;
  const std::string_view protocol = Word(rest);
  if (protocol != "TCP") return;          // of no other protocol IPVS counts such ones as active
  std::array<std::string_view, 7> words;  // both ends of three, and the state
  for (std::string_view& word : words)
    word = Word(rest);
  const std::string_view state = words.back();
  if (state.empty()) RefuseConnectionLine(line);
  if (state != "SYN_RECV" && state != "SYN_SENT" && state != "SYNACK") return;
  net::IpAddress address;
  uint16_t port = 0;
  if (!ParseIpvsAddress(words[2], address) || !ParseNumber(words[3], 16, port))
    RefuseConnectionLine(line);
  each_(address, port);
}

void IpvsHalfOpenParser::Add(std::string_view text) {
  lines_.Add(text, [this](std::string_view line) { Line(line); });
}

void IpvsHalfOpenParser::End() {
  if (!lines_.partial().empty()) RefuseConnectionLine(lines_.partial());
}

bool ReadIpvsHalfOpen(std::chrono::steady_clock::time_point deadline,
                      const EachIpvsHalfOpen& each) {
  IpvsHalfOpenParser parser(each);
  return ReadIpvsConnections(deadline, parser);
}

}  // namespace pointsman::agent::netlink

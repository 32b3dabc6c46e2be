#include "node-agent/netlink/ipvs_table.h"

#include <linux/ip_vs.h>
#include <stdexcept>

namespace pointsman::agent::netlink {
namespace {

constexpr std::string_view kArrow = "  -> ";

[[noreturn]] void RefuseServiceLine(std::string_view line) {
  throw std::runtime_error("/proc/net/ip_vs: not understood: " + std::string(line));
}

// "0A600001:0050", "[fd00:0000:0000:0000:0000:0000:0000:0001]:0050"
bool ParsePlace(std::string_view text, net::IpAddress& address, uint16_t& port) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || !ParseNumber(text.substr(colon + 1), 16, port))
    return false;
  text = text.substr(0, colon);
  if (text.starts_with('[') && text.ends_with(']')) text = text.substr(1, text.size() - 2);
  return ParseIpvsAddress(text, address);
}

// ip_vs_fwd_name in ip_vs_ctl.c.
uint32_t Forwarding(std::string_view name) {
  if (name == "Local") return IP_VS_CONN_F_LOCALNODE;
  if (name == "Tunnel") return IP_VS_CONN_F_TUNNEL;
  if (name == "Route") return IP_VS_CONN_F_DROUTE;
  return IP_VS_CONN_F_MASQ;
}

}  // namespace

void IpvsTableParser::Flush() {
  if (open_) each_(server_, destinations_);
  open_ = false;
  destinations_.clear();
}

void IpvsTableParser::Line(std::string_view line) {
  if (line.starts_with(kArrow)) {
    std::string_view rest = line.substr(kArrow.size());
    const std::string_view place = Word(rest);
    if (!open_ && place == "RemoteAddress:Port") return;  // the head
    IpvsDestination d;
    const std::string_view forwarding = Word(rest);
    if (!open_ || !ParsePlace(place, d.address, d.port) || !ParseNumber(Word(rest), 10, d.weight) ||
        !ParseNumber(Word(rest), 10, d.active) || !ParseNumber(Word(rest), 10, d.inactive))
      RefuseServiceLine(line);
    d.forwarding = Forwarding(forwarding);
    destinations_.push_back(d);
    return;
  }
  if (line.starts_with("IP Virtual Server version ") || line.starts_with("Prot LocalAddress"))
    return;  // the head
  Flush();
  std::string_view rest = line;
  const std::string_view protocol = Word(rest);
  const std::string_view place = Word(rest);
  server_ = IpvsServer();
  const bool understood = protocol == "FWM" ? ParseNumber(place, 16, server_.fwmark)
                                            : ParseIpvsProtocol(protocol, server_.protocol) &&
                                                  ParsePlace(place, server_.address, server_.port);
  if (!understood) RefuseServiceLine(line);
  server_.scheduler = Word(rest);
  open_ = true;
}

void IpvsTableParser::Add(std::string_view text) {
  lines_.Add(text, [this](std::string_view line) { Line(line); });
}

void IpvsTableParser::End() {
  if (!lines_.partial().empty()) RefuseServiceLine(lines_.partial());
  Flush();
}

void ReadIpvsTable(const EachIpvsServer& each) {
  IpvsTableParser parser(each);
  // Not /proc/net, which is the main thread's namespace.
  ReadPieces("/proc/thread-self/net/ip_vs", [&](std::string_view text) {
    parser.Add(text);
    return true;
  });
  parser.End();
}

}  // namespace pointsman::agent::netlink

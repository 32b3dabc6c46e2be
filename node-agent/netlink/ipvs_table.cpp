#include "node-agent/netlink/ipvs_table.h"

#include <cerrno>
#include <charconv>
#include <linux/ip_vs.h>
#include <netinet/in.h>
#include <system_error>

#include <fcntl.h>
#include <unistd.h>

namespace pointsman::agent::netlink {
namespace {

constexpr std::string_view kArrow = "  -> ";

[[noreturn]] void Refuse(std::string_view line) {
  throw std::runtime_error("/proc/net/ip_vs: not understood: " + std::string(line));
}

// The next word, without the blanks around it.
std::string_view Word(std::string_view& rest) {
  const size_t begin = std::min(rest.find_first_not_of(' '), rest.size());
  const size_t end = std::min(rest.find(' ', begin), rest.size());
  const std::string_view word = rest.substr(begin, end - begin);
  rest.remove_prefix(end);
  return word;
}

template <typename Number>
bool ParseNumber(std::string_view text, int base, Number& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  return error == std::errc() && end == text.data() + text.size();
}

// "0A600001:0050", "[fd00:0000:0000:0000:0000:0000:0000:0001]:0050"
bool ParsePlace(std::string_view text, net::IpAddress& address, uint16_t& port) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || !ParseNumber(text.substr(colon + 1), 16, port))
    return false;
  text = text.substr(0, colon);
  if (text.starts_with('[') && text.ends_with(']')) {
    const auto parsed = net::IpAddress::Parse(text.substr(1, text.size() - 2));
    if (parsed) address = *parsed;
    return parsed.has_value();
  }
  uint32_t number = 0;
  if (text.size() != 8 || !ParseNumber(text, 16, number)) return false;
  address = net::IpAddress::V4(number);
  return true;
}

// ip_vs_proto_name in ip_vs_core.c.
bool ParseProtocol(std::string_view name, uint8_t& protocol) {
  if (name == "TCP")
    protocol = IPPROTO_TCP;
  else if (name == "UDP")
    protocol = IPPROTO_UDP;
  else if (name == "SCTP")
    protocol = IPPROTO_SCTP;
  else if (name == "IP")
    protocol = IPPROTO_IP;
  else if (name == "ICMP")
    protocol = IPPROTO_ICMP;
  else if (name == "ICMPv6")
    protocol = IPPROTO_ICMPV6;
  else
    return name.starts_with("IP_") && ParseNumber(name.substr(3), 10, protocol);
  return true;
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
      Refuse(line);
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
                                            : ParseProtocol(protocol, server_.protocol) &&
                                                  ParsePlace(place, server_.address, server_.port);
  if (!understood) Refuse(line);
  server_.scheduler = Word(rest);
  open_ = true;
}

void IpvsTableParser::Add(std::string_view text) {
  size_t end = 0;
  while ((end = text.find('\n')) != std::string_view::npos) {
    if (partial_.empty()) {
      Line(text.substr(0, end));
    } else {
      partial_ += text.substr(0, end);
      Line(partial_);
      partial_.clear();
    }
    text.remove_prefix(end + 1);
  }
  partial_ += text;
}

void IpvsTableParser::End() {
  if (!partial_.empty()) Refuse(partial_);
  Flush();
}

void ReadIpvsTable(const EachIpvsServer& each) {
  // Not /proc/net, which is the main thread's namespace.
  constexpr const char* kPath = "/proc/thread-self/net/ip_vs";
  const int fd = open(kPath, O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw std::system_error(errno, std::generic_category(), kPath);
  struct Close {
    int fd;
    ~Close() { close(fd); }
  } const closer{fd};
  IpvsTableParser parser(each);
  std::array<char, size_t{64} << 10> buffer;
  while (true) {
    const ssize_t size = read(fd, buffer.data(), buffer.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) throw std::system_error(errno, std::generic_category(), kPath);
    if (size == 0) break;
    parser.Add({buffer.data(), static_cast<size_t>(size)});
  }
  parser.End();
}

}  // namespace pointsman::agent::netlink

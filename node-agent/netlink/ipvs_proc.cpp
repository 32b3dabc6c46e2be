#include "node-agent/netlink/ipvs_proc.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <netinet/in.h>
#include <stdexcept>
#include <system_error>

#include <fcntl.h>
#include <unistd.h>

#include "base/unique_fd.h"

namespace pointsman::agent::netlink {

void Lines::Add(std::string_view text, const Each& each) {
  size_t end = 0;
  while ((end = text.find('\n')) != std::string_view::npos) {
    if (partial_.empty()) {
      each(text.substr(0, end));
    } else {
      partial_ += text.substr(0, end);
      each(partial_);
      partial_.clear();
    }
    text.remove_prefix(end + 1);
  }
  partial_ += text;
}

void ReadPieces(const char* path, const std::function<bool(std::string_view text)>& take) {
  const UniqueFd fd(open(path, O_RDONLY | O_CLOEXEC));
  if (!fd) throw std::system_error(errno, std::generic_category(), path);
  std::array<char, size_t{64} << 10> buffer;
  while (true) {
    const ssize_t size = read(fd.get(), buffer.data(), buffer.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) throw std::system_error(errno, std::generic_category(), path);
    if (size == 0 || !take({buffer.data(), static_cast<size_t>(size)})) return;
  }
}

void RefuseConnectionLine(std::string_view line) {
  throw std::runtime_error("/proc/net/ip_vs_conn: not understood: " + std::string(line));
}

std::string_view Word(std::string_view& rest) {
  const size_t begin = std::min(rest.find_first_not_of(' '), rest.size());
  const size_t end = std::min(rest.find(' ', begin), rest.size());
  const std::string_view word = rest.substr(begin, end - begin);
  rest.remove_prefix(end);
  return word;
}

bool ParseIpvsAddress(std::string_view text, net::IpAddress& address) {
  uint32_t number = 0;
  if (text.size() == 8 && ParseNumber(text, 16, number)) {
    address = net::IpAddress::V4(number);
    return true;
  }
  const auto parsed = net::IpAddress::Parse(text);
  if (!parsed || parsed->is_v4()) return false;
  address = *parsed;
  return true;
}

bool ParseIpvsProtocol(std::string_view name, uint8_t& protocol) {
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

}  // namespace pointsman::agent::netlink

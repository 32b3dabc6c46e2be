// What the files of IPVS in /proc/net have in common: read in pieces, taken line by line.
#pragma once

#include <charconv>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <system_error>

#include "kube/net/ip_address.h"

namespace pointsman::agent::netlink {

// Pieces of text in, whole lines out, without their line ends. Not thread-safe.
class Lines {
 public:
  using Each = std::function<void(std::string_view line)>;
  void Add(std::string_view text, const Each& each);
  // The line that has not ended yet.
  const std::string& partial() const { return partial_; }

 private:
  std::string partial_;
};

// Reads `path` to its end, or until `take` returns false. Throws std::system_error, and what `take`
// throws.
void ReadPieces(const char* path, const std::function<bool(std::string_view text)>& take);

// The next word, without the blanks around it.
std::string_view Word(std::string_view& rest);

template <typename Number>
bool ParseNumber(std::string_view text, int base, Number& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  return error == std::errc() && end == text.data() + text.size();
}

// "0A600001", "fd00:0000:0000:0000:0000:0000:0000:0001"
bool ParseIpvsAddress(std::string_view text, net::IpAddress& address);
// ip_vs_proto_name in net/netfilter/ipvs/ip_vs_core.c.
bool ParseIpvsProtocol(std::string_view name, uint8_t& protocol);

}  // namespace pointsman::agent::netlink

// What the files of IPVS in /proc/net have in common: read in pieces, taken line by line.
#pragma once

#include <charconv>
#include <chrono>
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

// Of /proc/net/ip_vs_conn. Throws std::runtime_error with the line.
[[noreturn]] void RefuseConnectionLine(std::string_view line);

// Has `parser` take that file of the calling thread's network namespace (Add, and End), until all
// is read (true) or `deadline` is over (false). The limit is needed: before Linux 6.17 the kernel
// walks its table from the start for each 4 KiB of the file, so that twice the connections take
// four times as long. One may be skipped or come twice when connections come or go meanwhile.
template <typename Parser>
bool ReadIpvsConnections(std::chrono::steady_clock::time_point deadline, Parser& parser) {
  bool in_time = true;
  // Not /proc/net, which is the main thread's namespace.
  ReadPieces("/proc/thread-self/net/ip_vs_conn", [&](std::string_view text) {
    parser.Add(text);
    in_time = std::chrono::steady_clock::now() < deadline;
    return in_time;
  });
  if (in_time) parser.End();
  return in_time;
}

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

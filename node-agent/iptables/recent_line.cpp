#include "node-agent/iptables/recent_line.h"

#include <algorithm>
#include <charconv>
#include <type_traits>

namespace pointsman::agent {

std::optional<RecentClient> ParseRecentLine(std::string_view line) {
  constexpr std::string_view kSource = "src=";
  constexpr std::string_view kLastSeen = " last_seen: ";
  if (!line.starts_with(kSource)) return std::nullopt;
  const std::optional<net::IpAddress> ip =
      net::IpAddress::Parse(line.substr(kSource.size(), line.find(' ') - kSource.size()));
  const size_t at = line.find(kLastSeen);
  if (!ip || at == std::string_view::npos) return std::nullopt;
  const std::string_view number = line.substr(at + kLastSeen.size());
  RecentClient client{.ip = *ip};
  if (std::from_chars(number.data(), number.data() + number.size(), client.last_seen).ec !=
      std::errc()) {
    return std::nullopt;
  }
  return client;
}

int64_t JiffiesLeft(Jiffies last_seen, Jiffies now, int64_t timeout) {
  const auto age = static_cast<std::make_signed_t<Jiffies>>(now - last_seen);
  return std::min(timeout, timeout + 1 - age);
}

}  // namespace pointsman::agent

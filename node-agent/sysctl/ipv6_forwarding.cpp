#include "node-agent/sysctl/ipv6_forwarding.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <linux/ipv6_route.h>
#include <linux/route.h>

#include <fmt/format.h>

namespace pointsman::agent {
namespace {

constexpr std::string_view kAnyDestination = "00000000000000000000000000000000";

// Its columns: destination, its length, source, its length, next hop, metric, references, uses,
// flags, interface; all but the last in hexadecimal digits.
constexpr size_t kColumns = 10;

std::array<std::string_view, kColumns> Columns(std::string_view line) {
  std::array<std::string_view, kColumns> columns;
  for (std::string_view& column : columns) {
    line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
    column = line.substr(0, line.find(' '));
    line.remove_prefix(column.size());
  }
  return columns;
}

}  // namespace

std::vector<std::string> InterfacesWithAdvertisedRoutes(std::string_view ipv6_route) {
  std::vector<std::string> interfaces;
  while (!ipv6_route.empty()) {
    const std::string_view line = ipv6_route.substr(0, ipv6_route.find('\n'));
    ipv6_route.remove_prefix(std::min(line.size() + 1, ipv6_route.size()));
    const auto columns = Columns(line);
    const std::string_view digits = columns[8];
    uint32_t flags = 0;
    const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), flags, 16);
    if (columns[0] != kAnyDestination || columns[1] != "00" || columns[9].empty() ||
        parsed.ec != std::errc() || (flags & RTF_ADDRCONF) == 0 || (flags & RTF_DEFAULT) == 0) {
      continue;
    }
    if (std::find(interfaces.begin(), interfaces.end(), columns[9]) == interfaces.end())
      interfaces.emplace_back(columns[9]);
  }
  return interfaces;
}

std::vector<SysctlResult> EnableIpv6Forwarding() {
  std::vector<SysctlResult> results;
  if (ReadSysctl(kIpv6Forwarding) != "1") {
    std::ifstream routes("/proc/net/ipv6_route");
    const std::string text{std::istreambuf_iterator<char>(routes), {}};
    for (std::string interface : InterfacesWithAdvertisedRoutes(text)) {
      std::replace(interface.begin(), interface.end(), '.', '/');  // as sysctl(8) spells it
      const std::string name = fmt::format("net.ipv6.conf.{}.accept_ra", interface);
      if (ReadSysctl(name) != "1") continue;
      SysctlResult kept = WriteSysctl(name, "2");
      if (!kept.ok()) {
        results.push_back(
            {.name = std::string(kIpv6Forwarding),
             .error = fmt::format("sysctl {} stays off: it would delete the default route that a "
                                  "router advertised on {}, and this could not be prevented: {}",
                                  kIpv6Forwarding, interface, kept.error)});
        return results;
      }
      results.push_back(std::move(kept));
    }
  }
  results.push_back(WriteSysctl(kIpv6Forwarding, "1"));
  return results;
}

}  // namespace pointsman::agent

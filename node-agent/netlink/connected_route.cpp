#include "node-agent/netlink/connected_route.h"

#include <algorithm>
#include <cerrno>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <system_error>

namespace pointsman::agent::netlink {

std::vector<net::IpPrefix> ConnectedPrefixes(Socket& socket, net::Family family) {
  std::vector<net::IpPrefix> prefixes;
  const uint8_t af = family == net::Family::kIPv4 ? AF_INET : AF_INET6;
  Message request(RTM_GETROUTE, 0, sizeof(rtmsg));
  request.header<rtmsg>()->rtm_family = af;
  // With strict checking the kernel filters by these; without it, it ignores them.
  request.header<rtmsg>()->rtm_table = RT_TABLE_MAIN;
  request.header<rtmsg>()->rtm_type = RTN_UNICAST;
  const int error = socket.Dump(
      request, [&] { prefixes.clear(); },
      [&](const nlmsghdr* header) {
        if (header->nlmsg_type != RTM_NEWROUTE) return;
        const auto* route = static_cast<const rtmsg*>(mnl_nlmsg_get_payload(header));
        if (route->rtm_family != af || route->rtm_table != RT_TABLE_MAIN ||
            route->rtm_type != RTN_UNICAST || (route->rtm_flags & RTM_F_CLONED) != 0)
          return;
        const nlattr* destination = nullptr;
        bool connected = true;
        for (const nlattr* attribute : Attributes(header, sizeof(rtmsg))) {
          switch (mnl_attr_get_type(attribute)) {
            case RTA_DST:
              destination = attribute;
              break;
            case RTA_GATEWAY:
            case RTA_VIA:
            case RTA_MULTIPATH:
              connected = false;
              break;
            default:
              break;
          }
        }
        if (destination != nullptr && connected)
          prefixes.emplace_back(AttributeAddress(destination), route->rtm_dst_len);
      });
  // The kernel answers so when the family has no such table.
  if (error != 0 && error != ENOENT)
    throw std::system_error(error, std::generic_category(), "list connected routes");
  std::sort(prefixes.begin(), prefixes.end());
  prefixes.erase(std::unique(prefixes.begin(), prefixes.end()), prefixes.end());
  return prefixes;
}

}  // namespace pointsman::agent::netlink

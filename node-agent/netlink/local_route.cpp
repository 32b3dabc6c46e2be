#include "node-agent/netlink/local_route.h"

#include <cerrno>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <system_error>

namespace pointsman::agent::netlink {
namespace {

uint8_t HostLength(net::Family family) {
  return family == net::Family::kIPv4 ? 32 : 128;
}

size_t Append(Batch& batch, uint16_t type, uint16_t flags, const net::IpPrefix& prefix,
              int interface_index, const net::IpAddress* source = nullptr) {
  const net::IpAddress& address = prefix.address();
  Message request(type, flags, sizeof(rtmsg));
  auto* header = request.header<rtmsg>();
  header->rtm_family = address.is_v4() ? AF_INET : AF_INET6;
  header->rtm_dst_len = prefix.length();
  header->rtm_table = RT_TABLE_LOCAL;
  header->rtm_protocol = kRouteProtocol;
  header->rtm_scope = RT_SCOPE_HOST;
  header->rtm_type = RTN_LOCAL;
  request.PutAddress(RTA_DST, address);
  request.PutU32(RTA_OIF, static_cast<uint32_t>(interface_index));
  if (source != nullptr) request.PutAddress(RTA_PREFSRC, *source);
  return batch.Add(request);
}

// All of ours through that interface; 0: through any.
std::vector<net::IpPrefix> List(Socket& socket, net::Family family, int interface_index) {
  std::vector<net::IpPrefix> prefixes;
  const uint8_t af = family == net::Family::kIPv4 ? AF_INET : AF_INET6;
  Message request(RTM_GETROUTE, 0, sizeof(rtmsg));
  request.header<rtmsg>()->rtm_family = af;
  // With strict checking the kernel filters by these; without it, it ignores them.
  request.header<rtmsg>()->rtm_table = RT_TABLE_LOCAL;
  request.header<rtmsg>()->rtm_protocol = kRouteProtocol;
  request.header<rtmsg>()->rtm_type = RTN_LOCAL;
  const int error = socket.Dump(
      request, [&] { prefixes.clear(); },
      [&](const nlmsghdr* header) {
        if (header->nlmsg_type != RTM_NEWROUTE) return;
        const auto* route = static_cast<const rtmsg*>(mnl_nlmsg_get_payload(header));
        if (route->rtm_family != af || route->rtm_table != RT_TABLE_LOCAL ||
            route->rtm_type != RTN_LOCAL || route->rtm_protocol != kRouteProtocol)
          return;
        const nlattr* destination = nullptr;
        int output = 0;
        for (const nlattr* attribute : Attributes(header, sizeof(rtmsg))) {
          if (mnl_attr_get_type(attribute) == RTA_DST) destination = attribute;
          if (mnl_attr_get_type(attribute) == RTA_OIF)
            output = static_cast<int>(mnl_attr_get_u32(attribute));
        }
        if (destination != nullptr && (interface_index == 0 || output == interface_index))
          prefixes.emplace_back(AttributeAddress(destination), route->rtm_dst_len);
      });
  // The kernel answers so when table local does not exist yet in this family.
  if (error != 0 && error != ENOENT)
    throw std::system_error(error, std::generic_category(), "list local routes");
  return prefixes;
}

}  // namespace

size_t AddLocalRoute(Batch& batch, const net::IpAddress& address, int interface_index) {
  return AddLocalRoute(batch, net::IpPrefix(address, HostLength(address.family())),
                       interface_index);
}

size_t DeleteLocalRoute(Batch& batch, const net::IpAddress& address, int interface_index) {
  return DeleteLocalRoute(batch, net::IpPrefix(address, HostLength(address.family())),
                          interface_index);
}

size_t SetLocalRouteSource(Batch& batch, const net::IpAddress& address, int interface_index,
                           const net::IpAddress& source) {
  return Append(batch, RTM_NEWROUTE, NLM_F_REPLACE,
                net::IpPrefix(address, HostLength(address.family())), interface_index, &source);
}

size_t AddLocalRoute(Batch& batch, const net::IpPrefix& prefix, int interface_index) {
  // Without NLM_F_EXCL it comes before one that leads to another interface, instead of being
  // refused for it (net/ipv4/fib_trie.c, fib_table_insert); before, so that a later change meets
  // ours.
  return Append(batch, RTM_NEWROUTE, NLM_F_CREATE, prefix, interface_index);
}

size_t DeleteLocalRoute(Batch& batch, const net::IpPrefix& prefix, int interface_index) {
  return Append(batch, RTM_DELROUTE, 0, prefix, interface_index);
}

std::vector<net::IpAddress> LocalRoutes(Socket& socket, net::Family family, int interface_index) {
  std::vector<net::IpAddress> addresses;
  for (const net::IpPrefix& prefix : List(socket, family, interface_index)) {
    if (prefix.length() == HostLength(family)) addresses.push_back(prefix.address());
  }
  return addresses;
}

std::vector<net::IpPrefix> LocalPrefixes(Socket& socket, net::Family family, int interface_index) {
  std::vector<net::IpPrefix> prefixes = List(socket, family, interface_index);
  std::erase_if(prefixes,
                [&](const net::IpPrefix& prefix) { return prefix.length() == HostLength(family); });
  return prefixes;
}

}  // namespace pointsman::agent::netlink

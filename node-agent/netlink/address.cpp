#include "node-agent/netlink/address.h"

#include <array>
#include <cerrno>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>
#include <system_error>

namespace pointsman::agent::netlink {

std::vector<InterfaceAddress> InterfaceAddresses(Socket& socket) {
  std::vector<InterfaceAddress> addresses;
  Message request(RTM_GETADDR, 0, sizeof(ifaddrmsg));
  const int error = socket.Dump(
      request, [&] { addresses.clear(); },
      [&](const nlmsghdr* header) {
        if (header->nlmsg_type != RTM_NEWADDR) return;
        const auto* info = static_cast<const ifaddrmsg*>(mnl_nlmsg_get_payload(header));
        if (info->ifa_family != AF_INET && info->ifa_family != AF_INET6) return;
        InterfaceAddress entry;
        entry.prefix_length = info->ifa_prefixlen;
        entry.interface_index = static_cast<int>(info->ifa_index);
        entry.scope = info->ifa_scope;
        bool local_seen = false;
        bool any = false;
        for (const nlattr* attribute : Attributes(header, sizeof(ifaddrmsg))) {
          switch (mnl_attr_get_type(attribute)) {
            case IFA_LOCAL:  // on a point-to-point link IFA_ADDRESS is the peer's
              entry.address = AttributeAddress(attribute);
              local_seen = any = true;
              break;
            case IFA_ADDRESS:
              if (!local_seen) entry.address = AttributeAddress(attribute);
              any = true;
              break;
            default:
              break;
          }
        }
        if (!any) return;
        addresses.push_back(std::move(entry));
      });
  if (error != 0)
    throw std::system_error(error, std::generic_category(), "list interface addresses");

  int named = 0;
  std::array<char, IF_NAMESIZE> name{};
  for (InterfaceAddress& entry : addresses) {
    if (entry.interface_index != named) {
      // An interface that is gone by now keeps an empty name.
      if (if_indextoname(static_cast<unsigned>(entry.interface_index), name.data()) == nullptr)
        name[0] = '\0';
      named = entry.interface_index;
    }
    entry.interface_name = name.data();
  }
  return addresses;
}

size_t DeleteAddress(Batch& batch, const InterfaceAddress& entry) {
  Message request(RTM_DELADDR, 0, sizeof(ifaddrmsg));
  auto* header = request.header<ifaddrmsg>();
  header->ifa_family = entry.address.is_v4() ? AF_INET : AF_INET6;
  header->ifa_prefixlen = entry.prefix_length;
  header->ifa_index = static_cast<unsigned>(entry.interface_index);
  request.PutAddress(IFA_LOCAL, entry.address);
  return batch.Add(request);
}

AddressMonitor::AddressMonitor() : socket_(NETLINK_ROUTE) {
  socket_.Join(RTNLGRP_IPV4_IFADDR);
  socket_.Join(RTNLGRP_IPV6_IFADDR);
}

bool AddressMonitor::Drain() {
  bool changed = false;
  std::array<char, 8192> buffer{};
  while (true) {
    const ssize_t size = recv(fd(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (size >= 0) {
      changed = true;
      continue;
    }
    if (errno == EINTR) continue;
    if (errno == EAGAIN) return changed;
    if (errno == ENOBUFS) {
      changed = true;
      continue;
    }
    throw std::system_error(errno, std::generic_category(), "read address changes");
  }
}

}  // namespace pointsman::agent::netlink

#include "node-agent/netlink/link.h"

#include <cerrno>
#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <system_error>

#include <fmt/format.h>
#include <spdlog/fmt/fmt.h>

namespace pointsman::agent::netlink {
namespace {

void Check(int error, const std::string& what) {
  if (error != 0) throw std::system_error(error, std::generic_category(), what);
}

Link ParseLink(const nlmsghdr* header) {
  const auto* info = static_cast<const ifinfomsg*>(mnl_nlmsg_get_payload(header));
  Link link;
  link.index = info->ifi_index;
  link.up = (info->ifi_flags & IFF_UP) != 0;
  link.arp = (info->ifi_flags & IFF_NOARP) == 0;
  link.loopback = (info->ifi_flags & IFF_LOOPBACK) != 0;
  for (const nlattr* attribute : Attributes(header, sizeof(ifinfomsg))) {
    switch (mnl_attr_get_type(attribute)) {
      case IFLA_IFNAME:
        link.name = mnl_attr_get_str(attribute);
        break;
      case IFLA_IFALIAS:
        link.alias = mnl_attr_get_str(attribute);
        break;
      case IFLA_MTU:
        link.mtu = mnl_attr_get_u32(attribute);
        break;
      case IFLA_LINKINFO: {
        for (const nlattr* nested : Attributes(attribute)) {
          if (mnl_attr_get_type(nested) == IFLA_INFO_KIND) link.kind = mnl_attr_get_str(nested);
        }
        break;
      }
      default:
        break;
    }
  }
  return link;
}

}  // namespace

std::vector<Link> Links(Socket& socket) {
  std::vector<Link> links;
  Message request(RTM_GETLINK, 0, sizeof(ifinfomsg));
  Check(socket.Dump(
            request, [&] { links.clear(); },
            [&](const nlmsghdr* header) {
              if (header->nlmsg_type == RTM_NEWLINK) links.push_back(ParseLink(header));
            }),
        "list interfaces");
  return links;
}

std::optional<Link> FindLink(Socket& socket, const std::string& name) {
  std::optional<Link> link;
  Message request(RTM_GETLINK, 0, sizeof(ifinfomsg));
  request.PutString(IFLA_IFNAME, name);
  const int error = socket.Get(request, [&](const nlmsghdr* header) {
    if (header->nlmsg_type == RTM_NEWLINK) link = ParseLink(header);
  });
  if (error == ENODEV) return std::nullopt;
  Check(error, "look up interface " + name);
  return link;
}

void CreateDummy(Socket& socket, const std::string& name, uint32_t mtu, bool up) {
  Message request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof(ifinfomsg));
  request.header<ifinfomsg>()->ifi_flags = up ? IFF_UP : 0;
  request.header<ifinfomsg>()->ifi_change = IFF_UP;
  request.PutString(IFLA_IFNAME, name);
  if (mtu != 0) request.PutU32(IFLA_MTU, mtu);
  nlattr* nest = request.BeginNested(IFLA_LINKINFO);
  request.PutString(IFLA_INFO_KIND, "dummy");
  request.EndNested(nest);
  Check(socket.Execute(request), "create dummy interface " + name);
}

void SetLinkUp(Socket& socket, const std::string& name) {
  Message request(RTM_NEWLINK, 0, sizeof(ifinfomsg));
  request.header<ifinfomsg>()->ifi_flags = IFF_UP;
  request.header<ifinfomsg>()->ifi_change = IFF_UP;
  request.PutString(IFLA_IFNAME, name);
  Check(socket.Execute(request), "set interface " + name + " up");
}

void SetLinkAlias(Socket& socket, int index, const std::string& alias) {
  Message request(RTM_SETLINK, 0, sizeof(ifinfomsg));
  request.header<ifinfomsg>()->ifi_index = index;
  // Without a terminating 0: an attribute of length 0 takes it away (net/core/dev.c,
  // dev_set_alias).
  request.Put(IFLA_IFALIAS, alias.data(), alias.size());
  Check(socket.Execute(request), fmt::format("set alias {} of interface {}", alias, index));
}

void RenameLink(Socket& socket, int index, const std::string& name) {
  Message request(RTM_SETLINK, 0, sizeof(ifinfomsg));
  request.header<ifinfomsg>()->ifi_index = index;
  request.PutString(IFLA_IFNAME, name);
  Check(socket.Execute(request), fmt::format("rename interface {} to {}", index, name));
}

bool DeleteLink(Socket& socket, int index) {
  Message request(RTM_DELLINK, 0, sizeof(ifinfomsg));
  request.header<ifinfomsg>()->ifi_index = index;
  const int error = socket.Execute(request);
  if (error == ENODEV) return false;
  Check(error, fmt::format("delete interface {}", index));
  return true;
}

bool DeleteLink(Socket& socket, const std::string& name) {
  Message request(RTM_DELLINK, 0, sizeof(ifinfomsg));
  request.PutString(IFLA_IFNAME, name);
  const int error = socket.Execute(request);
  if (error == ENODEV) return false;
  Check(error, "delete interface " + name);
  return true;
}

}  // namespace pointsman::agent::netlink

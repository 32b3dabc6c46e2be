#include "node-agent/neighbours/marker_link.h"

#include <algorithm>
#include <cerrno>
#include <linux/rtnetlink.h>
#include <optional>
#include <system_error>
#include <vector>

#include <spdlog/spdlog.h>

#include "node-agent/netlink/address.h"
#include "node-agent/netlink/link.h"

namespace pointsman::agent {
namespace {

// Beside those that the kernel gives every interface that is up.
bool HasAddresses(netlink::Socket& socket, int index) {
  const auto addresses = netlink::InterfaceAddresses(socket);
  return std::any_of(addresses.begin(), addresses.end(), [index](const auto& each) {
    return each.interface_index == index && each.scope != RT_SCOPE_LINK;
  });
}

}  // namespace

bool MarkerLink::Present() const {
  netlink::Socket socket(NETLINK_ROUTE);
  return netlink::FindLink(socket, name_).has_value();
}

void MarkerLink::Make() {
  netlink::Socket socket(NETLINK_ROUTE);
  if (netlink::FindLink(socket, name_)) return;
  netlink::DeleteLink(socket, made_as_);
  netlink::CreateDummy(socket, made_as_, 0, /*up=*/false);
  const std::optional<netlink::Link> made = netlink::FindLink(socket, made_as_);
  if (!made) {
    throw std::system_error(ENODEV, std::generic_category(),
                            "interface " + made_as_ + " vanished at once");
  }
  try {
    netlink::SetLinkAlias(socket, made->index, kAlias);
    netlink::RenameLink(socket, made->index, name_);
  } catch (const std::system_error& error) {
    netlink::DeleteLink(socket, made->index);
    if (error.code() != std::errc::file_exists) throw;
    return;  // somebody else made one meanwhile
  }
  spdlog::info("made interface {}, which tells others on this node of ipvs mode", name_);
}

void MarkerLink::Remove() {
  netlink::Socket socket(NETLINK_ROUTE);
  netlink::DeleteLink(socket, made_as_);
  const std::optional<netlink::Link> link = netlink::FindLink(socket, name_);
  if (!link || link->alias != kAlias) return;
  if (HasAddresses(socket, link->index)) {
    netlink::SetLinkAlias(socket, link->index, "");
    spdlog::info("interface {} has addresses of somebody else's: it is left to them", name_);
    return;
  }
  netlink::DeleteLink(socket, link->index);
  spdlog::info("removed interface {}", name_);
}

}  // namespace pointsman::agent

#include "node-agent/kube_proxy/virtual_servers.h"

#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <map>
#include <set>
#include <system_error>
#include <unordered_set>
#include <utility>

#include <fmt/format.h>
#include <unistd.h>

#include "node-agent/kube_proxy/names.h"
#include "node-agent/neighbours/marker_link.h"
#include "node-agent/netlink/address.h"
#include "node-agent/netlink/conntrack.h"
#include "node-agent/netlink/ipvs_table.h"
#include "node-agent/netlink/link.h"
#include "node-agent/netlink/local_route.h"
#include "node-agent/netlink/source.h"

namespace pointsman::agent::kube_proxy {
namespace {

using netlink::IpvsServer;
using Place = std::pair<net::IpAddress, uint16_t>;

constexpr int kProtocols[]{IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP};

// nullopt: there is none, or it is Pointsman's.
std::optional<netlink::Link> TheirLink(netlink::Socket& route) {
  std::optional<netlink::Link> link = netlink::FindLink(route, kLink);
  if (link && link->alias == MarkerLink::kAlias) link.reset();
  return link;
}

class Addresses {
 public:
  Addresses() {
    netlink::Socket route(NETLINK_ROUTE);
    const std::optional<netlink::Link> link = TheirLink(route);
    for (const netlink::InterfaceAddress& entry : netlink::InterfaceAddresses(route)) {
      const bool bound = link && entry.interface_index == link->index;
      (bound ? bound_ : nodes_).insert(entry.address);
    }
    netlink::Ipset ipset;
    for (const int protocol : kProtocols) {
      const std::string name(NodePortSet(protocol));
      std::string ipv6 = name;
      ipv6.replace(0, std::string_view("KUBE-").size(), "KUBE-6-");
      for (const std::string& set : {name, ipv6}) {
        std::vector<netlink::SetElement> elements;
        const int error = ipset.Elements(set, elements);
        if (error == ENOENT) continue;
        if (error != 0) {
          throw std::system_error(error, std::generic_category(),
                                  "read ipset " + set + ": " + netlink::IpsetErrorText(error));
        }
        for (const netlink::SetElement& element : elements)
          node_ports_.emplace(protocol, element.port);
      }
    }
  }

  bool Has(const IpvsServer& server) const {
    return bound_.contains(server.address) ||
           (nodes_.contains(server.address) &&
            node_ports_.contains({server.protocol, server.port}));
  }

 private:
  std::unordered_set<net::IpAddress> bound_;  // on kube-ipvs0
  std::unordered_set<net::IpAddress> nodes_;
  std::set<std::pair<int, uint16_t>> node_ports_;
};

void ForgetUdp(const std::set<Place>& places) {
  netlink::Conntrack conntrack;
  netlink::Batch batch;
  for (const net::Family family : {net::Family::kIPv4, net::Family::kIPv6}) {
    conntrack.ForEach(family, IPPROTO_UDP, [&](const netlink::ConntrackFlow& flow) {
      if (places.contains({flow.original.destination, flow.original.destination_port}))
        netlink::Conntrack::Delete(batch, flow);
    });
  }
  for (const netlink::Failure& failure : conntrack.Execute(batch)) {
    if (failure.error != ENOENT)
      throw std::system_error(failure.error, std::generic_category(), "delete a flow of UDP");
  }
}

}  // namespace

bool VirtualServers::HasIpvs() const {
  // To ask by netlink would load the module.
  return ::access("/proc/thread-self/net/ip_vs", F_OK) == 0;
}

std::vector<IpvsServer> VirtualServers::Find() {
  std::vector<IpvsServer> found;
  if (!HasIpvs()) return found;
  const Addresses addresses;
  netlink::ReadIpvsTable([&](const IpvsServer& server, std::vector<netlink::IpvsDestination>&) {
    if (server.fwmark == 0 && addresses.Has(server) && !others_(server)) found.push_back(server);
  });
  return found;
}

uint64_t VirtualServers::Open(const std::vector<IpvsServer>& servers) {
  if (servers.empty()) return 0;
  std::set<std::tuple<net::IpAddress, uint16_t, uint8_t>> asked;
  for (const IpvsServer& server : servers)
    asked.emplace(server.address, server.port, server.protocol);
  uint64_t open = 0;
  netlink::ReadIpvsTable(
      [&](const IpvsServer& server, std::vector<netlink::IpvsDestination>& destinations) {
        if (server.fwmark != 0 || !asked.contains({server.address, server.port, server.protocol}))
          return;
        for (const netlink::IpvsDestination& destination : destinations) {
          open += destination.active;
          if (server.protocol == IPPROTO_UDP) open += destination.inactive;
        }
      });
  return open;
}

std::vector<std::string> VirtualServers::Remove(const std::vector<IpvsServer>& servers) {
  std::vector<std::string> failed;
  if (servers.empty()) return failed;
  netlink::Ipvs ipvs;
  netlink::Batch batch;
  std::map<size_t, const IpvsServer*> requests;
  std::set<Place> udp;
  for (const IpvsServer& server : servers) {
    requests.emplace(ipvs.DeleteServer(batch, server), &server);
    if (server.protocol == IPPROTO_UDP) udp.emplace(server.address, server.port);
  }
  for (const netlink::Failure& failure : ipvs.Execute(batch)) {
    if (failure.error == ESRCH || failure.error == ENOENT) continue;
    const IpvsServer& server = *requests.at(failure.index);
    failed.push_back(fmt::format("virtual server {}: {}",
                                 fmt::format("{} port {}", server.address.ToString(), server.port),
                                 std::generic_category().message(failure.error)));
  }
  if (!udp.empty()) ForgetUdp(udp);
  return failed;
}

void KeepAddressesFromBeingSources() {
  netlink::Socket route(NETLINK_ROUTE);
  const std::optional<netlink::Link> link = TheirLink(route);
  if (!link) return;
  const auto source = netlink::UsualSource(route, {link->index});
  if (!source) return;
  // Ours are in front of kube-proxy's, and would be changed instead: in ipvs mode, which needs none
  // of this.
  std::vector<net::IpAddress> ours = netlink::LocalRoutes(route, net::Family::kIPv4, 0);
  std::sort(ours.begin(), ours.end());
  netlink::Batch batch;
  for (const netlink::InterfaceAddress& entry : netlink::InterfaceAddresses(route)) {
    if (entry.interface_index == link->index && entry.address.is_v4() &&
        !std::binary_search(ours.begin(), ours.end(), entry.address))
      netlink::SetLocalRouteSource(batch, entry.address, link->index, *source);
  }
  for (const netlink::Failure& failure : route.Execute(batch))
    throw std::system_error(failure.error, std::generic_category(),
                            "source of kube-ipvs0's routes");
}

size_t DestroyIpsets(std::vector<std::string>& in_use) {
  netlink::Ipset ipset;
  size_t destroyed = 0;
  for (const netlink::SetInfo& set : ipset.List()) {
    if (!IsIpset(set.name)) continue;
    const int error = ipset.Destroy(set.name);
    if (error == 0) ++destroyed;
    if (error != 0 && error != ENOENT)
      in_use.push_back(fmt::format("ipset {}: {}", set.name, netlink::IpsetErrorText(error)));
  }
  return destroyed;
}

bool RemoveLink() {
  netlink::Socket route(NETLINK_ROUTE);
  const std::optional<netlink::Link> link = TheirLink(route);
  return link && netlink::DeleteLink(route, link->index);
}

bool TakeOverLink() {
  netlink::Socket route(NETLINK_ROUTE);
  const std::optional<netlink::Link> link = TheirLink(route);
  if (!link) return false;
  netlink::Batch batch;
  for (const netlink::InterfaceAddress& entry : netlink::InterfaceAddresses(route)) {
    if (entry.interface_index == link->index) netlink::DeleteAddress(batch, entry);
  }
  for (const netlink::Failure& failure : route.Execute(batch)) {
    if (failure.error != EADDRNOTAVAIL)
      throw std::system_error(failure.error, std::generic_category(), "addresses of kube-ipvs0");
  }
  // Last: one that has it is ours, and would be left with what addresses it has.
  netlink::SetLinkAlias(route, link->index, MarkerLink::kAlias);
  return true;
}

bool HasLink() {
  netlink::Socket route(NETLINK_ROUTE);
  return TheirLink(route).has_value();
}

}  // namespace pointsman::agent::kube_proxy

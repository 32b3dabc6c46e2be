#include "node-agent/ipvs/listing.h"

#include <algorithm>
#include <linux/netlink.h>
#include <map>
#include <netinet/in.h>
#include <set>
#include <tuple>

#include "node-agent/ipvs/internal_addresses.h"
#include "node-agent/ipvs/kernel_state.h"

namespace pointsman::agent::ipvs {
namespace {

constexpr const char* kNearNote = "from this node and its pods";

std::string ProtocolWord(uint8_t protocol) {
  switch (protocol) {
    case IPPROTO_TCP:
      return "TCP";
    case IPPROTO_UDP:
      return "UDP";
    case IPPROTO_SCTP:
      return "SCTP";
    default:
      return std::to_string(protocol);
  }
}

// What clients ask for, by the internal address that it is sent to.
struct Asked {
  std::optional<net::IpAddress> address;  // nullopt: a node port
  std::string note;
};
using AskedByInternal = std::map<net::IpAddress, Asked>;

void AddMapped(KernelReader& reader, net::Family family, SetId set,
               net::IpAddress (*internal)(const net::IpAddress&), const char* note,
               AskedByInternal& asked) {
  for (const SetEntry& entry : reader.Elements(set, family))
    asked[internal(entry.element.ip)] = {entry.element.ip, note};
}

AskedByInternal ReadAsked(KernelReader& reader, net::Family family) {
  AskedByInternal asked;
  AddMapped(reader, family, SetId::kMapped, MappedAddress, "", asked);
  AddMapped(reader, family, SetId::kMappedSpare, SpareMappedAddress, "", asked);
  AddMapped(reader, family, SetId::kNear, NearMappedAddress, kNearNote, asked);
  AddMapped(reader, family, SetId::kNearSpare, NearSpareMappedAddress, kNearNote, asked);
  asked[NodePortAddress(family)] = {};
  asked[NearNodePortAddress(family)] = {std::nullopt, kNearNote};
  return asked;
}

ListedService Listed(net::Family family, const std::optional<net::IpAddress>& address,
                     uint16_t port, uint8_t protocol) {
  ListedService listed;
  listed.family = family;
  listed.address = address;
  listed.port = port;
  listed.protocol = ProtocolWord(protocol);
  return listed;
}

void AddServers(const KernelState& state, const std::vector<FrontendKey>& owned,
                const AskedByInternal& asked, net::Family family,
                std::vector<ListedService>& services) {
  for (const FrontendKey& key : owned) {
    const ServerState* const server = state.Server(key);
    if (server == nullptr || key.ip.family() != family) continue;
    const auto place = asked.find(key.ip);
    ListedService listed = Listed(family, place == asked.end() ? key.ip : place->second.address,
                                  key.port, key.protocol);
    if (place != asked.end()) listed.note = place->second.note;
    listed.scheduler = server->server.scheduler;
    for (const netlink::IpvsDestination& destination : server->destinations) {
      ListedBackend backend;
      backend.ip = destination.address;
      backend.port = destination.port;
      backend.weight = destination.weight;
      backend.active = destination.active;
      backend.inactive = destination.inactive;
      listed.backends.push_back(backend);
    }
    services.push_back(std::move(listed));
  }
}

void AddRefused(KernelReader& reader, net::Family family, SetId set, const char* refused,
                bool node_port, std::vector<ListedService>& services) {
  std::set<std::tuple<net::IpAddress, uint16_t, uint8_t>> seen;  // a node port has two elements
  for (const SetEntry& entry : reader.Elements(set, family)) {
    const netlink::SetElement& element = entry.element;
    if (!seen.emplace(node_port ? net::IpAddress() : element.ip, element.port, element.protocol)
             .second)
      continue;
    ListedService listed = Listed(family, node_port ? std::nullopt : std::optional(element.ip),
                                  element.port, element.protocol);
    listed.refused = refused;
    services.push_back(std::move(listed));
  }
}

}  // namespace

std::vector<ListedService> ListServices() {
  std::vector<ListedService> services;
  try {
    netlink::Ipvs ipvs;
    netlink::Ipset ipset;
    netlink::Socket route(NETLINK_ROUTE);
    KernelReader reader(ipvs, ipset, route);
    const std::vector<FrontendKey> owned = reader.Owned();
    const std::vector<net::Family> families{net::Family::kIPv4, net::Family::kIPv6};
    const KernelState state = reader.Read(families, /*device_index=*/0);
    for (const net::Family family : families) {
      AddServers(state, owned, ReadAsked(reader, family), family, services);
      AddRefused(reader, family, SetId::kClosed, "rejected", false, services);
      AddRefused(reader, family, SetId::kDrop, "dropped", false, services);
      AddRefused(reader, family, SetId::kNodePortReject, "rejected", true, services);
      AddRefused(reader, family, SetId::kNodePortDrop, "dropped", true, services);
    }
  } catch (const std::system_error& error) {
    // A kernel without the mechanism has nothing of ours in it.
    if (error.code() != std::errc::no_such_file_or_directory) throw;
  }
  return services;
}

}  // namespace pointsman::agent::ipvs

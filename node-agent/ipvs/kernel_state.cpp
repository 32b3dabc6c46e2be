#include "node-agent/ipvs/kernel_state.h"

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <stdexcept>
#include <system_error>
#include <tuple>
#include <utility>

#include "node-agent/netlink/ipvs_table.h"
#include "node-agent/netlink/local_route.h"

namespace pointsman::agent::ipvs {

using netlink::IpvsDestination;
using netlink::IpvsServer;

bool KernelState::Has(const SetEntry& entry) const {
  return std::binary_search(elements.begin(), elements.end(), entry);
}

const ServerState* KernelState::Server(const FrontendKey& key) const {
  const auto found = servers.find(key);
  return found != servers.end() ? &found->second : nullptr;
}

void SortDestinations(std::vector<IpvsDestination>& destinations) {
  std::sort(destinations.begin(), destinations.end(), [](const auto& a, const auto& b) {
    return std::tie(a.address, a.port) < std::tie(b.address, b.port);
  });
}

std::vector<IpvsDestination> KernelReader::Destinations(const IpvsServer& server) {
  std::vector<IpvsDestination> destinations;
  const int error = ipvs_.Destinations(server, destinations);
  if (error != 0 && error != ESRCH)
    throw std::system_error(error, std::generic_category(), "list IPVS destinations");
  SortDestinations(destinations);
  return destinations;
}

std::vector<SetEntry> KernelReader::Elements(SetId id, net::Family family) {
  const std::string name = SetName(id, family);
  std::vector<netlink::SetElement> elements;
  const int error = ipset_.Elements(name, elements);
  if (error != 0 && error != ENOENT)
    throw std::runtime_error("read ipset " + name + ": " + netlink::IpsetErrorText(error));
  std::vector<SetEntry> entries;
  entries.reserve(elements.size());
  for (const netlink::SetElement& element : elements)
    entries.push_back({id, element});
  std::sort(entries.begin(), entries.end());
  return entries;
}

std::vector<FrontendKey> KernelReader::Owned() {
  std::vector<FrontendKey> owned;
  for (const net::Family family : {net::Family::kIPv4, net::Family::kIPv6}) {
    for (const SetEntry& entry : Elements(SetId::kOwned, family))
      owned.push_back(KeyOf(entry));
  }
  return owned;
}

void KernelReader::ReadServers(KernelState& state) {
  std::unordered_set<FrontendKey, FrontendKeyHash> in_table;
  for (IpvsServer& server : ipvs_.Servers()) {
    if (server.fwmark != 0) continue;
    const FrontendKey key = KeyOf(server);
    state.servers[key].server = std::move(server);
  }
  netlink::ReadIpvsTable([&](const IpvsServer& server, std::vector<IpvsDestination>& destinations) {
    if (server.fwmark != 0) return;
    const FrontendKey key = KeyOf(server);
    const auto found = state.servers.find(key);
    if (found == state.servers.end()) return;  // came meanwhile: not ours, we are the only writer
    in_table.insert(key);
    SortDestinations(destinations);
    found->second.destinations = destinations;
  });
  // What someone else did meanwhile made the file skip these.
  for (auto& [key, server] : state.servers) {
    if (!in_table.contains(key)) server.destinations = Destinations(server.server);
  }
}

KernelState KernelReader::Read(const std::vector<net::Family>& families, int device_index) {
  KernelState state;
  ReadServers(state);
  for (const net::Family family : families) {
    for (const SetId id : kAllSets) {
      const std::vector<SetEntry> entries = Elements(id, family);
      state.elements.insert(state.elements.end(), entries.begin(), entries.end());
    }
    if (device_index == 0) continue;
    for (const net::IpAddress& ip : netlink::LocalRoutes(route_, family, device_index))
      state.vips.insert(ip);
  }
  std::sort(state.elements.begin(), state.elements.end());
  return state;
}

}  // namespace pointsman::agent::ipvs

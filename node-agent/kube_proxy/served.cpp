#include "node-agent/kube_proxy/served.h"

#include <algorithm>
#include <arpa/inet.h>
#include <cstring>
#include <functional>
#include <linux/netfilter.h>
#include <map>
#include <optional>
#include <unordered_set>

#include <unistd.h>

#include "kube/process/kernel_module.h"
#include "node-agent/kube_proxy/names.h"
#include "node-agent/kube_proxy/rules.h"
#include "node-agent/model/ip_protocol.h"
#include "node-agent/neighbours/marker_link.h"
#include "node-agent/netlink/address.h"
#include "node-agent/netlink/ipvs_table.h"
#include "node-agent/netlink/link.h"
#include "node-agent/netlink/nft_list.h"
#include "node-agent/nf_tables/connection.h"
#include "node-agent/nf_tables/kernel_table.h"
#include "node-agent/xtables/iptables_tool.h"
#include "node-agent/xtables/rule_words.h"
#include "node-agent/xtables/save_reader.h"

namespace pointsman::agent::kube_proxy {
namespace {

constexpr std::string_view kServiceIps = "service-ips";

std::optional<uint16_t> ToPort(std::string_view text) {
  const auto port = xtables::ParseRulePort(text);
  return port == uint16_t{0} ? std::nullopt : port;
}

// The words of a rule; one in quotation marks is empty: nothing that is asked for is in one, and
// comments are in them.
std::vector<std::string_view> Words(std::string_view rule) {
  std::vector<std::string_view> words;
  while (!rule.empty()) {
    const xtables::RuleWord word = xtables::NextRuleWord(rule);
    words.push_back(word.quoted ? std::string_view() : word.text);
  }
  return words;
}

std::string_view After(const std::vector<std::string_view>& words, std::string_view option) {
  const auto found = std::find(words.begin(), words.end(), option);
  return found == words.end() || found + 1 == words.end() ? std::string_view() : *(found + 1);
}

std::optional<kube::Protocol> ToProtocol(std::string_view text) {
  if (text == "tcp") return kube::Protocol::kTcp;
  if (text == "udp") return kube::Protocol::kUdp;
  if (text == "sctp") return kube::Protocol::kSctp;
  return std::nullopt;
}

void Sort(Served& served) {
  for (auto& [frontend, endpoints] : served) {
    std::sort(endpoints.begin(), endpoints.end());
    endpoints.erase(std::unique(endpoints.begin(), endpoints.end()), endpoints.end());
  }
}

Served ReadIptables(const std::string& modules_root) {
  Served served;
  for (const RulesPlace& place : FindRules(modules_root, IsTrace)) {
    xtables::IptablesTool tool(place.family, place.variant);
    NatRules rules;
    tool.SaveLines("nat", [&](std::string_view line) { rules.AddLine(line); });
    rules.AddTo(served);
  }
  return served;
}

Served ReadIpvs() {
  Served served;
  // To ask by netlink would load the module.
  if (::access("/proc/thread-self/net/ip_vs", F_OK) != 0) return served;
  netlink::Socket route(NETLINK_ROUTE);
  const auto link = netlink::FindLink(route, kLink);
  if (!link || link->alias == MarkerLink::kAlias) return served;
  // An address that is not on it is routed away before IPVS sees it.
  std::unordered_set<net::IpAddress> bound;
  for (const netlink::InterfaceAddress& entry : netlink::InterfaceAddresses(route)) {
    if (entry.interface_index == link->index) bound.insert(entry.address);
  }
  netlink::ReadIpvsTable([&](const netlink::IpvsServer& server,
                             const std::vector<netlink::IpvsDestination>& destinations) {
    const auto protocol = ServiceProtocol(server.protocol);
    if (server.fwmark != 0 || !protocol || !bound.contains(server.address)) return;
    auto& endpoints = served[{server.address, server.port, *protocol}];
    for (const netlink::IpvsDestination& destination : destinations) {
      if (destination.weight > 0) endpoints.push_back({destination.address, destination.port});
    }
  });
  return served;
}

using EndpointsByService = std::map<std::string, std::vector<net::IpPort>, std::less<>>;

EndpointsByService EndpointsOfNft(net::Family family) {
  EndpointsByService endpoints;
  const uint8_t number = family == net::Family::kIPv4 ? NFPROTO_IPV4 : NFPROTO_IPV6;
  netlink::Socket socket(NETLINK_NETFILTER);
  netlink::ForEachNftChain(
      socket, [&] { endpoints.clear(); },
      [&](const netlink::NftChainHead& chain) {
        if (chain.family != number || chain.table != kNftTable) return;
        const EndpointChain parsed = ParseEndpointChain(chain.name);
        if (parsed.service.empty()) return;
        auto found = endpoints.find(parsed.service);
        if (found == endpoints.end())
          found = endpoints.emplace(parsed.service, std::vector<net::IpPort>()).first;
        found->second.push_back(parsed.endpoint);
      });
  return endpoints;
}

// ipv4_addr . inet_proto . inet_service, each filled up to 32 bits.
std::optional<Frontend> ToFrontend(std::string_view key, net::Family family) {
  const size_t address_size = family == net::Family::kIPv4 ? 4 : 16;
  if (key.size() != address_size + 8) return std::nullopt;
  const auto protocol = ServiceProtocol(static_cast<uint8_t>(key[address_size]));
  if (!protocol) return std::nullopt;
  uint16_t port = 0;
  std::memcpy(&port, key.data() + address_size + 4, sizeof port);
  return Frontend{net::IpAddress::FromBytes(key.data(), address_size), ntohs(port), *protocol};
}

// The map that each Service's chain chooses an endpoint from.
using MapsByChain = std::map<std::string, std::string, std::less<>>;

MapsByChain MapsOfNft(nft::Connection& connection, net::Family family) {
  MapsByChain maps;
  nft::ForEachLookup(
      connection, family, kNftTable, [&] { maps.clear(); },
      [&](const nft::KernelLookup& lookup) {
        if (!ServiceOfChain(lookup.chain).empty() && lookup.set.starts_with("__map"))
          maps.insert_or_assign(std::string(lookup.chain), std::string(lookup.set));
      });
  return maps;
}

// Its values are what connections are translated to: ipv4_addr . inet_service, each filled up to 32
// bits.
std::vector<net::IpPort> EndpointsOfMap(nft::Connection& connection, net::Family family,
                                        std::string_view map) {
  const size_t address_size = family == net::Family::kIPv4 ? 4 : 16;
  std::vector<net::IpPort> endpoints;
  try {
    nft::ReadElements(
        connection, family, kNftTable, map, [&] { endpoints.clear(); },
        [&](const nft::KernelElement& element) {
          if (element.data.size() != address_size + 4) return true;
          uint16_t port = 0;
          std::memcpy(&port, element.data.data() + address_size, sizeof port);
          endpoints.push_back(
              {net::IpAddress::FromBytes(element.data.data(), address_size), ntohs(port)});
          return true;
        });
  } catch (const std::system_error& error) {
    // kube-proxy has written the chain anew meanwhile: the next look finds what it has now.
    if (error.code().value() != ENOENT) throw;
  }
  return endpoints;
}

// An endpoint is a chain of its own, which the Service's chain goes to; since kube-proxy 1.36 only
// with affinity (pkg/proxy/nftables/proxier.go, writeServiceToEndpointDNATs): else it is a value of
// a map in the Service's chain.
void AddNftables(net::Family family, Served& served) {
  nft::Connection connection;
  if (!nft::HasTable(connection, family, kNftTable)) return;
  // One transaction writes both, so a chain that is there is one that the map leads to.
  const EndpointsByService endpoints = EndpointsOfNft(family);
  Served of_family;
  std::vector<std::pair<Frontend, std::string>> without_chains;  // and their own
  nft::ReadElements(
      connection, family, kNftTable, kServiceIps,
      [&] {
        of_family.clear();
        without_chains.clear();
      },
      [&](const nft::KernelElement& element) {
        const auto frontend = ToFrontend(element.key, family);
        const std::string_view service = ServiceOfChain(element.data);
        if (!frontend || service.empty()) return true;
        const auto found = endpoints.find(service);
        if (found == endpoints.end()) without_chains.emplace_back(*frontend, element.data);
        of_family[*frontend] =
            found == endpoints.end() ? std::vector<net::IpPort>() : found->second;
        return true;
      });
  if (!without_chains.empty()) {
    const MapsByChain maps = MapsOfNft(connection, family);
    for (const auto& [frontend, chain] : without_chains) {
      if (const auto map = maps.find(chain); map != maps.end())
        of_family[frontend] = EndpointsOfMap(connection, family, map->second);
    }
  }
  served.merge(of_family);
}

Served ReadNftables(const std::string& modules_root) {
  Served served;
  if (kube::KernelHasModule("nf_tables", modules_root) == false) return served;
  for (const net::Family family : {net::Family::kIPv4, net::Family::kIPv6}) {
    try {
      AddNftables(family, served);
    } catch (const std::system_error& error) {
      // The table without its map: kube-proxy begins.
      if (error.code().value() != ENOENT) throw;
    }
  }
  return served;
}

// Without "PREFIX-HASH-".
std::string_view NameIn(std::string_view chain) {
  constexpr size_t kHash = 8;
  const size_t prefix = chain.find('-');
  if (prefix == chain.npos) return {};
  const std::string_view rest = chain.substr(prefix + 1);
  if (rest.size() <= kHash || rest[kHash] != '-') return {};
  return rest.substr(kHash + 1);
}

}  // namespace

size_t FrontendHash::operator()(const Frontend& frontend) const noexcept {
  return std::hash<net::IpAddress>()(frontend.ip) * 31 +
         (size_t{frontend.port} << 2 | static_cast<size_t>(frontend.protocol));
}

bool IsExpected(const ServicePortEntry& entry, bool ipv6) {
  return !entry.internal.backends.empty() && (ipv6 || entry.id.family == net::Family::kIPv4);
}

bool Has(const Served& served, const ServicePortEntry& entry) {
  const auto found = served.find({entry.cluster_ip, entry.port, entry.id.protocol});
  if (found == served.end()) return false;
  return std::all_of(entry.internal.backends.begin(), entry.internal.backends.end(),
                     [&](const Backend& backend) {
                       return std::binary_search(found->second.begin(), found->second.end(),
                                                 net::IpPort{backend.ip, backend.port});
                     });
}

void NatRules::AddLine(std::string_view line) {
  constexpr std::string_view kEndpoint = "KUBE-SEP-";
  const xtables::SavedLine parsed = xtables::ParseSavedLine(line);
  if (parsed.kind != xtables::SavedLine::Kind::kRule) return;
  const bool portal = parsed.name == "KUBE-SERVICES";
  const bool endpoint = parsed.name.starts_with(kEndpoint);
  if (!portal && !endpoint && !IsChain("nat", parsed.name)) return;
  const std::vector<std::string_view> words = Words(parsed.rule);
  const std::string_view target = After(words, "-j");
  if (portal) {
    std::string_view ip = After(words, "-d");
    ip = ip.substr(0, ip.find('/'));
    const auto address = net::IpAddress::Parse(ip);
    const auto port = ToPort(After(words, "--dport"));
    const auto protocol = ToProtocol(After(words, "-p"));
    if (address && port && protocol && target.starts_with("KUBE-SV"))
      portals_.push_back({{*address, *port, *protocol}, std::string(target)});
  } else if (endpoint) {
    if (const auto to = xtables::ParseDestination(After(words, "--to-destination"));
        to && target == "DNAT")
      endpoints_.emplace(parsed.name, *to);
  } else if (target.starts_with(kEndpoint)) {
    choices_[std::string(parsed.name)].emplace_back(target);
  }
}

void NatRules::AddTo(Served& served) const {
  for (const Portal& portal : portals_) {
    std::vector<net::IpPort>& endpoints = served[portal.frontend];
    const auto choices = choices_.find(portal.chain);
    if (choices == choices_.end()) continue;
    for (const std::string& chain : choices->second) {
      const auto endpoint = endpoints_.find(chain);
      if (endpoint != endpoints_.end()) endpoints.push_back(endpoint->second);
    }
  }
}

std::string_view ServiceOfChain(std::string_view chain) {
  const std::string_view name = NameIn(chain);
  return std::count(name.begin(), name.end(), '/') == 3 ? name : std::string_view();
}

EndpointChain ParseEndpointChain(std::string_view chain) {
  constexpr std::string_view kPrefix = "endpoint-";
  if (!chain.starts_with(kPrefix)) return {};
  const std::string_view name = NameIn(chain);
  const size_t separator = name.rfind("__");
  if (separator == name.npos) return {};
  const std::string_view endpoint = name.substr(separator + 2);
  const size_t slash = endpoint.find('/');
  if (slash == endpoint.npos) return {};
  std::string host(endpoint.substr(0, slash));
  auto ip = net::IpAddress::Parse(host);
  if (!ip) {
    std::replace(host.begin(), host.end(), '.', ':');
    ip = net::IpAddress::Parse(host);
  }
  const auto port = ToPort(endpoint.substr(slash + 1));
  if (!ip || !port) return {};
  return {name.substr(0, separator), {*ip, *port}};
}

Served ReadServed(kube::Mode mode, const std::string& modules_root) {
  Served served;
  switch (mode) {
    case kube::Mode::kIptables:
      served = ReadIptables(modules_root);
      break;
    case kube::Mode::kIpvs:
      served = ReadIpvs();
      break;
    case kube::Mode::kNftables:
      served = ReadNftables(modules_root);
      break;
    case kube::Mode::kUserspace:
      break;
  }
  Sort(served);
  return served;
}

}  // namespace pointsman::agent::kube_proxy

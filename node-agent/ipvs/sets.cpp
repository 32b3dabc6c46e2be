#include "node-agent/ipvs/sets.h"

namespace pointsman::agent::ipvs {
namespace {

const char* BaseName(SetId id) {
  static constexpr const char* kNames[] = {
      "OWNED",    "VIP",     "CLUSTER",   "EXTERNAL", "LOCAL",        "DROP",
      "GUARD",    "SOURCES", "HAIRPIN",   "NEAR",     "UNBOUND",      "NP-EXTERNAL",
      "NP-LOCAL", "NP-NEAR", "NP-REJECT", "NP-DROP",  "NODE-ADDRESS", "HEALTH"};
  static_assert(std::size(kNames) == kAllSets.size());
  return kNames[static_cast<size_t>(id)];
}

}  // namespace

std::string SetName(SetId id, net::Family family) {
  return std::string("PM-IPVS-") + BaseName(id) + (family == net::Family::kIPv4 ? "-4" : "-6");
}

netlink::SetType SetTypeOf(SetId id) {
  switch (id) {
    case SetId::kVip:
    case SetId::kNodeAddress:
      return netlink::SetType::kHashIp;
    case SetId::kNodePortExternal:
    case SetId::kNodePortLocal:
    case SetId::kNodePortNear:
    case SetId::kNodePortReject:
    case SetId::kNodePortDrop:
    case SetId::kHealth:
      return netlink::SetType::kHashNetPort;
    case SetId::kSources:
      return netlink::SetType::kHashIpPortNet;
    case SetId::kHairpin:
      return netlink::SetType::kHashIpPortIp;
    default:
      return netlink::SetType::kHashIpPort;
  }
}

void ForEachOwnElement(const FrontendKey& key, const ServicePortEntry& entry, FrontendSource source,
                       bool unbound, bool node_in_ranges,
                       const std::function<void(const SetEntry&)>& each) {
  SetEntry out;
  out.element.ip = key.ip;
  out.element.protocol = key.protocol;
  out.element.port = key.port;
  auto put = [&](SetId id) {
    out.set = id;
    each(out);
  };
  auto put_port = [&](SetId id) {
    if (!IsNodePort(source)) return;
    for (const SetEntry& half : PortElements(id, key.ip.family(), key.port, key.protocol))
      each(half);
  };
  put(unbound ? SetId::kUnbound : SetId::kOwned);
  if (NearFrontend(entry, source) && !entry.external_from_node.backends.empty()) put(SetId::kNear);
  const BackendChoice& choice = ChoiceOf(entry, source);
  if (source == FrontendSource::kNodePortNear || source == FrontendSource::kExternalNear) {
    if (choice.backends.empty()) return;
    put(SetId::kLocal);
    put_port(SetId::kNodePortNear);
    return;
  }
  if (unbound) {
    if (!entry.external_local) put(SetId::kExternal);
  } else if (choice.backends.empty()) {
    const bool drop = choice.when_empty == BackendChoice::WhenEmpty::kDrop;
    if (drop) put(SetId::kDrop);
    put_port(drop ? SetId::kNodePortDrop : SetId::kNodePortReject);
  } else if (source == FrontendSource::kClusterIp) {
    put(SetId::kCluster);
  } else {
    put(entry.external_local ? SetId::kLocal : SetId::kExternal);
    put_port(entry.external_local ? SetId::kNodePortLocal : SetId::kNodePortExternal);
  }
  if (source != FrontendSource::kLoadBalancer ||
      (entry.source_ranges.empty() && !entry.source_ranges_deny_all))
    return;
  put(SetId::kGuarded);
  for (const net::IpPrefix& range : entry.source_ranges) {
    out.element.ip2 = range.address();
    out.element.prefix_length = range.length();
    if (range.length() != 0) {
      put(SetId::kSources);
      continue;
    }
    // A hash set takes no prefix of length 0: two halves say the same.
    out.element.prefix_length = 1;
    put(SetId::kSources);
    std::array<uint8_t, 16> upper{0x80};
    out.element.ip2 = net::IpAddress::FromBytes(upper.data(), range.address().size());
    put(SetId::kSources);
  }
  if (node_in_ranges) {
    out.element.ip2 = key.ip;
    out.element.prefix_length = key.ip.is_v4() ? 32 : 128;
    put(SetId::kSources);
  }
}

SetEntry VipElement(const net::IpAddress& ip) {
  SetEntry entry;
  entry.set = SetId::kVip;
  entry.element.ip = ip;
  return entry;
}

SetEntry NodeAddressElement(const net::IpAddress& ip) {
  SetEntry entry;
  entry.set = SetId::kNodeAddress;
  entry.element.ip = ip;
  return entry;
}

std::array<SetEntry, 2> PortElements(SetId id, net::Family family, uint16_t port,
                                     uint8_t protocol) {
  const size_t size = family == net::Family::kIPv4 ? 4 : 16;
  std::array<SetEntry, 2> halves;
  for (SetEntry& half : halves) {
    std::array<uint8_t, 16> first{};
    if (&half == &halves[1]) first[0] = 0x80;
    half.set = id;
    half.element.ip = net::IpAddress::FromBytes(first.data(), size);
    half.element.prefix_length = 1;
    half.element.port = port;
    half.element.protocol = protocol;
  }
  return halves;
}

SetEntry HairpinElement(const net::IpAddress& ip, uint16_t port, uint8_t protocol) {
  SetEntry entry;
  entry.set = SetId::kHairpin;
  entry.element.ip = ip;
  entry.element.port = port;
  entry.element.protocol = protocol;
  entry.element.ip2 = ip;
  return entry;
}

}  // namespace pointsman::agent::ipvs

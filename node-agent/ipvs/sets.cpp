#include "node-agent/ipvs/sets.h"

#include "node-agent/ipvs/internal_addresses.h"

namespace pointsman::agent::ipvs {
namespace {

const char* BaseName(SetId id) {
  static constexpr const char* kNames[] = {
      "OWNED",   "VIP",          "CLUSTER",      "INTERNAL", "CLOSED",  "DROP",
      "HAIRPIN", "MAPPED",       "MAPPED-SPARE", "MARKED",   "NEAR",    "NEAR-SPARE",
      "GUARD",   "SOURCES",      "NP-EXTERNAL",  "NP-LOCAL", "NP-NEAR", "NP-REJECT",
      "NP-DROP", "NODE-ADDRESS", "HEALTH"};
  static_assert(std::size(kNames) == kAllSets.size());
  return kNames[static_cast<size_t>(id)];
}

}  // namespace

size_t SetEntryHash::operator()(const SetEntry& entry) const noexcept {
  const netlink::SetElement& element = entry.element;
  return FrontendKeyHash()(KeyOf(entry)) * 31 + std::hash<net::IpAddress>()(element.ip2) * 7 +
         (static_cast<size_t>(entry.set) << 8 | element.prefix_length);
}

FrontendKey KeyOf(const SetEntry& entry) {
  return {entry.element.ip, entry.element.port, entry.element.protocol};
}

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

void ForEachOwnElement(const FrontendClaim& frontend, const ServicePortEntry& entry,
                       const std::function<void(const SetEntry&)>& each) {
  const FrontendKey& key = frontend.key;
  const FrontendSource source = frontend.source;
  const net::IpAddress& address = frontend.address;
  SetEntry out;
  out.element.protocol = key.protocol;
  out.element.port = key.port;
  auto put = [&](SetId id, const net::IpAddress& ip) {
    out.set = id;
    out.element.ip = ip;
    each(out);
  };
  auto put_port = [&](SetId id) {
    if (!IsNodePort(source)) return;
    for (const SetEntry& half : PortElements(id, key.ip.family(), key.port, key.protocol))
      each(half);
  };

  put(SetId::kOwned, key.ip);
  const BackendChoice& choice = ChoiceOf(entry, source);
  const bool open = !choice.backends.empty();
  if (IsNear(source)) {
    if (!open) return;
    put(SetId::kInternal, key.ip);
    put_port(SetId::kNodePortNear);
    if (!IsNodePort(source))
      put(key.ip == NearMappedAddress(address) ? SetId::kNear : SetId::kNearSpare, address);
    return;
  }
  const bool drop = !open && choice.when_empty == BackendChoice::WhenEmpty::kDrop;
  if (source == FrontendSource::kClusterIp) {
    put(open ? SetId::kCluster : SetId::kClosed, key.ip);
    if (open && entry.internal_masquerade == Masquerade::kAlways) put(SetId::kMarked, key.ip);
  } else if (open) {
    put(SetId::kInternal, key.ip);
  }
  if (drop) put(SetId::kDrop, key.ip);
  if (IsNodePort(source)) {
    if (open)
      put_port(entry.ExternalMasquerade() == Masquerade::kAlways ? SetId::kNodePortExternal
                                                                 : SetId::kNodePortLocal);
    else
      put_port(drop ? SetId::kNodePortDrop : SetId::kNodePortReject);
  }
  if (!IsExternalAddress(source)) return;

  // Those without endpoints too: the virtual server that is not there has them refused.
  put(key.ip == MappedAddress(address) ? SetId::kMapped : SetId::kMappedSpare, address);
  if (entry.ExternalMasquerade() == Masquerade::kAlways) put(SetId::kMarked, address);
  if (source != FrontendSource::kLoadBalancer || !entry.HasSourceRanges() ||
      !entry.HasExternalBackends())
    return;
  put(SetId::kGuarded, address);
  auto allow = [&](const net::IpAddress& ip, uint8_t length) {
    out.element.ip2 = ip;
    out.element.prefix_length = length;
    put(SetId::kSources, address);
  };
  for (const net::IpPrefix& range : entry.source_ranges) {
    if (range.length() != 0) {
      allow(range.address(), range.length());
      continue;
    }
    // A hash set takes no prefix of length 0: two halves say the same.
    allow(range.address(), 1);
    std::array<uint8_t, 16> upper{0x80};
    allow(net::IpAddress::FromBytes(upper.data(), range.address().size()), 1);
  }
  if (entry.node_in_source_ranges) allow(address, address.is_v4() ? 32 : 128);
}

SetEntry OwnedElement(const FrontendKey& key) {
  SetEntry entry;
  entry.set = SetId::kOwned;
  entry.element.ip = key.ip;
  entry.element.protocol = key.protocol;
  entry.element.port = key.port;
  return entry;
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

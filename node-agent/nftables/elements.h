// One Service port as elements of our maps: pure functions.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "node-agent/model/service_model.h"
#include "node-agent/nftables/layout.h"

namespace pointsman::agent::nft {

// Small and without allocations: there is one for each endpoint of the cluster.
struct Element {
  SetId set{};
  std::array<uint8_t, 32> key{};
  // The value in a map; the end of the interval in `source-ranges`.
  std::array<uint8_t, 24> data{};
  const ServicePortEntry* entry = nullptr;  // whose it is; not compared

  RawElement Raw(const SetDefinition& definition) const;
};

inline bool SameKey(const Element& a, const Element& b) {
  return a.set == b.set && a.key == b.key;
}
inline bool operator==(const Element& a, const Element& b) {
  return SameKey(a, b) && a.data == b.data;
}
// The seconds that clients stay bound; 0: they are not.
uint32_t AffinitySeconds(const ServicePortEntry& entry);

// By set, then key.
inline bool operator<(const Element& a, const Element& b) {
  return a.set != b.set ? a.set < b.set : a.key < b.key;
}

// Is `old` an interval of a Service that has intervals in `desired` too (sorted)? Then it goes
// before those come, in one transaction: the kernel refuses an interval that lies in another one
// (net/netfilter/nft_set_pipapo.c, nft_pipapo_insert), as narrower source ranges lie in wider ones.
bool MakesRoom(const Element& old, std::span<const Element> desired);

// "default/web:http/TCP/IPv4", "the node"
std::string OwnerOf(const Element& element);

// Appends the elements of `entry`, in no order.
void AppendElements(const ServicePortEntry& entry, std::vector<Element>& to);
// Those that belong to the node.
void AppendNodeElements(net::Family family, const NodeNetwork& node, std::vector<Element>& to);

// One that belongs to no single Service port (shared_elements.h).
struct SharedElement {
  SetId set{};
  net::IpAddress ip;
  kube::Protocol protocol = kube::Protocol::kTcp;  // only in `reply-sources`
  uint16_t port = 0;                               // only in `reply-sources`
  bool operator==(const SharedElement&) const = default;
};
Element ToElement(const SharedElement& shared);

// The key in `services` of an address and port; without the address, that in `node-ports`.
// `protocol`: IPPROTO_…
std::string FrontendKey(const net::IpAddress& ip, uint8_t protocol, uint16_t port);

// The class that the value of an element of `services`, `node-ports` or `from-node` names; false:
// elements of that set name none.
bool ClassOf(const Element& element, TrafficClass& traffic_class);
// A class as a key of `classes`.
std::array<uint8_t, 8> ClassKey(const TrafficClass& traffic_class);
inline std::string_view View(const std::array<uint8_t, 8>& key) {
  return {reinterpret_cast<const char*>(key.data()), key.size()};
}
TrafficClass ClassFromKey(std::span<const uint8_t> key);

}  // namespace pointsman::agent::nft

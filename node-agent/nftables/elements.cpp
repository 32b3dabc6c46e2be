#include "node-agent/nftables/elements.h"

#include <algorithm>
#include <arpa/inet.h>
#include <cstring>

#include "node-agent/model/ip_protocol.h"
#include "node-agent/model/service_hash.h"

namespace pointsman::agent::nft {
namespace {

// Policy and number of backends share a word.
constexpr uint32_t kBackendBits = 24;
constexpr uint32_t kMostBackends = (1U << kBackendBits) - 1;

// Parts of a concatenation, each padded to whole registers.
class Parts {
 public:
  explicit Parts(std::span<uint8_t> to) : to_(to) {}
  Parts& Number(uint32_t value) { return Bytes(&value, sizeof value); }  // as numgen and meta do
  Parts& Address(const net::IpAddress& ip) { return Bytes(ip.data(), ip.size()); }
  Parts& Port(uint16_t port) {
    const uint16_t big = htons(port);
    return Bytes(&big, sizeof big);
  }
  Parts& Protocol(kube::Protocol protocol) { return Protocol(IpProtocol(protocol)); }
  Parts& Protocol(uint8_t number) { return Bytes(&number, 1); }
  Parts& Owner(uint64_t owner) {
    return Number(static_cast<uint32_t>(owner >> 32)).Number(static_cast<uint32_t>(owner));
  }
  Parts& Policy(const TrafficClass& c) { return Number(c.policy << kBackendBits | c.backends); }
  Parts& Class(const TrafficClass& c) { return Policy(c).Number(c.affinity); }
  // A value of `services`, `node-ports` and `from-node`. See FindService for the first word.
  Parts& Route(uint64_t owner, const TrafficClass& c) { return Number(0).Owner(owner).Class(c); }

 private:
  Parts& Bytes(const void* data, size_t size) {
    std::memcpy(to_.data() + at_, data, size);
    at_ += (size + 3) / 4 * 4;
    return *this;
  }
  std::span<uint8_t> to_;
  size_t at_ = 0;
};

// The kinds of traffic to one Service port that may have backends of their own.
enum class Kind : uint64_t { kInternal, kExternal, kFromNode };

uint32_t PolicyOf(Masquerade masquerade) {
  switch (masquerade) {
    case Masquerade::kNever:
      break;
    case Masquerade::kOffCluster:
      return TrafficClass::kMasqueradeOffCluster;
    case Masquerade::kAlways:
      return TrafficClass::kMasquerade;
  }
  return 0;
}

class Renderer {
 public:
  Renderer(const ServicePortEntry& entry, std::vector<Element>& to)
      : entry_(entry), to_(to), hash_(ServiceHash(entry.id)) {}

  void Render() {
    Backends(Kind::kInternal, entry_.internal);
    const TrafficClass internal = Choice(entry_.internal_masquerade, entry_.internal);
    Service(entry_.cluster_ip, Owner(Kind::kInternal), internal);
    if (entry_.node_port == 0 && entry_.external_ips.empty() && entry_.load_balancer_ips.empty()) {
      return;
    }
    // Traffic with the same backends shares them, and with them the clients' affinity.
    const Kind external =
        entry_.external.backends == entry_.internal.backends ? Kind::kInternal : Kind::kExternal;
    if (external == Kind::kExternal) Backends(external, entry_.external);
    const bool shortcut = entry_.external_local && !entry_.external_from_node.backends.empty();
    const Kind here = shortcut ? FromNodeKind(external) : external;
    TrafficClass outside = Choice(entry_.ExternalMasquerade(), entry_.external);
    if (shortcut) outside.policy |= TrafficClass::kShortcut;
    // Each way in has a class of its own, and so has what it leads to for this node and its pods.
    const auto way_in = [&](const TrafficClass& way) {
      if (shortcut) FromNode(external, way, here);
    };
    for (const net::IpAddress& ip : entry_.external_ips)
      Service(ip, Owner(external), outside);
    if (entry_.node_port != 0) {
      TrafficClass by_port = outside;
      by_port.policy |= TrafficClass::kByNodePort;
      Element& element = Add(SetId::kNodePorts);
      Parts(element.key).Protocol(entry_.id.protocol).Port(entry_.node_port);
      Parts(element.data).Route(Owner(external), by_port);
      if ((by_port.policy & TrafficClass::kReject) != 0) {
        Parts(Add(SetId::kRefusedPorts).key).Protocol(entry_.id.protocol).Port(entry_.node_port);
      }
      way_in(by_port);
    }
    TrafficClass balanced = outside;
    // Without any backend everyone is refused, as by kube-proxy.
    if (!entry_.load_balancer_ips.empty() && entry_.HasSourceRanges() &&
        entry_.HasExternalBackends()) {
      balanced.policy |= TrafficClass::kSourceRanges;
      SourceRanges(Owner(external));
    }
    for (const net::IpAddress& ip : entry_.load_balancer_ips)
      Service(ip, Owner(external), balanced);
    if (!entry_.external_ips.empty()) way_in(outside);
    if (!entry_.load_balancer_ips.empty() && (entry_.external_ips.empty() || balanced != outside))
      way_in(balanced);
  }

 private:
  // 60 bits of hash and 4 of kind.
  uint64_t Owner(Kind kind) const { return hash_ << 4 | static_cast<uint64_t>(kind); }

  Element& Add(SetId set) {
    Element& element = to_.emplace_back();
    element.set = set;
    element.entry = &entry_;
    return element;
  }

  TrafficClass Choice(Masquerade masquerade, const BackendChoice& choice) const {
    if (choice.backends.empty()) {
      return {.policy = choice.when_empty == BackendChoice::WhenEmpty::kDrop
                            ? TrafficClass::kDrop
                            : TrafficClass::kReject};
    }
    return {
        .policy = PolicyOf(masquerade),
        .backends = static_cast<uint32_t>(std::min<size_t>(choice.backends.size(), kMostBackends)),
        .affinity = AffinitySeconds(entry_)};
  }

  void Service(const net::IpAddress& ip, uint64_t owner, const TrafficClass& traffic_class) {
    Element& element = Add(SetId::kServices);
    Parts(element.key).Address(ip).Protocol(entry_.id.protocol).Port(entry_.port);
    Parts(element.data).Route(owner, traffic_class);
    if ((traffic_class.policy & TrafficClass::kReject) == 0) return;
    Parts(Add(SetId::kRefused).key).Address(ip).Protocol(entry_.id.protocol).Port(entry_.port);
  }

  Kind FromNodeKind(Kind external) {
    if (entry_.external_from_node.backends == entry_.internal.backends) return Kind::kInternal;
    if (entry_.external_from_node.backends == entry_.external.backends) return external;
    Backends(Kind::kFromNode, entry_.external_from_node);
    return Kind::kFromNode;
  }

  void FromNode(Kind external, const TrafficClass& way, Kind here) {
    TrafficClass local = Choice(Masquerade::kNever, entry_.external_from_node);
    local.policy |= TrafficClass::kByFromNode | (way.policy & TrafficClass::kByNodePort);
    Element& element = Add(SetId::kFromNode);
    Parts(element.key).Owner(Owner(external)).Policy(way);
    Parts(element.data).Route(Owner(here), local);
  }

  void Backends(Kind kind, const BackendChoice& choice) {
    uint32_t number = 0;
    for (const Backend& backend : choice.backends) {
      Element& element = Add(SetId::kEndpoints);
      Parts(element.key).Owner(Owner(kind)).Number(number++);
      Parts(element.data).Address(backend.ip).Port(backend.port);
      if (entry_.affinity_timeout.count() > 0) {
        Parts(Add(SetId::kAffinityEndpoints).key)
            .Owner(Owner(kind))
            .Address(backend.ip)
            .Port(backend.port);
      }
    }
  }

  void SourceRanges(uint64_t owner) {
    const auto range = [&](const net::IpAddress& first, const net::IpAddress& last) {
      Element& element = Add(SetId::kSourceRanges);
      Parts(element.key).Owner(owner).Address(first);
      Parts(element.data).Owner(owner).Address(last);
    };
    for (const net::IpPrefix& prefix : entry_.source_ranges) {
      uint8_t last[16] = {};
      std::copy_n(prefix.address().data(), prefix.address().size(), last);
      for (size_t bit = prefix.length(); bit < prefix.address().size() * 8; ++bit)
        last[bit / 8] |= static_cast<uint8_t>(0x80U >> bit % 8);
      range(prefix.address(), net::IpAddress::FromBytes(last, prefix.address().size()));
    }
    if (!entry_.node_in_source_ranges) return;
    for (const net::IpAddress& ip : entry_.load_balancer_ips) {
      const bool covered =
          std::any_of(entry_.source_ranges.begin(), entry_.source_ranges.end(),
                      [&](const net::IpPrefix& prefix) { return prefix.Contains(ip); });
      if (!covered) range(ip, ip);
    }
  }

  const ServicePortEntry& entry_;
  std::vector<Element>& to_;
  const uint64_t hash_;
};

}  // namespace

RawElement Element::Raw(const SetDefinition& definition) const {
  const size_t data_size = definition.fields.empty() ? definition.data_size : definition.key_size;
  return {{reinterpret_cast<const char*>(key.data()), definition.key_size},
          {reinterpret_cast<const char*>(data.data()), data_size}};
}

uint32_t AffinitySeconds(const ServicePortEntry& entry) {
  return static_cast<uint32_t>(
      std::clamp<int64_t>(entry.affinity_timeout.count(), 0, UINT32_MAX / 1000));
}

void AppendElements(const ServicePortEntry& entry, std::vector<Element>& to) {
  Renderer(entry, to).Render();
}

void AppendNodeElements(net::Family family, const NodeNetwork& node, std::vector<Element>& to) {
  if (node.every_address) return;
  for (const net::IpAddress& ip : node.node_port_addresses) {
    if (ip.family() != family || ip.IsLoopback()) continue;
    Element& element = to.emplace_back();
    element.set = SetId::kNodeAddresses;
    Parts(element.key).Address(ip);
  }
}

Element ToElement(const SharedElement& shared) {
  Element element;
  element.set = shared.set;
  Parts key(element.key);
  key.Address(shared.ip);
  if (shared.set == SetId::kHairpin) key.Address(shared.ip);
  if (shared.set == SetId::kReplySources) key.Protocol(shared.protocol).Port(shared.port);
  return element;
}

bool MakesRoom(const Element& old, std::span<const Element> desired) {
  if (old.set != SetId::kSourceRanges) return false;
  constexpr size_t kOwnerSize = 8;  // at the beginning of the key
  Element first = old;
  std::fill(first.key.begin() + kOwnerSize, first.key.end(), 0);
  const auto at = std::lower_bound(desired.begin(), desired.end(), first);
  return at != desired.end() && at->set == old.set &&
         std::equal(first.key.begin(), first.key.begin() + kOwnerSize, at->key.begin());
}

std::string OwnerOf(const Element& element) {
  return element.entry == nullptr ? std::string("the node") : element.entry->id.ToString();
}

std::string FrontendKey(const net::IpAddress& ip, uint8_t protocol, uint16_t port) {
  std::array<uint8_t, 24> key{};
  Parts(key).Address(ip).Protocol(protocol).Port(port);
  return {reinterpret_cast<const char*>(key.data()), ip.size() + 8};
}

bool ClassOf(const Element& element, TrafficClass& traffic_class) {
  if (element.set != SetId::kServices && element.set != SetId::kNodePorts &&
      element.set != SetId::kFromNode) {
    return false;
  }
  traffic_class = ClassFromKey(std::span(element.data).subspan(12, 8));
  return true;
}

std::array<uint8_t, 8> ClassKey(const TrafficClass& traffic_class) {
  std::array<uint8_t, 8> key{};
  Parts(key).Class(traffic_class);
  return key;
}

TrafficClass ClassFromKey(std::span<const uint8_t> key) {
  uint32_t policy = 0;
  TrafficClass traffic_class;
  std::memcpy(&policy, key.data(), 4);
  std::memcpy(&traffic_class.affinity, key.data() + 4, 4);
  traffic_class.policy = policy >> kBackendBits;
  traffic_class.backends = policy & kMostBackends;
  return traffic_class;
}

}  // namespace pointsman::agent::nft

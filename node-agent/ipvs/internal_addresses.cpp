#include "node-agent/ipvs/internal_addresses.h"

#include <cstring>

namespace pointsman::agent::ipvs {
namespace {

// 112 is also the number of our routes (netlink::kRouteProtocol); the IPv6 prefix is a unique local
// one whose letters are "points m".
struct Addresses {
  net::IpAddress v4;
  net::IpAddress v6;
  explicit Addresses(const char* last)
      : v4(net::IpAddress::Parse(std::string("169.254.112.") + last).value()),
        v6(net::IpAddress::Parse(std::string("fd70:6f69:6e74:736d::") + last).value()) {}
  const net::IpAddress& Of(net::Family family) const {
    return family == net::Family::kIPv4 ? v4 : v6;
  }
};

// 240.0.0.0/4 is reserved (RFC 1112): in use nowhere, and unlike 127.0.0.0/8 no martian.
constexpr uint32_t kV4Base = 0xf0800000;  // 240.128.0.0
constexpr int kV4Bits = 22;
constexpr int kRangeBits = 20;

uint64_t Mix(uint64_t value) {
  value *= 0x9e3779b97f4a7c15ULL;
  return value ^ (value >> 32);
}

// Different for addresses that differ in the low bits alone, whatever is above.
net::IpAddress Derived(const net::IpAddress& cluster_ip, bool near) {
  if (cluster_ip.is_v4()) {
    constexpr uint32_t kMask = (1U << kV4Bits) - 1;
    const uint32_t ip = cluster_ip.v4_host_order();
    const uint32_t low = (ip ^ static_cast<uint32_t>(Mix(ip >> kRangeBits))) & kMask;
    return net::IpAddress::V4(kV4Base | (near ? 1U << kV4Bits : 0) | low);
  }
  std::array<uint8_t, 16> bytes{0xfd, 0x70, 0x6f, 0x69, 0x6e, 0x74, 0x73};
  bytes[7] = near ? 0x6f : 0x6e;
  uint64_t network = 0;
  uint64_t host = 0;
  std::memcpy(&network, cluster_ip.data(), sizeof(network));
  std::memcpy(&host, cluster_ip.data() + sizeof(network), sizeof(host));
  host ^= Mix(network);
  std::memcpy(bytes.data() + sizeof(network), &host, sizeof(host));
  return net::IpAddress::FromBytes(bytes.data(), bytes.size());
}

}  // namespace

const net::IpAddress& NodePortAddress(net::Family family) {
  static const Addresses addresses("1");
  return addresses.Of(family);
}

const net::IpAddress& NearNodePortAddress(net::Family family) {
  static const Addresses addresses("2");
  return addresses.Of(family);
}

net::IpAddress ExternalAddress(const net::IpAddress& cluster_ip) {
  return Derived(cluster_ip, false);
}

net::IpAddress NearExternalAddress(const net::IpAddress& cluster_ip) {
  return Derived(cluster_ip, true);
}

std::array<net::IpPrefix, 3> InternalPrefixes(net::Family family) {
  const bool v4 = family == net::Family::kIPv4;
  const uint8_t host = v4 ? 32 : 128;
  return {net::IpPrefix(NodePortAddress(family), host),
          net::IpPrefix(NearNodePortAddress(family), host),
          net::IpPrefix::Parse(v4 ? "240.128.0.0/9" : "fd70:6f69:6e74:736e::/63").value()};
}

}  // namespace pointsman::agent::ipvs

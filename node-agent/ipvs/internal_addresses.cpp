#include "node-agent/ipvs/internal_addresses.h"

#include <algorithm>
#include <array>
#include <string>

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

struct Prefixes {
  net::IpPrefix v4;
  net::IpPrefix v6;
  Prefixes(const char* v4_text, const char* v6_text)
      : v4(net::IpPrefix::Parse(v4_text).value()), v6(net::IpPrefix::Parse(v6_text).value()) {}
  const net::IpPrefix& Of(net::Family family) const {
    return family == net::Family::kIPv4 ? v4 : v6;
  }
};

net::IpAddress Map(const net::IpAddress& external, const net::IpPrefix& prefix) {
  const size_t size = external.size();
  std::array<uint8_t, 16> bytes{};
  std::copy_n(external.data(), size, bytes.begin());
  const size_t whole = prefix.length() / 8;
  std::copy_n(prefix.address().data(), whole, bytes.begin());
  if (const unsigned rest = prefix.length() % 8; rest != 0) {
    const auto kept = static_cast<uint8_t>(0xff >> rest);
    bytes[whole] = static_cast<uint8_t>(prefix.address().data()[whole] | (bytes[whole] & kept));
  }
  return net::IpAddress::FromBytes(bytes.data(), size);
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

// 240.0.0.0/4 is reserved (RFC 1112): in use in few networks, and unlike 127.0.0.0/8 no martian.
// Userspace mode has addresses in 240.0.0.0/6.
const net::IpPrefix& MapPrefix(net::Family family) {
  static const Prefixes prefixes("244.0.0.0/6", "fd70:6f6d::/32");
  return prefixes.Of(family);
}

const net::IpPrefix& NearMapPrefix(net::Family family) {
  static const Prefixes prefixes("248.0.0.0/6", "fd70:6f6e::/32");
  return prefixes.Of(family);
}

const net::IpPrefix& SpareMapPrefix(net::Family family) {
  static const Prefixes prefixes("252.0.0.0/8", "fd70:6f70::/32");
  return prefixes.Of(family);
}

const net::IpPrefix& NearSpareMapPrefix(net::Family family) {
  static const Prefixes prefixes("253.0.0.0/8", "fd70:6f71::/32");
  return prefixes.Of(family);
}

net::IpAddress MappedAddress(const net::IpAddress& external) {
  return Map(external, MapPrefix(external.family()));
}

net::IpAddress NearMappedAddress(const net::IpAddress& external) {
  return Map(external, NearMapPrefix(external.family()));
}

net::IpAddress SpareMappedAddress(const net::IpAddress& external) {
  return Map(external, SpareMapPrefix(external.family()));
}

net::IpAddress NearSpareMappedAddress(const net::IpAddress& external) {
  return Map(external, NearSpareMapPrefix(external.family()));
}

}  // namespace pointsman::agent::ipvs

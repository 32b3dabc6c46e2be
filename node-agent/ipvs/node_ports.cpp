#include "node-agent/ipvs/node_ports.h"

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

}  // namespace

const net::IpAddress& NodePortAddress(net::Family family) {
  static const Addresses addresses("1");
  return addresses.Of(family);
}

const net::IpAddress& NearNodePortAddress(net::Family family) {
  static const Addresses addresses("2");
  return addresses.Of(family);
}

}  // namespace pointsman::agent::ipvs

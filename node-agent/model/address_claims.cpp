#include "node-agent/model/address_claims.h"

namespace pointsman::agent {

size_t ServiceAddressHash::operator()(const ServiceAddress& address) const noexcept {
  const size_t port =
      static_cast<size_t>(address.port) << 2 | static_cast<size_t>(address.protocol);
  return std::hash<net::IpAddress>()(address.ip) ^ (port * 0x9e3779b97f4a7c15);
}

}  // namespace pointsman::agent

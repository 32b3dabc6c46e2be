#include "node-agent/userspace/forwarder/address_plan.h"

#include <cstring>
#include <netinet/in.h>

namespace pointsman::forwarder {

net::IpPrefix SlotPrefix(net::Family family) {
  if (family == net::Family::kIPv4) return {net::IpAddress::V4(0xf0700000), 32 - kSlotBits};
  constexpr uint8_t kBase[16] = {0xfd, 0x70, 0x6f, 0x69, 0x6e, 0x74, 0x73, 0x6d};
  return {net::IpAddress::FromBytes(kBase, sizeof kBase), 128 - kSlotBits};
}

net::IpAddress SlotAddress(net::Family family, uint32_t slot) {
  const net::IpAddress base = SlotPrefix(family).address();
  uint8_t bytes[16];
  std::memcpy(bytes, base.data(), base.size());
  for (size_t i = 0; i < 4; ++i) {
    bytes[base.size() - 1 - i] =
        static_cast<uint8_t>(bytes[base.size() - 1 - i] | (slot >> (8 * i) & 0xff));
  }
  return net::IpAddress::FromBytes(bytes, base.size());
}

std::optional<uint32_t> SlotOf(const net::IpAddress& address) {
  if (!SlotPrefix(address.family()).Contains(address)) return std::nullopt;
  uint32_t low = 0;
  for (size_t i = address.size() - 4; i < address.size(); ++i)
    low = low << 8 | address.data()[i];
  return low & ((1U << kSlotBits) - 1);
}

sockaddr_storage ToSocketAddress(const net::IpAddress& ip, uint16_t port) {
  sockaddr_storage storage{};
  if (ip.is_v4()) {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&storage);
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    std::memcpy(&v4->sin_addr, ip.data(), 4);
  } else {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&storage);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    std::memcpy(&v6->sin6_addr, ip.data(), 16);
  }
  return storage;
}

socklen_t SocketAddressSize(const net::IpAddress& ip) {
  return ip.is_v4() ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
}

IpPort FromSocketAddress(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    return {net::IpAddress::FromBytes(&v4.sin_addr, 4), ntohs(v4.sin_port)};
  }
  const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
  return {net::IpAddress::FromBytes(&v6.sin6_addr, 16), ntohs(v6.sin6_port)};
}

}  // namespace pointsman::forwarder

#include "node-agent/userspace/forwarder/address_plan.h"

#include <cstring>

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

}  // namespace pointsman::forwarder

#include "kube/net/ip_address.h"

#include <arpa/inet.h>
#include <charconv>
#include <cstring>
#include <stdexcept>

namespace pointsman::net {

std::string_view ToString(Family family) {
  return family == Family::kIPv4 ? "IPv4" : "IPv6";
}

std::optional<IpAddress> IpAddress::Parse(std::string_view text) {
  // inet_pton wants a terminated string; the longest valid text has 45 characters.
  char buffer[INET6_ADDRSTRLEN];
  if (text.empty() || text.size() >= sizeof(buffer)) return std::nullopt;
  std::memcpy(buffer, text.data(), text.size());
  buffer[text.size()] = '\0';
  if (std::strlen(buffer) != text.size()) return std::nullopt;
  IpAddress address;
  const bool v6 = text.find(':') != std::string_view::npos;
  address.family_ = v6 ? Family::kIPv6 : Family::kIPv4;
  if (inet_pton(v6 ? AF_INET6 : AF_INET, buffer, address.bytes_.data()) != 1) return std::nullopt;
  return address;
}

IpAddress IpAddress::V4(uint32_t host_order) {
  const uint32_t network = htonl(host_order);
  return FromBytes(&network, sizeof(network));
}

IpAddress IpAddress::FromBytes(const void* bytes, size_t size) {
  if (size != 4 && size != 16) {
    throw std::invalid_argument("an IP address has 4 or 16 bytes, not " + std::to_string(size));
  }
  IpAddress address;
  address.family_ = size == 4 ? Family::kIPv4 : Family::kIPv6;
  std::memcpy(address.bytes_.data(), bytes, size);
  return address;
}

uint32_t IpAddress::v4_host_order() const {
  uint32_t network = 0;
  std::memcpy(&network, bytes_.data(), sizeof(network));
  return ntohl(network);
}

bool IpAddress::IsLoopback() const {
  if (is_v4()) return bytes_[0] == 127;
  static constexpr std::array<uint8_t, 16> kLoopback = {0, 0, 0, 0, 0, 0, 0, 0,
                                                        0, 0, 0, 0, 0, 0, 0, 1};
  return bytes_ == kLoopback;
}

bool IpAddress::IsUnspecified() const {
  return bytes_ == std::array<uint8_t, 16>{};
}

bool IpAddress::IsLinkLocal() const {
  if (is_v4()) return bytes_[0] == 169 && bytes_[1] == 254;
  return bytes_[0] == 0xfe && (bytes_[1] & 0xc0) == 0x80;
}

bool IpAddress::IsMulticast() const {
  return is_v4() ? (bytes_[0] & 0xf0) == 0xe0 : bytes_[0] == 0xff;
}

std::string IpAddress::ToString() const {
  char buffer[INET6_ADDRSTRLEN];
  inet_ntop(is_v4() ? AF_INET : AF_INET6, bytes_.data(), buffer, sizeof(buffer));
  return buffer;
}

IpPrefix::IpPrefix(const IpAddress& address, uint8_t length) : length_(length) {
  if (length > address.size() * 8) {
    throw std::invalid_argument("prefix length " + std::to_string(length) + " is too long for " +
                                address.ToString());
  }
  std::array<uint8_t, 16> bytes{};
  std::memcpy(bytes.data(), address.data(), address.size());
  for (size_t i = 0; i < address.size(); ++i) {
    const int kept = std::max(0, std::min(8, static_cast<int>(length) - static_cast<int>(i) * 8));
    bytes[i] = static_cast<uint8_t>(bytes[i] & (0xff00 >> kept));
  }
  address_ = IpAddress::FromBytes(bytes.data(), address.size());
}

std::optional<IpPrefix> IpPrefix::Parse(std::string_view text) {
  const size_t slash = text.rfind('/');
  if (slash == std::string_view::npos) return std::nullopt;
  const auto address = IpAddress::Parse(text.substr(0, slash));
  if (!address) return std::nullopt;
  const std::string_view digits = text.substr(slash + 1);
  uint8_t length = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), length);
  if (error != std::errc() || end != digits.data() + digits.size() || digits.empty() ||
      (digits.size() > 1 && digits[0] == '0') || length > address->size() * 8) {
    return std::nullopt;
  }
  return IpPrefix(*address, length);
}

bool IpPrefix::Contains(const IpAddress& address) const {
  if (address.family() != family()) return false;
  return IpPrefix(address, length_).address_ == address_;
}

std::string IpPrefix::ToString() const {
  return address_.ToString() + "/" + std::to_string(length_);
}

}  // namespace pointsman::net

size_t std::hash<pointsman::net::IpAddress>::operator()(
    const pointsman::net::IpAddress& address) const noexcept {
  uint64_t words[2];
  std::memcpy(words, address.data(), address.is_v4() ? 8 : 16);
  if (address.is_v4()) words[1] = 4;
  // A multiply-xor mix (as in splitmix64): cluster IPs differ in their low bits only.
  uint64_t mixed = words[0] * 0x9e3779b97f4a7c15ULL ^ (words[1] + 0xbf58476d1ce4e5b9ULL);
  mixed ^= mixed >> 32;
  return static_cast<size_t>(mixed * 0x94d049bb133111ebULL);
}

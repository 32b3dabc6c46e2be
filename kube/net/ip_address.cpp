#include "kube/net/ip_address.h"

#include <algorithm>
#include <arpa/inet.h>
#include <cctype>
#include <charconv>
#include <cstring>
#include <stdexcept>

namespace pointsman::net {
namespace {

// "010.000.1.001" -> "10.0.1.1", "00fd::00001" -> "fd::1". What is no address is none afterwards.
std::string StripLeadingZeros(std::string_view text) {
  std::string stripped;
  stripped.reserve(text.size());
  const auto digit = [](char c) { return std::isxdigit(static_cast<unsigned char>(c)) != 0; };
  for (size_t i = 0; i < text.size(); ++i) {
    const bool begins = i == 0 || !digit(text[i - 1]);
    if (text[i] != '0' || !begins) {
      stripped += text[i];
      continue;
    }
    while (i + 1 < text.size() && text[i] == '0' && digit(text[i + 1]))
      ++i;
    stripped += text[i];
  }
  return stripped;
}

std::optional<IpAddress> ParseWithZeros(std::string_view text) {
  if (auto address = IpAddress::Parse(text)) return address;
  return IpAddress::Parse(StripLeadingZeros(text));
}

// The 96 bits that say "mapped" off the front.
IpAddress Unmapped(const IpAddress& address) {
  return IpAddress::FromBytes(address.data() + 12, 4);
}

}  // namespace

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

std::optional<IpAddress> IpAddress::ParseSloppy(std::string_view text) {
  auto address = ParseWithZeros(text);
  if (address && address->IsV4Mapped()) address = Unmapped(*address);
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

bool IpAddress::IsV4Mapped() const {
  static constexpr std::array<uint8_t, 12> kMapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  return !is_v4() && std::equal(kMapped.begin(), kMapped.end(), bytes_.begin());
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

std::optional<IpPrefix> IpPrefix::ParseSloppy(std::string_view text) {
  const size_t slash = text.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  const auto address = ParseWithZeros(text.substr(0, slash));
  const std::string_view digits = text.substr(slash + 1);
  unsigned length = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), length);
  if (!address || error != std::errc() || end != digits.data() + digits.size() ||
      length > address->size() * 8) {
    return std::nullopt;
  }
  const IpPrefix prefix(*address, static_cast<uint8_t>(length));
  constexpr uint8_t kMappedBits = 96;
  if (length < kMappedBits || !prefix.address().IsV4Mapped()) return prefix;
  return IpPrefix(Unmapped(prefix.address()), static_cast<uint8_t>(length - kMappedBits));
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

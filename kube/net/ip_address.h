// An IPv4 or IPv6 address in binary form, as small as the cache of 100,000 endpoints needs it.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace pointsman::net {

enum class Family : uint8_t { kIPv4 = 4, kIPv6 = 6 };

// "IPv4" or "IPv6", as the Kubernetes API spells families (Service.spec.ipFamilies).
std::string_view ToString(Family family);

// A value type; thread-compatible.
class IpAddress {
 public:
  // 0.0.0.0
  constexpr IpAddress() = default;

  // Accepts dotted-quad IPv4 without leading zeros and RFC 4291 IPv6; an IPv4-mapped IPv6 address
  // stays IPv6. Returns nullopt for anything else (host names, zones, ports, blanks).
  static std::optional<IpAddress> Parse(std::string_view text);
  // As Kubernetes reads the addresses of its objects (k8s.io/utils/net ParseIPSloppy, the parser of
  // Go 1.16; kubernetes#100895): leading zeros are decimal ("010.0.0.1" is 10.0.0.1), and an
  // IPv4-mapped IPv6 address is the IPv4 address. For what the API server stores, not for our own
  // settings.
  static std::optional<IpAddress> ParseSloppy(std::string_view text);
  // `host_order`: 0x7f000001 is 127.0.0.1.
  static IpAddress V4(uint32_t host_order);
  // `bytes`: 4 bytes for IPv4, 16 for IPv6, in network order; anything else throws
  // std::invalid_argument.
  static IpAddress FromBytes(const void* bytes, size_t size);

  Family family() const { return family_; }
  bool is_v4() const { return family_ == Family::kIPv4; }
  // Network order; only the first size() bytes mean something (the rest is 0).
  const uint8_t* data() const { return bytes_.data(); }
  size_t size() const { return is_v4() ? 4 : 16; }
  // Only for IPv4.
  uint32_t v4_host_order() const;

  bool IsLoopback() const;     // 127.0.0.0/8, ::1
  bool IsUnspecified() const;  // 0.0.0.0, ::
  bool IsLinkLocal() const;    // 169.254.0.0/16, fe80::/10
  bool IsMulticast() const;    // 224.0.0.0/4, ff00::/8
  bool IsV4Mapped() const;     // ::ffff:0:0/96

  // Canonical text: RFC 5952 for IPv6.
  std::string ToString() const;

  auto operator<=>(const IpAddress&) const = default;

 private:
  Family family_ = Family::kIPv4;
  std::array<uint8_t, 16> bytes_{};
};

// An address with a prefix length. The host bits are 0 after Parse.
class IpPrefix {
 public:
  IpPrefix() = default;
  IpPrefix(const IpAddress& address, uint8_t length);  // clears the host bits

  // "10.0.0.0/8", "fd00::/64". A bare address is not a prefix: nullopt. Host bits are cleared, as
  // Kubernetes accepts "10.1.2.3/8" for CIDR fields.
  static std::optional<IpPrefix> Parse(std::string_view text);
  // As Kubernetes reads the CIDRs of its objects (ParseCIDRSloppy): addresses as
  // IpAddress::ParseSloppy, leading zeros in the length too, and ::ffff:10.0.0.0/104 is 10.0.0.0/8.
  // White space around it is the caller's matter: some fields may have it, some not.
  static std::optional<IpPrefix> ParseSloppy(std::string_view text);

  const IpAddress& address() const { return address_; }
  uint8_t length() const { return length_; }
  Family family() const { return address_.family(); }
  bool Contains(const IpAddress& address) const;  // false for the other family
  std::string ToString() const;

  auto operator<=>(const IpPrefix&) const = default;

 private:
  IpAddress address_;
  uint8_t length_ = 0;
};

}  // namespace pointsman::net

template <>
struct std::hash<pointsman::net::IpAddress> {
  size_t operator()(const pointsman::net::IpAddress& address) const noexcept;
};

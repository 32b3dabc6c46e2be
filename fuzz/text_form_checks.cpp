#include <fmt/format.h>

#include "fuzz/checks.h"
#include "kube/net/ip_address.h"
#include "kube/pointsman/duration.h"
#include "kube/time/rfc3339.h"

namespace pointsman::fuzz {
namespace {

[[noreturn]] void Differs(std::string_view input, const std::string& written) {
  throw std::logic_error(
      fmt::format("'{}' is read and written as '{}', which is read as something "
                  "else",
                  input, written));
}

}  // namespace

void CheckDuration(std::string_view input) {
  const auto duration = kube::ParseDuration(input);
  if (!duration) return;
  const std::string written = kube::FormatDuration(*duration);
  if (kube::ParseDuration(written) != duration) Differs(input, written);
}

void CheckTime(std::string_view input) {
  const auto time = kube::ParseTime(input);
  if (!time) return;
  const std::string written = kube::FormatTime(*time);
  if (kube::ParseTime(written) != time) Differs(input, written);
}

void CheckIpAddress(std::string_view input) {
  const auto address = net::IpAddress::Parse(input);
  const auto prefix = net::IpPrefix::Parse(input);
  for (const auto& read : {address, net::IpAddress::ParseSloppy(input)}) {
    if (!read) continue;
    const std::string written = read->ToString();
    if (net::IpAddress::Parse(written) != read) Differs(input, written);
  }
  for (const auto& read : {prefix, net::IpPrefix::ParseSloppy(input)}) {
    if (!read) continue;
    const std::string written = read->ToString();
    if (net::IpPrefix::Parse(written) != read) Differs(input, written);
    if (!read->Contains(read->address()))
      throw std::logic_error(written + " does not contain its own address");
  }
  // Kubernetes takes an IPv4-mapped address for the IPv4 one; nothing else differs.
  if (address && !address->IsV4Mapped() && net::IpAddress::ParseSloppy(input) != address)
    Differs(input, address->ToString());
  if (prefix && !prefix->address().IsV4Mapped() && net::IpPrefix::ParseSloppy(input) != prefix)
    Differs(input, prefix->ToString());
}

}  // namespace pointsman::fuzz

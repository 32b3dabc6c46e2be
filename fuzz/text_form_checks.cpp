#include "fuzz/checks.h"
#include "kube/net/ip_address.h"
#include "kube/pointsman/duration.h"
#include "kube/pointsman/timestamp.h"

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
  if (const auto address = net::IpAddress::Parse(input)) {
    const std::string written = address->ToString();
    if (net::IpAddress::Parse(written) != address) Differs(input, written);
  }
  if (const auto prefix = net::IpPrefix::Parse(input)) {
    const std::string written = prefix->ToString();
    if (net::IpPrefix::Parse(written) != prefix) Differs(input, written);
    if (!prefix->Contains(prefix->address()))
      throw std::logic_error(written + " does not contain its own address");
  }
}

}  // namespace pointsman::fuzz

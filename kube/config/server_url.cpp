#include "kube/config/server_url.h"

#include <algorithm>
#include <charconv>
#include <stdexcept>

#include "kube/net/ip_address.h"
#include "kube/text/ascii.h"
#include "kube/text/text.h"

namespace pointsman::kube {
namespace {

[[noreturn]] void Fail(std::string_view address, const std::string& why) {
  throw std::invalid_argument(text::Quote(address, 256) + " " + why);
}

void CheckPort(std::string_view address, std::string_view port) {
  int number = 0;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (error != std::errc() || end != port.data() + port.size() || number < 1 || number > 65535) {
    Fail(address, "has no port from 1 to 65535 after its host");
  }
}

// "host", "host:port", "[IPv6]", "[IPv6]:port".
void CheckAuthority(std::string_view address, std::string_view authority) {
  if (authority.find('@') != std::string_view::npos) {
    // The message must not show the password.
    throw std::invalid_argument("must not have a user name or password in it");
  }
  std::string_view rest;
  if (authority.starts_with('[')) {
    const size_t close = authority.find(']');
    const auto ip = close == std::string_view::npos
                        ? std::nullopt
                        : net::IpAddress::Parse(authority.substr(1, close - 1));
    if (!ip || ip->is_v4()) Fail(address, "has no IPv6 address between its brackets");
    rest = authority.substr(close + 1);
  } else {
    const size_t colon = authority.find(':');
    if (colon == 0 || authority.empty()) Fail(address, "has no host");
    if (colon != std::string_view::npos) rest = authority.substr(colon);
  }
  if (rest.empty()) return;
  if (rest[0] != ':') Fail(address, "has something after its host that is no port");
  if (rest.size() > 1) CheckPort(address, rest.substr(1));  // "host:" has the scheme's port
}

std::string_view AuthorityOf(std::string_view url) {
  const size_t scheme = url.find("://");
  if (scheme != std::string_view::npos) url.remove_prefix(scheme + 3);
  return url.substr(0, url.find('/'));
}

}  // namespace

std::string ServerUrl(std::string_view address, bool tls) {
  if (address.empty()) throw std::invalid_argument("is missing");
  if (std::any_of(address.begin(), address.end(),
                  [](char c) { return c <= 0x20 || c >= 0x7f || c == '\\' || c == '"'; })) {
    Fail(address, "has a character that no URL has");
  }
  std::string_view rest = address.substr(0, address.find_first_of("?#"));
  std::string scheme = tls ? "https" : "http";
  const size_t mark = rest.find("://");
  if (mark != std::string_view::npos) {
    scheme = text::ToLowerAscii(rest.substr(0, mark));
    if (scheme != "https" && scheme != "http") Fail(address, "is neither http:// nor https://");
    rest.remove_prefix(mark + 3);
  }
  while (rest.ends_with('/'))
    rest.remove_suffix(1);
  if (mark == std::string_view::npos) {
    if (rest.find('/') != std::string_view::npos) {
      Fail(address, "must be a URL or a host:port pair");
    }
    if (const auto ip = net::IpAddress::Parse(rest); ip && !ip->is_v4()) {
      return scheme + "://[" + std::string(rest) + "]";
    }
  }
  std::string_view authority = AuthorityOf(rest);
  CheckAuthority(address, authority);
  const std::string_view path = rest.substr(authority.size());
  if (authority.ends_with(':')) authority.remove_suffix(1);
  return scheme + "://" + std::string(authority) + std::string(path);
}

std::string HostOfUrl(const std::string& url) {
  const std::string_view authority = AuthorityOf(url);
  if (authority.starts_with('[')) {
    return std::string(authority.substr(1, authority.find(']') - 1));
  }
  return std::string(authority.substr(0, authority.find(':')));
}

std::string PortOfUrl(const std::string& url) {
  const std::string_view authority = AuthorityOf(url);
  const size_t after = authority.starts_with('[') ? authority.find(']') : 0;
  if (after == std::string_view::npos) return "";
  const size_t colon = authority.find(':', after);
  return colon == std::string_view::npos ? "" : std::string(authority.substr(colon + 1));
}

}  // namespace pointsman::kube

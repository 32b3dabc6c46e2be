#include "kube/config/proxy_environment.h"

#include <algorithm>
#include <sstream>
#include <string_view>

#include "kube/config/server_url.h"
#include "kube/net/ip_address.h"
#include "kube/text/ascii.h"
#include "kube/text/text.h"

namespace pointsman::kube {
namespace {

bool IsLoopback(const net::IpAddress& address) {
  static const net::IpPrefix v4 = *net::IpPrefix::Parse("127.0.0.0/8");
  static const net::IpPrefix v6 = *net::IpPrefix::Parse("::1/128");
  return v4.Contains(address) || v6.Contains(address);
}

struct Server {
  std::string host;  // in lower case
  std::string port;
  std::optional<net::IpAddress> ip;
};

bool Covers(std::string_view entry, const Server& server) {
  if (entry == "*") return true;
  if (const auto prefix = net::IpPrefix::Parse(entry)) {
    return server.ip && prefix->Contains(*server.ip);
  }
  std::string host(entry);
  if (!net::IpAddress::Parse(entry)) {
    host = HostOfUrl("x://" + host);
    const std::string port = PortOfUrl("x://" + std::string(entry));
    if (!port.empty() && port != server.port) return false;
  }
  if (const auto ip = net::IpAddress::Parse(host)) return server.ip && *server.ip == *ip;
  if (host.starts_with("*.")) host.erase(0, 1);
  if (host.empty() || server.ip) return false;
  if (host.starts_with('.')) return server.host.ends_with(host);
  return server.host == host || server.host.ends_with("." + host);
}

bool IsLeftOut(const std::string& list, const Server& server) {
  std::istringstream entries(list);
  for (std::string entry; std::getline(entries, entry, ',');) {
    const std::string trimmed = text::ToLowerAscii(text::TrimSpace(entry));
    if (!trimmed.empty() && Covers(trimmed, server)) return true;
  }
  return false;
}

}  // namespace

EnvironmentProxy FindEnvironmentProxy(const std::string& server_url,
                                      const std::function<std::string(const char*)>& get) {
  const bool encrypted = server_url.starts_with("https://");
  Server server{text::ToLowerAscii(HostOfUrl(server_url)), PortOfUrl(server_url), std::nullopt};
  if (server.port.empty()) server.port = encrypted ? "443" : "80";
  server.ip = net::IpAddress::Parse(server.host);
  if (server.host == "localhost" || (server.ip && IsLoopback(*server.ip))) return {};
  for (const char* name : {"NO_PROXY", "no_proxy"}) {
    const std::string list = get(name);
    if (list.empty()) continue;
    if (IsLeftOut(list, server)) return {};
    break;
  }
  const char* const upper = encrypted ? "HTTPS_PROXY" : "HTTP_PROXY";
  const char* const lower = encrypted ? "https_proxy" : "http_proxy";
  for (const char* name : {upper, lower}) {
    if (const std::string url = get(name); !url.empty()) return {name, url};
  }
  return {};
}

}  // namespace pointsman::kube

// The proxy that client-go would go through to an API server: HTTPS_PROXY, HTTP_PROXY and NO_PROXY,
// by the rules of golang.org/x/net/http/httpproxy (net/http.ProxyFromEnvironment).
#pragma once

#include <functional>
#include <string>

namespace pointsman::kube {

struct EnvironmentProxy {
  std::string variable;  // "HTTPS_PROXY", as it is spelled there; "": there is none
  std::string url;       // may have a password: never for a message
};

// `get` returns a variable's value, "" if there is none. A server on localhost or a loopback
// address has no proxy, nor one that NO_PROXY names (host, domain, .domain, IP, CIDR, each with or
// without a port, or "*").
EnvironmentProxy FindEnvironmentProxy(const std::string& server_url,
                                      const std::function<std::string(const char*)>& get);

}  // namespace pointsman::kube

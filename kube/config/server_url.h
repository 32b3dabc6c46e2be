// The API server's address as kubeconfigs and command lines have it.
#pragma once

#include <string>
#include <string_view>

namespace pointsman::kube {

// "10.0.0.1:6443", "localhost:8080", "[fd00::1]:6443", "https://api.example/prefix" as the URL to
// connect to, without a slash at its end: rules of client-go's rest.DefaultServerURL. Without a
// scheme it is https when `tls` (a CA, a client certificate or insecure-skip-tls-verify is
// configured), else http. Query and fragment are dropped, as there. Throws std::invalid_argument
// with what is wrong.
std::string ServerUrl(std::string_view address, bool tls);

// Host, port ("" if none) of a URL of ServerUrl; an IPv6 address without its brackets.
std::string HostOfUrl(const std::string& url);
std::string PortOfUrl(const std::string& url);

}  // namespace pointsman::kube

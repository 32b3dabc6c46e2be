// What a kube-proxy has in this kernel for the Services, as its mode has it: read back, since
// neither its /healthz nor its /proxyMode says that it has programmed anything (kubernetes#83263).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kube/net/ip_address.h"
#include "kube/net/socket_address.h"
#include "kube/objects/service.h"
#include "kube/pointsman/mode.h"
#include "node-agent/model/service_model.h"

namespace pointsman::agent::kube_proxy {

// A cluster IP's port (or an external address's).
struct Frontend {
  net::IpAddress ip;
  uint16_t port = 0;
  kube::Protocol protocol = kube::Protocol::kTcp;
  bool operator==(const Frontend&) const = default;
};
struct FrontendHash {
  size_t operator()(const Frontend& frontend) const noexcept;
};

// Where each sends new connections; sorted, no duplicates.
using Served = std::unordered_map<Frontend, std::vector<net::IpPort>, FrontendHash>;

// In the network namespace of the calling thread. Sources of the names and of the form of the
// rules: names.h. Modes iptables, ipvs and nftables; of another one there is nothing. Mode iptables
// starts iptables-save. `modules_root`: see KernelHasModule. Throws std::system_error, and what
// FindRules and IptablesTool throw.
Served ReadServed(kube::Mode mode, const std::string& modules_root);

// Of what a kube-proxy is to serve: a cluster IP with endpoints; `ipv6`: this node has IPv6.
bool IsExpected(const ServicePortEntry& entry, bool ipv6);
// It is there, with all endpoints that Pointsman would use. More of them are no fault: a kube-proxy
// of another version has another topology.
bool Has(const Served& served, const ServicePortEntry& entry);

// Of mode iptables: takes table nat as iptables-save prints it, line by line.
class NatRules {
 public:
  void AddLine(std::string_view line);
  // Once all lines are there.
  void AddTo(Served& served) const;

 private:
  struct Portal {
    Frontend frontend;
    std::string chain;
  };
  std::vector<Portal> portals_;
  std::unordered_map<std::string, std::vector<std::string>> choices_;  // of a Service's chain
  std::unordered_map<std::string, net::IpPort> endpoints_;             // of an endpoint's chain
};

// Of mode nftables: what the name of a chain says. "" when it is none of that form.
// "service-ULMVA6XW-ns1/svc1/tcp/p80" → "ns1/svc1/tcp/p80"
std::string_view ServiceOfChain(std::string_view chain);
struct EndpointChain {
  std::string_view service;  // as above; "": it is none
  net::IpPort endpoint;
};
// "endpoint-5OJB2KTY-ns1/svc1/tcp/p80__10.180.0.1/80"; IPv6 with dots: "fd00..1"
EndpointChain ParseEndpointChain(std::string_view chain);

}  // namespace pointsman::agent::kube_proxy

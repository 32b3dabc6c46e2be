// A connection that got no answer since IPVS has another one from the same client address and port
// to the same backend, and answered in that one's name: the kernel's limit (docs/ipvs.md), which a
// client's next try gets over. Pure functions on what conntrack and ipvsadm print.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace pointsman::e2e {

// One TCP connection as connection tracking has it: each end as "10.0.0.1:80", "[fd00::1]:80".
struct TrackedConnection {
  std::string client;
  std::string target;
  // Who answers, and to whom: the client as the backend sees it.
  std::string backend;
  std::string seen_client;
};

// Of `conntrack -L`; lines of other protocols are passed over.
std::vector<TrackedConnection> ParseConntrack(std::string_view text);

// One line of `ipvsadm -Lcn`.
struct IpvsConnection {
  std::string client;  // as above
  std::string virtual_server;
  std::string backend;
};
std::vector<IpvsConnection> ParseIpvsConnections(std::string_view text);

// Whether one of `ipvs` (of all nodes) is from the same address and port to the same backend as the
// connection from `local_port` to `target` ("10.0.0.1:80") that `tracked` (of all nodes) has, and
// through another virtual server.
bool IsPortTaken(const std::vector<TrackedConnection>& tracked,
                 const std::vector<IpvsConnection>& ipvs, const std::string& target,
                 int local_port);

}  // namespace pointsman::e2e

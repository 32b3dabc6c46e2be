// The kernel parameters that ipvs mode needs.
#pragma once

#include <string>
#include <vector>

#include "kube/pointsman/proxy_settings.h"
#include "node-agent/dataplane/dataplane.h"

namespace pointsman::agent::ipvs {

struct Sysctl {
  std::string name;  // "net.ipv4.vs.conntrack"
  std::string value;
};

// `kernel_release` as uname says it ("6.1.0-18-amd64").
std::vector<Sysctl> NeededSysctls(const std::string& kernel_release, bool ipv6);

// ipvs.udpTimeout says how long a UDP flow is remembered; but connection tracking remembers it too,
// and as long as it does the flow stays with its backend (kubernetes#120076). So both get the same
// time, unless the settings have one of connection tracking's own. None: no udpTimeout.
std::vector<Sysctl> UdpTimeoutSysctls(const kube::ProxySettings& settings);

// Reads each and writes those that differ. Problems name the parameter.
void EnsureSysctls(const std::vector<Sysctl>& needed, SyncResult& result);

}  // namespace pointsman::agent::ipvs

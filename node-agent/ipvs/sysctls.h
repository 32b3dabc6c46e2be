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

// Reads each and writes those that differ. Problems name the parameter.
void EnsureSysctls(const std::vector<Sysctl>& needed, SyncResult& result);

}  // namespace pointsman::agent::ipvs

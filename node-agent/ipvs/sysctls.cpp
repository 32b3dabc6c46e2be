#include "node-agent/ipvs/sysctls.h"

#include <cstdio>

#include "node-agent/sysctl/ipv6_forwarding.h"
#include "node-agent/sysctl/sysctl.h"

namespace pointsman::agent::ipvs {
std::vector<Sysctl> NeededSysctls(const std::string& kernel_release, bool ipv6) {
  std::vector<Sysctl> needed{
      // Masquerade of IPVS connections, and handovers, need them in conntrack.
      {"net.ipv4.vs.conntrack", "1"},
      // A connection whose destination was deleted ends at the next packet and is scheduled anew;
      // else the packets of a UDP client that keeps its port are dropped until it falls silent
      // (kubernetes#76664, #71514).
      {"net.ipv4.vs.expire_nodest_conn", "1"},
      // A persistence template to a destination of weight 0 is not used (kubernetes#71809).
      {"net.ipv4.vs.expire_quiescent_template", "1"},
      {"net.ipv4.ip_forward", "1"},
  };
  // When a client port is used again while the old connection is in TIME_WAIT: 1 schedules anew,
  // which before Linux 5.9 dropped the first SYN if conntrack is on (1 s delay, kubernetes#81775,
  // #93297); 0 keeps to the old destination. Before 4.1 there is no such parameter.
  int major = 0;
  int minor = 0;
  // NOLINTNEXTLINE(cert-err34-c): a release that does not parse counts as 0.0.
  if (std::sscanf(kernel_release.c_str(), "%d.%d", &major, &minor) == 2) {
    if (major > 5 || (major == 5 && minor >= 9))
      needed.push_back({"net.ipv4.vs.conn_reuse_mode", "1"});
    else if (major > 4 || (major == 4 && minor >= 1))
      needed.push_back({"net.ipv4.vs.conn_reuse_mode", "0"});
  }
  if (ipv6) needed.push_back({std::string(kIpv6Forwarding), "1"});
  return needed;
}

std::vector<Sysctl> UdpTimeoutSysctls(const kube::ProxySettings& settings) {
  std::vector<Sysctl> needed;
  const auto seconds = std::chrono::ceil<std::chrono::seconds>(settings.ipvs.udp_timeout).count();
  if (seconds <= 0) return needed;
  if (settings.conntrack.udp_timeout.count() <= 0)
    needed.push_back({"net.netfilter.nf_conntrack_udp_timeout", std::to_string(seconds)});
  if (settings.conntrack.udp_stream_timeout.count() <= 0)
    needed.push_back({"net.netfilter.nf_conntrack_udp_timeout_stream", std::to_string(seconds)});
  return needed;
}

void EnsureSysctls(const std::vector<Sysctl>& needed, SyncResult& result) {
  for (const Sysctl& sysctl : needed) {
    const std::vector<SysctlResult> all =
        sysctl.name == kIpv6Forwarding
            ? EnableIpv6Forwarding()
            : std::vector<SysctlResult>{WriteSysctl(sysctl.name, sysctl.value)};
    for (const SysctlResult& written : all) {
      if (!written.ok())
        result.problems.push_back({"sysctl " + written.name, written.error});
      else if (written.changed)
        ++result.kernel_writes;
    }
  }
}

}  // namespace pointsman::agent::ipvs

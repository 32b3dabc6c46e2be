#include "node-agent/agent/kube_proxy_cleanup.h"

#include <algorithm>
#include <string>
#include <vector>

#include <spdlog/spdlog.h>
#include <unistd.h>

#include "kube/process/termination.h"
#include "node-agent/agent/cleanup.h"
#include "node-agent/ipvs/frontend.h"
#include "node-agent/ipvs/kernel_state.h"
#include "node-agent/kube_proxy/removal.h"

namespace pointsman::agent {
kube_proxy::IsOthers PointsmansServers() {
  std::vector<ipvs::FrontendKey> owned;
  if (::access("/proc/thread-self/net/ip_vs", F_OK) == 0) {
    netlink::Ipvs servers;
    netlink::Ipset sets;
    netlink::Socket route(NETLINK_ROUTE);
    owned = ipvs::KernelReader(servers, sets, route).Owned();
    std::sort(owned.begin(), owned.end());
  }
  return [owned](const netlink::IpvsServer& server) {
    return std::binary_search(owned.begin(), owned.end(), ipvs::KeyOf(server));
  };
}

int RunKubeProxyCleanup(const Options& options) {
  if (!MayChangeTheNetwork()) {
    spdlog::error(
        "--cleanup-kube-proxy needs root, or the capability CAP_NET_ADMIN; nothing was changed");
    return 1;
  }
  if (const int pid = kube_proxy::RunningKubeProxy(); pid != 0) {
    spdlog::error(
        "nothing was removed: kube-proxy runs on this node (pid {}) and would write it all again. "
        "Stop it first",
        pid);
    return 1;
  }
  const kube::Termination termination;
  const std::vector<std::string> failed = kube_proxy::RemoveLeftovers(
      {.modules_root = options.modules_root.string(),
       .others = PointsmansServers(),
       .drain_timeout = options.kube_proxy_drain_timeout,
       .tell = [](const std::string& what) { spdlog::info("{}", what); }},
      termination.token());
  for (const std::string& what : failed)
    spdlog::error("not removed: {}", what);
  return failed.empty() ? 0 : 1;
}

}  // namespace pointsman::agent

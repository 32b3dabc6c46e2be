#include "node-agent/agent/kube_proxy_cleanup.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <spdlog/spdlog.h>
#include <unistd.h>

#include "kube/process/termination.h"
#include "node-agent/agent/cleanup.h"
#include "node-agent/ipvs/frontend.h"
#include "node-agent/ipvs/kernel_state.h"
#include "node-agent/neighbours/ipvs_notice.h"

namespace pointsman::agent {
namespace {

std::vector<ipvs::FrontendKey> OwnedServers() {
  std::vector<ipvs::FrontendKey> owned;
  if (::access("/proc/thread-self/net/ip_vs", F_OK) != 0) return owned;
  netlink::Ipvs servers;
  netlink::Ipset sets;
  netlink::Socket route(NETLINK_ROUTE);
  owned = ipvs::KernelReader(servers, sets, route).Owned();
  std::sort(owned.begin(), owned.end());
  return owned;
}

kube_proxy::IsOthers IsOneOf(std::vector<ipvs::FrontendKey> owned) {
  return [owned = std::move(owned)](const netlink::IpvsServer& server) {
    return std::binary_search(owned.begin(), owned.end(), ipvs::KeyOf(server));
  };
}

}  // namespace

kube_proxy::IsOthers PointsmansServers() {
  return IsOneOf(OwnedServers());
}

kube_proxy::RemovalOptions BesidePointsman(const std::string& modules_root) {
  std::vector<ipvs::FrontendKey> owned = OwnedServers();
  const bool ipvs_mode = !owned.empty();
  return {.modules_root = modules_root,
          .others = IsOneOf(std::move(owned)),
          .take_over_link = ipvs_mode && IpvsNotice(modules_root).IsLookedFor(),
          .tell = {}};
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
  kube_proxy::RemovalOptions removal = BesidePointsman(options.modules_root.string());
  removal.drain_timeout = options.kube_proxy_drain_timeout;
  removal.tell = [](const std::string& what) { spdlog::info("{}", what); };
  const std::vector<std::string> failed = kube_proxy::RemoveLeftovers(removal, termination.token());
  for (const std::string& what : failed)
    spdlog::error("not removed: {}", what);
  return failed.empty() ? 0 : 1;
}

}  // namespace pointsman::agent

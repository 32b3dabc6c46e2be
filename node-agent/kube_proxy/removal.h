// Takes out of this node's kernel what a kube-proxy left that runs no more, or no more in that
// mode: in any of its modes, beside Pointsman in any mode, and nothing that is somebody else's.
// (kube-proxy --cleanup empties the whole IPVS table, and leaves its ipsets.)
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "kube/pointsman/mode.h"
#include "kube/time/time_source.h"
#include "node-agent/kube_proxy/virtual_servers.h"

namespace pointsman::agent::kube_proxy {

struct RemovalOptions {
  std::string modules_root;  // see KernelHasModule
  IsOthers others;           // virtual servers that stay
  // A kube-proxy runs in that mode, and what is of that mode stays.
  std::optional<kube::Mode> running = std::nullopt;
  // kube-ipvs0 stays, as Pointsman's: Pointsman in ipvs mode has to have it for Calico's Felix
  // (neighbours/ipvs_notice.h), which starts again whenever it goes or comes.
  bool take_over_link = false;
  // How long at most IPVS keeps the connections that it has. Those of the other modes go on anyway:
  // connection tracking has them.
  std::chrono::nanoseconds drain_timeout{};
  std::function<void(const std::string&)> tell;  // for a person, as it goes on
  kube::TimeSource& time = kube::TimeSource::Real();
};

// Connections that IPVS has first; then virtual servers, the interface, rules, ipsets, so that no
// port of the node is seen on a cluster IP in between. Returns what could not be removed, for a
// person; ends early, with nothing removed, when `stop` is requested while it waits. In the network
// namespace of the calling thread.
std::vector<std::string> RemoveLeftovers(const RemovalOptions& options,
                                         const std::stop_token& stop);

// Connections that IPVS has for kube-proxy, and that end when its virtual servers go. `first`: the
// node's own new connections shall take no source from its addresses any more; once is enough.
// Throws std::system_error.
uint64_t OpenConnections(const IsOthers& others, bool first);

// What a kube-proxy has in each of its modes for as long as it works, as far as it is here: one
// word for each thing, sorted. Starts no process. `modules_root`: see KernelHasModule. Throws as
// FindRules.
std::vector<std::string> Traces(const std::string& modules_root);

// The pid of a kube-proxy that runs in the calling thread's network namespace, as far as /proc
// shows it (in a container without hostPID: not); 0: none is seen.
int RunningKubeProxy();

}  // namespace pointsman::agent::kube_proxy

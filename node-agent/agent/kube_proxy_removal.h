// On the operator's word that no kube-proxy runs here any more (NodeProxy.spec.kubeProxy: Remove),
// or none in its former mode: what it left in the kernel goes, once the connections through it have
// ended.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "kube/pointsman/node_proxy.h"
#include "kube/pointsman/proxy_settings.h"

namespace pointsman::agent {

// Not thread-safe: the sync thread owns it, so that nothing else writes the kernel's rules
// meanwhile. A look takes as long as the kernel does, and waits for nothing: what there is to wait
// for is looked at again.
class KubeProxyRemoval {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  // How often it is looked whether connections have ended, or kube-proxy has; what could not be
  // removed is tried again; whether kube-proxy has written its rules again.
  static constexpr std::chrono::seconds kPoll{2};
  // How long one that runs is polled; then it is no Pod that is about to end (k3s).
  static constexpr std::chrono::minutes kEnds{5};
  static constexpr std::chrono::minutes kRetry{1};
  static constexpr std::chrono::minutes kWatch{1};

  // How long an order to remove is followed without a word of the API server. The operator, which
  // cannot tell an agent that is cut off, waits longer before it lets kube-proxy come back.
  static constexpr std::chrono::minutes kOrderHolds{3};

  struct Kernel {
    // By what a kube-proxy that runs here is seen, for a person; "": none is seen.
    std::function<std::string()> runs;
    // Connections that would end. `first`: of those that follow one another.
    std::function<uint64_t(bool first)> open;
    // Returns what could not be removed, for a person.
    std::function<std::vector<std::string>()> remove;
    // What a kube-proxy always has; sorted.
    std::function<std::vector<std::string>()> traces;
    // For the log, when all of it is removed.
    const char* gone = "nothing of kube-proxy's is in the kernel any more";
  };
  explicit KubeProxyRemoval(Kernel kernel) : kernel_(std::move(kernel)) {}

  // What the agent before said of it, which holds until it is looked at.
  void Continue(const std::optional<kube::KubeProxyStatus>& said);
  // `heard`: when the API server was last heard of. `why_not`: why ours cannot do without
  // kube-proxy's rules, for a person; with that nothing is removed. "": it serves all that it is
  // to. `drain_timeout`: how long connections are waited for at most.
  void Look(bool asked, TimePoint heard, std::string why_not, kube::Duration drain_timeout,
            TimePoint now);
  // nullopt: not asked.
  const std::optional<kube::KubeProxyStatus>& status() const { return status_; }
  // When there is something to look at again; max: nothing.
  TimePoint due() const { return due_; }

 private:
  void Remove(kube::Duration drain_timeout, TimePoint now);
  void Watch(TimePoint now);
  void Wait(const char* state, std::string message, TimePoint due);

  const Kernel kernel_;
  std::optional<kube::KubeProxyStatus> status_;
  std::optional<TimePoint> began_;                // to wait for connections
  std::optional<TimePoint> seen_;                 // one that runs, for the first time
  std::optional<std::vector<std::string>> kept_;  // traces of it once all was removed
  TimePoint due_ = TimePoint::max();
};

// Of this node. `port_taken`: a port of kube-proxy's that another program has, "": none.
KubeProxyRemoval::Kernel ThisKernel(const std::string& modules_root,
                                    std::function<std::string()> port_taken);

// Connections that would end with the virtual servers of a kube-proxy's on this node. `first`: of
// those that follow one another. Throws std::system_error.
uint64_t OpenThroughKubeProxysServers(bool first);

// Of a kube-proxy that runs here in `mode` (StockKubeProxy): what its other modes left.
KubeProxyRemoval::Kernel ThisFormerMode(const std::string& modules_root,
                                        const std::function<kube::Mode()>& mode);

}  // namespace pointsman::agent

// Ours is to go from a node to which kube-proxy came back: not before kube-proxy's rules are there.
// That its Pod is Ready says that its process runs; with very many Services its first sync takes
// longer than anybody waits.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "kube/pointsman/mode.h"
#include "kube/pointsman/proxy_settings.h"
#include "node-agent/kube_proxy/served.h"
#include "node-agent/model/service_model.h"

namespace pointsman::agent {

// Not thread-safe: the sync thread owns it.
class KubeProxyReturn {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  static constexpr std::chrono::seconds kPoll{2};
  // In modes iptables and nftables all comes at once, in mode ipvs one virtual server after the
  // other; what has not come for so long is nothing that it is going to serve.
  static constexpr std::chrono::seconds kStands{10};

  struct Kernel {
    // What a kube-proxy always has (kube_proxy/removal.h): empty where none is coming back.
    std::function<std::vector<std::string>()> traces;
    std::function<kube_proxy::Served(kube::Mode)> served;
  };
  explicit KubeProxyReturn(Kernel kernel) : kernel_(std::move(kernel)) {}

  // Why ours must not go yet, for a person; "": it may. `at_most`: how long it is waited for.
  // Throws what `kernel` throws.
  std::string WhyWait(const ServiceModel& model, bool ipv6, kube::Duration at_most, TimePoint now);
  void Forget() { began_.reset(); }

 private:
  const Kernel kernel_;
  std::optional<TimePoint> began_;
  size_t most_ = 0;  // of the Services' ports that were seen at once
  TimePoint grew_{};
};

// Of this node.
KubeProxyReturn::Kernel ThisReturn(const std::string& modules_root);

}  // namespace pointsman::agent

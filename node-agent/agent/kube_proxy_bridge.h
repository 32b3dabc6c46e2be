// A stock kube-proxy that starts in mode nftables, or leaves it, removes the rules of its former
// mode before it writes the new ones (provider: KubeProxy, docs/kube-proxy-provider.md). From
// before its restart until it is verified rules of Pointsman's own serve in their place, and what
// would be cut off with kube-proxy's virtual servers ends first.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "kube/pointsman/mode.h"
#include "kube/pointsman/node_proxy.h"
#include "kube/pointsman/proxy_settings.h"

namespace pointsman::agent {

// Not thread-safe: the sync thread owns it. It decides, and the caller writes the rules.
class KubeProxyBridge {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  // The one that never is in the way of a kube-proxy's in another, and is in the kernel wherever
  // there is something to bridge.
  static constexpr kube::Mode kMode = kube::Mode::kNftables;
  // How long rules are waited for that cannot be written: kube-proxy is to run nevertheless.
  static constexpr std::chrono::seconds kPatience{60};

  struct Node {
    // Why the kernel, or what else is on this node, does not allow rules of that kind; "": it does.
    // May throw; then there are none.
    std::function<std::string(const kube::ProxySettings&)> why_not;
    // Connections that would end with kube-proxy's virtual servers. `first`: of those that follow
    // one another.
    std::function<uint64_t(bool first)> open;
  };
  explicit KubeProxyBridge(Node node) : node_(std::move(node)) {}

  // What this node's status said when the agent began: it goes on from there.
  void Continue(const kube::NodeProxyStatus& said) {
    prepared_ = said.prepared_revision;
    in_effect_ = said.observed_revision;
  }
  // `spec` asks for a kube-proxy. `runs`: the mode of the one that answers. `verified`: it does
  // what is asked for.
  void Look(const kube::NodeProxySpec& spec, std::optional<kube::Mode> runs, bool verified,
            TimePoint now);
  // Are rules of ours to be in the kernel?
  bool wanted() const { return wanted_; }
  // What those are to be written with.
  static kube::ProxySettings Settings(kube::ProxySettings of_kube_proxy);
  // They have been given to the kernel; `problem`: "" when they serve. Throws what `open` throws.
  void Wrote(const std::string& problem, kube::Duration drain_timeout, TimePoint now);
  // A kube-proxy is not asked for (any more).
  void Forget();

  // NodeProxyStatus::prepared_revision.
  int64_t prepared_revision() const { return prepared_; }
  // What the restart waits for, for a person; "": nothing.
  const std::string& waits_for() const { return waits_for_; }

 private:
  void Prepared(const char* how);
  std::string WhyNot(const kube::NodeProxySpec& spec) const;

  Node node_;
  int64_t revision_ = 0;
  int64_t prepared_ = 0;
  int64_t in_effect_ = 0;  // the last revision that kube-proxy was verified with
  bool wanted_ = false;
  bool drains_ = false;  // what is open is to end first
  std::optional<TimePoint> began_;
  std::string waits_for_;
};

// Of this node.
KubeProxyBridge::Node ThisBridge(std::function<std::string(const kube::ProxySettings&)> why_not);

}  // namespace pointsman::agent

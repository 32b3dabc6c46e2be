// A kube-proxy that the operator configures serves this node (NodeProxy.spec.provider: KubeProxy):
// what it says of itself, and what it has in the kernel. docs/kube-proxy-provider.md has the whole.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kube/pointsman/node_proxy.h"
#include "node-agent/agent/provider_state.h"
#include "node-agent/handover/mode_environment.h"
#include "node-agent/handover/mode_state.h"
#include "node-agent/kube_proxy/served.h"
#include "node-agent/model/service_model.h"
#include "node-agent/preflight/preflight.h"

namespace pointsman::agent {

// Not thread-safe: the sync thread owns it. A look waits for kube-proxy's answers, at most some
// seconds; this thread has nothing else to do meanwhile.
class StockKubeProxy {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  // How often it is looked at until it is verified, and then; of the first looks as much time as
  // one takes lies between two at least.
  static constexpr std::chrono::seconds kPoll{2};
  static constexpr std::chrono::seconds kWatch{10};
  // What fails so often in a row is told: less is a restart.
  static constexpr int kFailures = 3;

  struct Node {
    // Of the mode, with its modules loaded.
    std::function<PreflightResult(const kube::ProxySettings&)> preflight;
    // The body of what GET of that path answers with 200, at one of those ("http://10.0.0.1:80").
    // Throws std::runtime_error with what is the matter.
    std::function<std::string(const std::vector<std::string>& servers, const char* path)> get;
    std::function<kube_proxy::Served(kube::Mode)> served;
  };
  explicit StockKubeProxy(Node node) : node_(std::move(node)) {}

  // `spec` asks for it; of IPv6 Services nothing is expected where the node has no IPv6. Throws
  // nothing of what can be wrong with kube-proxy.
  void Look(const kube::NodeProxySpec& spec, const ServiceModel& model, bool ipv6, TimePoint now);
  // It is not asked for (any more).
  void Forget();
  // Its restart is not to come yet; `why`: for a person, "": it may. Until the next look.
  void WaitFor(const std::string& why);

  // As if its modes were the agent's own.
  const ModeState& state() const { return state_; }
  // What was asked for is so: it answers as healthy and in the mode, and the kernel has had every
  // cluster IP with its endpoints since.
  bool InEffect() const { return verified_ && !state_.failed; }
  // What the last look has found; nullopt: there was none yet.
  const std::optional<StockFinding>& found() const { return found_; }
  // Service ports of which not all endpoints have been seen in the kernel yet; nullopt: it has not
  // been read yet.
  std::optional<size_t> MissingServicePorts() const;
  // When it is to be looked at again; max: never.
  TimePoint due() const { return due_; }

 private:
  void Ask(const kube::NodeProxySpec& spec, const ServiceModel& model, bool ipv6);
  std::string WhyNotServed(const ServiceModel& model, bool ipv6, kube::Mode mode);
  void Unverified(std::string why);
  void Trouble(std::string why);

  const Node node_;
  std::optional<kube::NodeProxySpec> asked_;
  ModeState state_;
  std::optional<StockFinding> found_;
  bool verified_ = false;
  int failures_ = 0;
  // What has not been seen with its endpoints yet; nullopt: not looked at yet.
  std::optional<std::vector<ServicePortId>> missing_;
  TimePoint due_ = TimePoint::max();
};

// This kernel, and HTTP to this node's own addresses.
StockKubeProxy::Node ThisKubeProxy(
    const std::string& modules_root,
    std::function<PreflightResult(const kube::ProxySettings&)> preflight);

// Where what listens at kube-proxy's healthzBindAddress or metricsBindAddress is reached from this
// node, best first: "0.0.0.0:10256" → "http://127.0.0.1:10256". Empty: nothing listens there. With
// "" kube-proxy's default, which depends on its family. `default_port`: where the text has none.
std::vector<std::string> ServersAt(const std::string& bind_address, uint16_t default_port);

// Could this node run a kube-proxy in settings.mode? The modules that are there to be loaded are
// loaded: kube-proxy itself often cannot. Throws as ModeEnvironment.
PreflightResult PreflightOfKubeProxy(ModeEnvironment& environment,
                                     const kube::ProxySettings& settings);
// Its neighbours are the cluster's own matter: it has them already.
kube::ProxySettings WithoutNeighbours(kube::ProxySettings settings);

}  // namespace pointsman::agent

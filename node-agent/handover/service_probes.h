// Judges a handover by TCP connections from this node to the API server and to some Services.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "kube/net/socket_address.h"
#include "kube/pointsman/mode.h"
#include "node-agent/handover/probe.h"
#include "node-agent/handover/traffic_check.h"
#include "node-agent/model/service_model.h"

namespace pointsman::agent {

// What a connection to a Service proves differs from mode to mode: the kernel's modes choose an
// endpoint blindly, and the connection opens if that one accepts it; in userspace mode it always
// opens, and the forwarder tries several endpoints before it resets it (ModeTraits::
// endpoint_accepts_within). So the endpoints themselves are the measure, which no mode stands
// before: a Service is probed only if each of its endpoints accepts a direct connection from this
// node. Then it must answer in every mode, and one that does not shows the mode's fault and not an
// endpoint's. And where an open connection proves nothing yet, it must become of it what became of
// the endpoints' own: they spoke (data or an orderly end, once the client has sent its end), or
// were silent; then it must not be reset in the time in which the forwarder finds no endpoint.
//
// Only cluster IPs: no mode has a further rule for these (source ranges, local policies, node ports
// on localhost) that would let this node in and others not.
class ServiceProbes final : public TrafficCheck {
 public:
  // Enough to notice that Services do not answer, few enough to take no time.
  static constexpr size_t kMaxServices = 8;
  static constexpr size_t kMaxEndpoints = 8;  // a Service with more is not probed
  static constexpr std::chrono::milliseconds kTimeout{1000};

  // `api_server`: its address; nullopt: not known as one, and not probed.
  explicit ServiceProbes(std::optional<net::IpPort> api_server) : api_server_(api_server) {}

  size_t Before(kube::Mode from, kube::Mode to, const ServiceModel& model) override;
  std::vector<std::string> AfterSwitch() override;

 private:
  struct Target {
    std::string name;  // "the API server at 10.0.0.1:6443", "default/web:http/TCP/IPv4 at …"
    net::IpPort place;
    std::vector<net::IpPort> endpoints;  // none: it is not a Service's
    ProbeOutcome expected = ProbeOutcome::kSilent;
  };

  std::vector<Target> Choose(const ServiceModel& model) const;
  // Those each of whose endpoints answers, with what to expect of them.
  std::vector<Target> WithLiveEndpoints(std::vector<Target> targets) const;
  // Of targets_, through the Services, in `mode`.
  std::vector<ProbeOutcome> Run(kube::Mode mode) const;
  static bool Passes(kube::Mode mode, ProbeOutcome outcome, ProbeOutcome expected);

  const std::optional<net::IpPort> api_server_;
  kube::Mode to_{};
  ProbeDepth depth_ = ProbeDepth::kOpen;
  std::vector<Target> targets_;  // that passed in Before
};

}  // namespace pointsman::agent

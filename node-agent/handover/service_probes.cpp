#include "node-agent/handover/service_probes.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "node-agent/dataplane/mode_traits.h"

namespace pointsman::agent {
namespace {

bool OpensOnlyWithAnEndpoint(kube::Mode mode) {
  return TraitsOf(mode).endpoint_accepts_within.count() == 0;
}

}  // namespace

std::vector<ServiceProbes::Target> ServiceProbes::Choose(const ServiceModel& model) const {
  std::vector<Target> targets;
  if (api_server_) {
    targets.push_back({.name = fmt::format("the API server at {}", api_server_->ToString()),
                       .place = *api_server_});
  }
  for (const auto& [id, entry] : model.entries) {
    const std::vector<Backend>& backends = entry->internal.backends;
    if (id.protocol != Protocol::kTcp || backends.empty() || backends.size() > kMaxEndpoints)
      continue;
    const net::IpPort place{entry->cluster_ip, entry->port};
    // Pods know the API server by the address of a Service.
    const bool api_server = api_server_ == place;
    if (!api_server && targets.size() > kMaxServices) continue;
    if (!api_server) {
      targets.push_back(
          {.name = fmt::format("{} at {}", id.ToString(), place.ToString()), .place = place});
    }
    Target& target = api_server ? targets.front() : targets.back();
    for (const Backend& backend : backends)
      target.endpoints.push_back({backend.ip, backend.port});
  }
  return targets;
}

std::vector<ServiceProbes::Target> ServiceProbes::WithLiveEndpoints(
    std::vector<Target> targets) const {
  std::vector<net::IpPort> endpoints;
  for (const Target& target : targets)
    endpoints.insert(endpoints.end(), target.endpoints.begin(), target.endpoints.end());
  const std::vector<ProbeOutcome> outcomes = RunTcpProbes(endpoints, depth_, kTimeout);
  std::vector<Target> live;
  auto first = outcomes.begin();
  for (Target& target : targets) {
    const auto end = first + static_cast<std::ptrdiff_t>(target.endpoints.size());
    if (first != end) target.expected = *std::min_element(first, end);
    first = end;
    // A reset of the endpoint's own cannot be told from the forwarder's.
    if (target.expected > ProbeOutcome::kReset) {
      live.push_back(std::move(target));
    } else {
      spdlog::debug("{} is not probed: not all of its endpoints answer", target.name);
    }
  }
  return live;
}

std::vector<ProbeOutcome> ServiceProbes::Run(kube::Mode mode) const {
  std::vector<net::IpPort> places;
  places.reserve(targets_.size());
  for (const Target& target : targets_)
    places.push_back(target.place);
  return RunTcpProbes(places, depth_, kTimeout + TraitsOf(mode).endpoint_accepts_within);
}

bool ServiceProbes::Passes(kube::Mode mode, ProbeOutcome outcome, ProbeOutcome expected) {
  return OpensOnlyWithAnEndpoint(mode) ? outcome != ProbeOutcome::kNotOpened : outcome >= expected;
}

size_t ServiceProbes::Before(kube::Mode from, kube::Mode to, const ServiceModel& model) {
  to_ = to;
  // When only the mode before goes, how the other one treats endpoints is as it was.
  depth_ = from == to || (OpensOnlyWithAnEndpoint(from) && OpensOnlyWithAnEndpoint(to))
               ? ProbeDepth::kOpen
               : ProbeDepth::kResponse;
  targets_ = WithLiveEndpoints(Choose(model));
  const std::vector<ProbeOutcome> outcomes = Run(from);
  std::vector<Target> passing;
  for (size_t i = 0; i < targets_.size(); ++i) {
    Target& target = targets_[i];
    if (target.endpoints.empty()) target.expected = outcomes[i];  // its own measure
    if (target.expected > ProbeOutcome::kReset && Passes(from, outcomes[i], target.expected))
      passing.push_back(std::move(target));
  }
  targets_ = std::move(passing);
  return targets_.size();
}

std::vector<std::string> ServiceProbes::AfterSwitch() {
  const std::vector<ProbeOutcome> outcomes = Run(to_);
  std::vector<std::string> failed;
  for (size_t i = 0; i < targets_.size(); ++i) {
    if (!Passes(to_, outcomes[i], targets_[i].expected)) failed.push_back(targets_[i].name);
  }
  return failed;
}

}  // namespace pointsman::agent

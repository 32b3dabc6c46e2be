#include "node-agent/agent/neighbour_announcer.h"

#include <algorithm>

namespace pointsman::agent {
namespace {

// Whose row in the table of neighbours (neighbour_table.cpp) Felix is.
bool IsFelixAccepted(const kube::ProxySettings& settings) {
  const auto& accept = settings.neighbours.accept;
  return std::find(accept.begin(), accept.end(), "calico") != accept.end();
}

}  // namespace

Readiness NeighbourAnnouncer::Announce(kube::Mode mode, const kube::ProxySettings& settings) {
  if (mode != kube::Mode::kIpvs) return {};
  return {.waits_for = ipvs_.Give(), .required = !IsFelixAccepted(settings)};
}

Readiness NeighbourAnnouncer::Renew(kube::Mode mode, const kube::ProxySettings& settings) {
  if (mode != kube::Mode::kIpvs) return {};
  return {.waits_for = ipvs_.Keep(), .required = !IsFelixAccepted(settings)};
}

void NeighbourAnnouncer::Withdraw(kube::Mode mode) {
  if (mode == kube::Mode::kIpvs) ipvs_.TakeBack();
}

}  // namespace pointsman::agent

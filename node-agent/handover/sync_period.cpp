#include "node-agent/handover/sync_period.h"

namespace pointsman::agent {
namespace {

template <typename Of>
kube::Duration ForMode(const kube::ProxySettings& settings, kube::Mode mode, const Of& of) {
  switch (mode) {
    case kube::Mode::kIpvs:
      return of(settings.ipvs);
    case kube::Mode::kNftables:
      return of(settings.nftables);
    case kube::Mode::kIptables:
    case kube::Mode::kUserspace:
      break;
  }
  return of(settings.iptables);
}

}  // namespace

kube::Duration SyncPeriod(const kube::ProxySettings& settings, kube::Mode mode) {
  return ForMode(settings, mode, [](const auto& of_mode) { return of_mode.sync_period; });
}

kube::Duration MinSyncPeriod(const kube::ProxySettings& settings, kube::Mode mode) {
  return ForMode(settings, mode, [](const auto& of_mode) { return of_mode.min_sync_period; });
}

}  // namespace pointsman::agent

#include "node-agent/dataplane/mode_traits.h"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <stdexcept>
#include <string>

namespace pointsman::agent {
namespace {

template <auto Of>
constexpr ModeTraits Traits(kube::Mode mode, bool uses_iptables,
                            const char* failed_syncs_metric = nullptr,
                            std::chrono::milliseconds endpoint_accepts_within = {}) {
  return {.mode = mode,
          .uses_iptables = uses_iptables,
          .endpoint_accepts_within = endpoint_accepts_within,
          .sync_period = [](const kube::ProxySettings& s) { return (s.*Of).sync_period; },
          .min_sync_period = [](const kube::ProxySettings& s) { return (s.*Of).min_sync_period; },
          .failed_syncs_metric = failed_syncs_metric};
}

constexpr ModeTraits kModes[] = {
    Traits<&kube::ProxySettings::iptables>(kube::Mode::kIptables, true),
    Traits<&kube::ProxySettings::ipvs>(kube::Mode::kIpvs, true),
    Traits<&kube::ProxySettings::nftables>(
        kube::Mode::kNftables, false, "kubeproxy_sync_proxy_rules_nftables_sync_failures_total"),
    // forwarder/tcp_relay.h, kGivesUpAfter
    Traits<&kube::ProxySettings::iptables>(kube::Mode::kUserspace, true, nullptr,
                                           std::chrono::milliseconds(3750)),
};

}  // namespace

std::span<const ModeTraits> AllModes() {
  return kModes;
}

const ModeTraits& TraitsOf(kube::Mode mode) {
  const auto* const found =
      std::find_if(std::begin(kModes), std::end(kModes),
                   [mode](const ModeTraits& traits) { return traits.mode == mode; });
  if (found == std::end(kModes))
    throw std::logic_error("mode " + std::string(kube::ToString(mode)) + " is not in the table");
  return *found;
}

}  // namespace pointsman::agent

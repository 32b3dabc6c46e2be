#include "node-agent/agent/kube_proxy_return.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "node-agent/kube_proxy/removal.h"

namespace pointsman::agent {

std::string KubeProxyReturn::WhyWait(const ServiceModel& model, bool ipv6, kube::Duration at_most,
                                     TimePoint now) {
  constexpr std::array kModes{kube::Mode::kIptables, kube::Mode::kNftables, kube::Mode::kIpvs};
  if (kernel_.traces().empty()) return "";
  if (!began_) {
    began_ = grew_ = now;
    most_ = 0;
  }
  size_t expected = 0;
  for (const auto& [id, entry] : model.entries) {
    if (kube_proxy::IsExpected(*entry, ipv6)) ++expected;
  }
  size_t served = 0;
  for (const kube::Mode mode : kModes) {
    const kube_proxy::Served there = kernel_.served(mode);
    const auto count =
        std::count_if(model.entries.begin(), model.entries.end(), [&](const auto& of) {
          return kube_proxy::IsExpected(*of.second, ipv6) && kube_proxy::Has(there, *of.second);
        });
    served = std::max(served, static_cast<size_t>(count));
  }
  if (served > most_) {
    most_ = served;
    grew_ = now;
  }
  if (served >= expected) return "";
  const bool stands = served > 0 && now - grew_ >= kStands;
  if (stands || now - *began_ >= at_most) {
    spdlog::warn(
        "kube-proxy is back with {} of {} ports of Services; the others are not waited for", served,
        expected);
    return "";
  }
  return fmt::format("kube-proxy, which is back, has {} of {} ports of Services in the kernel yet",
                     served, expected);
}

KubeProxyReturn::Kernel ThisReturn(const std::string& modules_root) {
  return {.traces = [modules_root] { return kube_proxy::Traces(modules_root); },
          .served = [modules_root](
                        kube::Mode mode) { return kube_proxy::ReadServed(mode, modules_root); }};
}

}  // namespace pointsman::agent

#include "node-agent/agent/kube_proxy_bridge.h"

#include <exception>
#include <utility>

#include <spdlog/spdlog.h>

#include "node-agent/agent/kube_proxy_removal.h"

namespace pointsman::agent {
namespace {

// pkg/proxy, platformCleanup: a start in mode nftables removes what the others have, and one in
// another mode what nftables mode has. Between iptables and ipvs nothing is removed.
bool RemovesItsOwn(std::optional<kube::Mode> runs, kube::Mode desired) {
  if (!runs) return true;  // whatever it ran, it serves nothing new now
  return *runs != desired && (*runs == kube::Mode::kNftables || desired == kube::Mode::kNftables);
}

}  // namespace

kube::ProxySettings KubeProxyBridge::Settings(kube::ProxySettings of_kube_proxy) {
  of_kube_proxy.mode = kMode;
  of_kube_proxy.fallback_modes.clear();
  return of_kube_proxy;
}

void KubeProxyBridge::Prepared(const char* how) {
  if (prepared_ != revision_)
    spdlog::info("kube-proxy may be restarted for revision {}: {}", revision_, how);
  prepared_ = revision_;
  waits_for_.clear();
}

void KubeProxyBridge::Forget() {
  wanted_ = false;
  revision_ = 0;
  began_.reset();
  waits_for_.clear();
}

std::string KubeProxyBridge::WhyNot(const kube::NodeProxySpec& spec) const {
  try {
    return node_.why_not(Settings(spec.settings));
  } catch (const std::exception& error) {
    return error.what();
  }
}

void KubeProxyBridge::Look(const kube::NodeProxySpec& spec, std::optional<kube::Mode> runs,
                           bool verified, TimePoint now) {
  const bool begins = revision_ != spec.revision;
  revision_ = spec.revision;
  if (verified) {
    in_effect_ = revision_;
    wanted_ = false;
    return Prepared("it does already what is asked");
  }
  if (begins) {
    began_.reset();
    waits_for_.clear();
    drains_ = spec.settings.mode != kube::Mode::kIpvs;
    // The agent before this one has prepared it: kube-proxy may be in the middle of its restart.
    const bool under_way = prepared_ == revision_ && in_effect_ != revision_;
    if (under_way && WhyNot(spec).empty()) wanted_ = true;
  }
  if (wanted_ || prepared_ == revision_) return;
  if (!RemovesItsOwn(runs, spec.settings.mode))
    return Prepared("what it has in the kernel stays until the new rules are there");
  if (const std::string why_not = WhyNot(spec); !why_not.empty()) {
    spdlog::warn("nothing can serve while kube-proxy restarts into mode {}: {}",
                 kube::ToString(spec.settings.mode), why_not);
    return Prepared("Services will not answer meanwhile");
  }
  spdlog::info("rules of nftables mode serve while kube-proxy restarts into mode {}",
               kube::ToString(spec.settings.mode));
  wanted_ = true;
  began_ = now;
}

void KubeProxyBridge::Wrote(const std::string& problem, kube::Duration drain_timeout,
                            TimePoint now) {
  if (prepared_ == revision_) return;
  if (!began_) began_ = now;
  if (!problem.empty()) {
    if (now - *began_ >= kPatience) {
      spdlog::warn("kube-proxy is not kept from its restart any longer: {}", problem);
      return Prepared("Services may not answer meanwhile");
    }
    waits_for_ = "rules that serve meanwhile cannot be written: " + problem;
    return;
  }
  const uint64_t open = drains_ ? node_.open(waits_for_.empty()) : 0;
  if (open == 0) return Prepared("rules of Pointsman's serve meanwhile");
  if (now - *began_ >= drain_timeout) {
    spdlog::warn("{} connections through kube-proxy's virtual servers are open still", open);
    return Prepared("drainTimeout is over");
  }
  // Without the number: it changes all the time, and each change would be written.
  waits_for_ = "connections through its virtual servers end first";
}

KubeProxyBridge::Node ThisBridge(std::function<std::string(const kube::ProxySettings&)> why_not) {
  return {.why_not = std::move(why_not), .open = OpenThroughKubeProxysServers};
}

}  // namespace pointsman::agent

#include "node-agent/agent/kube_proxy_removal.h"

#include <algorithm>
#include <exception>
#include <iterator>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include "node-agent/agent/kube_proxy_cleanup.h"
#include "node-agent/kube_proxy/removal.h"

namespace pointsman::agent {

void KubeProxyRemoval::Continue(const std::optional<kube::KubeProxyStatus>& said) {
  // All else is found out again, or begins again.
  if (!status_ && said && said->state == kube::kKubeProxyRemoved) status_ = said;
}

void KubeProxyRemoval::Wait(const char* state, std::string message, TimePoint due) {
  status_ = {state, std::move(message)};
  due_ = due;
}

void KubeProxyRemoval::Look(bool asked, TimePoint heard, std::string why_not,
                            kube::Duration drain_timeout, TimePoint now) {
  if (!asked) {
    status_.reset();
    began_.reset();
    seen_.reset();
    kept_.reset();
    due_ = TimePoint::max();
    return;
  }
  if (why_not.empty() && heard < now - kOrderHolds)
    why_not = "nothing was heard of the API server for minutes, and kube-proxy may be to come back";
  // Not removed a second time: what wrote it would write it again.
  if (status_ && status_->state == kube::kKubeProxyReturned) return;
  if (due_ != TimePoint::max() && now < due_ && (kept_ || why_not.empty())) return;
  try {
    if (kept_) return Watch(now);
    if (!why_not.empty()) {
      began_.reset();
      // The sync that brings it comes by here.
      due_ = TimePoint::max();
      if (!status_ || status_->state != kube::kKubeProxyRemoved)
        status_ = {kube::kKubeProxyNotRemoved, "kube-proxy's rules stay: " + why_not};
      return;
    }
    Remove(drain_timeout, now);
  } catch (const std::exception& error) {
    if (kept_) {
      due_ = now + kWatch;  // nothing says that it is back
      spdlog::warn("cannot look whether kube-proxy's rules are back: {}", error.what());
    } else {
      Wait(kube::kKubeProxyNotRemoved, error.what(), now + kRetry);
    }
  }
}

void KubeProxyRemoval::Remove(kube::Duration drain_timeout, TimePoint now) {
  if (const std::string seen = kernel_.runs(); !seen.empty()) {
    began_.reset();
    // The agent before this one may still have the port.
    if (status_ && status_->state == kube::kKubeProxyRemoved && kernel_.traces().empty()) {
      due_ = now + kPoll;
      return;
    }
    // Whether it is about to end, or is not the API's to end, is the operator's to know.
    if (!seen_) seen_ = now;
    return Wait(kube::kKubeProxyRunning, "kube-proxy runs on this node: " + seen,
                now + (now - *seen_ < kEnds ? kPoll : std::chrono::seconds(kRetry)));
  }
  seen_.reset();
  const bool first = !began_;
  if (first) began_ = now;
  const uint64_t open = kernel_.open(first);
  if (open > 0 && now < *began_ + drain_timeout) {
    // Without the number: it changes all the time, and each change would be written.
    return Wait(kube::kKubeProxyDraining,
                "connections through kube-proxy's virtual servers are open yet", now + kPoll);
  }
  const std::vector<std::string> failed = kernel_.remove();
  if (!failed.empty()) {
    for (const std::string& what : failed)
      spdlog::warn("kube-proxy's {} could not be removed", what);
    return Wait(
        kube::kKubeProxyNotRemoved,
        fmt::format("could not be removed, and is tried again: {}", fmt::join(failed, "; ")),
        now + kRetry);
  }
  kept_ = kernel_.traces();
  spdlog::info("{}", kernel_.gone);
  Wait(kube::kKubeProxyRemoved, "", now + kWatch);
}

void KubeProxyRemoval::Watch(TimePoint now) {
  const std::vector<std::string> traces = kernel_.traces();
  std::vector<std::string> back;
  std::set_difference(traces.begin(), traces.end(), kept_->begin(), kept_->end(),
                      std::back_inserter(back));
  if (back.empty()) {
    due_ = now + kWatch;
    return;
  }
  spdlog::warn("kube-proxy has written to the kernel again: {}", fmt::join(back, "; "));
  Wait(kube::kKubeProxyReturned,
       fmt::format("kube-proxy has written its rules again, which stay: {}. It runs on this node: "
                   "stop it there, and restart the node agent's Pod",
                   fmt::join(back, "; ")),
       TimePoint::max());
}

uint64_t OpenThroughKubeProxysServers(bool first) {
  return kube_proxy::OpenConnections(PointsmansServers(), first);
}

KubeProxyRemoval::Kernel ThisKernel(const std::string& modules_root,
                                    std::function<std::string()> port_taken) {
  return {.runs = [port_taken = std::move(port_taken)]() -> std::string {
            if (const int pid = kube_proxy::RunningKubeProxy(); pid != 0)
              return fmt::format("process {}", pid);
            const std::string port = port_taken();
            return port.empty() ? "" : fmt::format("another program has its port for {}", port);
          },
          .open = OpenThroughKubeProxysServers,
          .remove =
              [modules_root] {
                kube_proxy::RemovalOptions options = BesidePointsman(modules_root);
                options.drain_timeout = {};  // they were waited for
                options.tell = [](const std::string& what) {
                  spdlog::info("kube-proxy: {}", what);
                };
                return kube_proxy::RemoveLeftovers(options, {});
              },
          .traces = [modules_root] { return kube_proxy::Traces(modules_root); }};
}

KubeProxyRemoval::Kernel ThisFormerMode(const std::string& modules_root,
                                        const std::function<kube::Mode()>& mode) {
  return {.runs = [] { return std::string(); },
          .open =
              [mode](bool first) {
                return mode() == kube::Mode::kIpvs ? 0 : OpenThroughKubeProxysServers(first);
              },
          .remove =
              [modules_root, mode] {
                kube_proxy::RemovalOptions options = BesidePointsman(modules_root);
                options.running = mode();
                options.drain_timeout = {};  // they were waited for
                options.tell = [](const std::string& what) {
                  spdlog::info("kube-proxy: {}", what);
                };
                return kube_proxy::RemoveLeftovers(options, {});
              },
          // It writes what is its mode's own, all the time.
          .traces = [] { return std::vector<std::string>(); },
          .gone = "nothing of kube-proxy's former modes is in the kernel any more"};
}

}  // namespace pointsman::agent

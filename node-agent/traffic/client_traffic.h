// Judges a step of a handover by what clients outside this node's own network namespace do: pods,
// and machines that come from elsewhere. What this node's own connections show is ServiceProbes'.
//
// TCP only. A datagram that is not answered means nothing by itself, and each protocol on UDP means
// something else by it.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "kube/net/socket_address.h"
#include "kube/pointsman/mode.h"
#include "node-agent/handover/traffic_check.h"
#include "node-agent/model/service_model.h"
#include "node-agent/traffic/attempts.h"
#include "node-agent/traffic/connection_tap.h"
#include "node-agent/traffic/service_places.h"

namespace pointsman::agent {

struct Worse;

// Of this process, for metrics. Grow only. Thread-safe: each is counted for itself.
struct WatchedTraffic {
  std::atomic<uint64_t> answered{0};    // new connections of clients to Services
  std::atomic<uint64_t> unanswered{0};  // reset, or not answered in time
  std::atomic<uint64_t> lost{0};        // packets that there was no room for
  std::atomic<uint64_t> failures{0};    // watches that could not be
};
WatchedTraffic& ProcessWatchedTraffic();

// Before a step new connections to Services are watched (ConnectionTap) for Windows::before, after
// it for Windows::after, and compared (comparison.h). A Service that looks worse is held against
// the step only if each of its endpoints accepts a direct connection from this node at that moment,
// and those do that it had before: else it may be these. And only if two clients meet it, or no
// client of any Service is answered any more: one that is cut off alone may have been meant to.
//
// A step that needs no judge is not held up: without a Service, or a watched connection that was
// answered before, nothing is waited for. Where the kernel gives no packet socket that is
// logged and counted, and the handover goes on without this judge.
//
// Costs, however many connections the node tracks: the tap's ring while it watches; a tick takes
// what is in it. Packets that it had no room for make the rest no evidence, but no harm.
class ClientTraffic final : public TrafficCheck {
 public:
  using Clock = std::function<std::chrono::steady_clock::time_point()>;
  struct Windows {
    std::chrono::milliseconds before{4000};
    std::chrono::milliseconds after{8000};
    // What is not answered for so long stays unanswered. The client has asked three times then
    // (RFC 6298: after 1 s and after 3 s).
    std::chrono::milliseconds answer_within{3500};
    // How often after the step it is compared, once answer_within is over.
    std::chrono::milliseconds compare{1000};
  };
  static constexpr size_t kMaxEndpoints = 32;  // of a Service, asked directly
  static constexpr size_t kMaxSuspects = 4;    // Services whose endpoints are asked at once

  ClientTraffic(Windows windows, Clock clock) : windows_(windows), clock_(std::move(clock)) {}

  bool SeenEnough(const ServiceModel& model) override;
  size_t Before(kube::Mode from, kube::Mode to, const ServiceModel& model) override;
  std::vector<std::string> AfterSwitch() override;
  std::optional<std::vector<std::string>> Verdict(const ServiceModel& model) override;
  // What fails where an endpoint does not answer this node either is left out.
  TrafficFigures Figures() override { return figures_; }
  void Stop() override;

 private:
  using TimePoint = std::chrono::steady_clock::time_point;
  enum class Phase : uint8_t { kIdle, kBefore, kStep, kAfter };

  bool Open(const ServiceModel& model);
  // False: it cannot be read any more.
  bool Read();
  void Take(const Segment& segment, bool leaves, TimePoint at);
  std::vector<Worse> Suspects(const ServiceModel& model) const;
  // Of these, those whose endpoints all answer.
  std::vector<std::string> HeldAgainst(const std::vector<Worse>& suspects,
                                       const ServiceModel& model);
  // Whether each endpoint of the Service at that place answers, for each.
  std::vector<bool> EndpointsAnswer(const std::vector<net::IpPort>& places,
                                    const ServiceModel& model) const;
  TrafficFigures Compared(const ServiceModel& model) const;
  void CountOutcomes(const PlaceOutcomes& outcomes) const;
  std::string Describe(const Worse& worse) const;
  // For a person: whether these are one namespace's, while clients of others' Services are
  // answered; "" if not.
  std::string OneNamespaceAlone(const std::vector<const Worse*>& worse) const;

  const Windows windows_;
  const Clock clock_;
  Phase phase_ = Phase::kIdle;
  TimePoint begun_{};
  TimePoint next_comparison_{};
  TimePoint last_read_{};
  std::unique_ptr<ConnectionTap> tap_;
  ServicePlaces places_;
  std::unique_ptr<Attempts> attempts_;
  PlaceOutcomes before_;
  TrafficFigures figures_;
  std::unordered_set<net::IpPort, IpPortHash> cleared_;  // suspects with dead endpoints
  bool told_ = false;                                    // that there can be no watch
};

}  // namespace pointsman::agent

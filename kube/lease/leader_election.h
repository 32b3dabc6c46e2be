// Leader election by a coordination.k8s.io Lease, with client-go's rules: the holder renews, others
// watch the renewals by their own clock (never comparing wall clocks of two machines) and take over
// when none was seen for the lease duration.
#pragma once

#include <chrono>
#include <functional>
#include <stop_token>
#include <string>

#include "kube/client/client.h"
#include "kube/time/time_source.h"

namespace pointsman::kube {

struct LeaderElectionOptions {
  std::string ns;
  std::string name;
  std::string identity;  // unique per process
  // client-go's defaults.
  std::chrono::milliseconds lease_duration{15'000};
  std::chrono::milliseconds renew_deadline{10'000};
  std::chrono::milliseconds retry_period{2'000};
};

// What the elected one knows of its leadership. Thread-safe; lives as long as the call of `lead`.
class Leadership {
 public:
  virtual ~Leadership() = default;
  // Requested when leadership is lost or the program is asked to stop.
  virtual std::stop_token stop() const = 0;
  // Whether the lease is still ours: nobody else was seen to hold it, and renew_deadline has not
  // passed since the last renewal was sent, by the clock as it is now. Asked before each write it
  // also holds a process back that was itself stopped for a while (SIGSTOP, a starved machine): the
  // thread that requests stop() may not have run yet.
  virtual bool Held() const = 0;
};

// Blocks until `stop`. When elected calls `lead` on a thread of its own; returns after `lead`
// returned. Returns true when `stop` was requested, false when leadership was lost (the caller
// exits and restarts clean). On a requested stop the lease is released (holderIdentity "") so that
// a successor need not wait; until `lead` has returned it is renewed, so that no successor starts
// beside it. When `lead` returns of itself the lease is released and the result is whether `stop`
// was requested; what it throws is thrown on. Leadership counts as lost when renew_deadline has
// passed since the last renewal was sent, whatever the request under way does, or when another
// holder is seen. Failures to reach the server are logged and tried again. Throws
// std::invalid_argument unless lease_duration > renew_deadline > retry_period > 0 and ns, name and
// identity are given.
bool RunWithLeaderElection(Client& client, const LeaderElectionOptions& options,
                           const std::function<void(const Leadership&)>& lead, std::stop_token stop,
                           TimeSource& time = TimeSource::Real());

}  // namespace pointsman::kube

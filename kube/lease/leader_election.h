// Leader election by a coordination.k8s.io Lease, with client-go's rules: the holder renews, others
// watch the renewals by their own clock (never comparing wall clocks of two machines) and take over
// when none was seen for the lease duration.
#pragma once

#include <chrono>
#include <functional>
#include <stop_token>
#include <string>

#include "kube/client/client.h"

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

// Blocks until `stop`. When elected calls `lead` on a thread of its own with a stop_token that is
// requested when leadership is lost or `stop` is; returns after `lead` returned. Returns true when
// `stop` was requested, false when leadership was lost (the caller exits and restarts clean). On a
// requested stop the lease is released (holderIdentity "") so that a successor need not wait; until
// `lead` has returned it is renewed, so that no successor starts beside it. When `lead` returns of
// itself the lease is released and the result is whether `stop` was requested; what it throws is
// thrown on. Leadership counts as lost when renew_deadline has passed since the last renewal was
// sent, whatever the request under way does, or when another holder is seen. Failures to reach the
// server are logged and tried again. Throws std::invalid_argument unless lease_duration >
// renew_deadline > retry_period > 0 and ns, name and identity are given.
bool RunWithLeaderElection(Client& client, const LeaderElectionOptions& options,
                           const std::function<void(std::stop_token)>& lead, std::stop_token stop);

}  // namespace pointsman::kube

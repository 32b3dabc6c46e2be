// What a ProxyConfiguration says of itself: counts, phase and conditions from a rollout's state.
#pragma once

#include "operator/plan/actions.h"
#include "operator/plan/rollout.h"

namespace pointsman::op {

// Phases: where the rollout is, in a word.
namespace phase {
inline constexpr const char* kPending = "Pending";          // nothing to do, or not begun
inline constexpr const char* kRejected = "Rejected";        // the specification is not acted on
inline constexpr const char* kPreflight = "Preflight";      // waiting for agents' answers
inline constexpr const char* kCanary = "Canary";            // the first nodes change, and soak
inline constexpr const char* kRollingOut = "RollingOut";    //
inline constexpr const char* kComplete = "Complete";        //
inline constexpr const char* kPaused = "Paused";            // by the user
inline constexpr const char* kDegraded = "Degraded";        // stopped, a person has to look
inline constexpr const char* kRollingBack = "RollingBack";  //
inline constexpr const char* kRolledBack = "RolledBack";    //
inline constexpr const char* kRemoving = "Removing";        // being deleted
}  // namespace phase

kube::ProxyConfigurationStatus StatusOf(const Group& group, const RolloutState& state,
                                        const KubeProxy& kube_proxy, kube::TimePoint now);
// Of one whose specification is not acted on.
kube::ProxyConfigurationStatus RejectedStatus(const Group& group, kube::TimePoint now);
// Of one whose first revision is being written down.
kube::ProxyConfigurationStatus PendingStatus(const Group& group, kube::TimePoint now);
// Of one that is being deleted; `left` NodeProxies still carry its name, and on `awaited` nodes
// ours waits for kube-proxy.
kube::ProxyConfigurationStatus RemovingStatus(const Group& group, size_t left,
                                              const std::vector<std::string>& awaited,
                                              kube::TimePoint now);

// What a person would want to know of the change from the configuration's status to `next`. `mode`:
// of its update revision.
std::vector<PlannedEvent> EventsOf(const kube::ProxyConfiguration& configuration,
                                   const kube::ProxyConfigurationStatus& next, kube::Mode mode);

}  // namespace pointsman::op

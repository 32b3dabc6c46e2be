// The bounds of the settings, the same in the schemas of the CRDs (crds/crds_test.cpp checks it).
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <string_view>

#include "kube/pointsman/proxy_settings.h"

namespace pointsman::kube::limits {

// Schedulers of net/netfilter/ipvs, each a module ip_vs_<name>. The one list of them: of the
// configuration, of KubeProxyConfiguration files and of Services' annotations. Whether a node's
// kernel was built with one is for that node to say (Debian's has no twos).
inline constexpr std::array<std::string_view, 14> kIpvsSchedulers = {
    "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "mh", "sed", "nq", "fo", "ovf", "twos"};
constexpr bool IsIpvsScheduler(std::string_view name) {
  return std::find(kIpvsSchedulers.begin(), kIpvsSchedulers.end(), name) != kIpvsSchedulers.end();
}
// "rr, wrr, …", for messages.
inline constexpr std::string_view kIpvsSchedulerWords =
    "rr, wrr, lc, wlc, lblc, lblcr, dh, sh, mh, sed, nq, fo, ovf, twos";

inline constexpr Duration kMinSyncPeriod = std::chrono::seconds(1);
inline constexpr Duration kMaxSyncPeriod = std::chrono::hours(24);
// The kernel keeps these as jiffies in an int: INT_MAX / HZ(1000) is 24.8 days
// (ip_vs_ctl.c, ip_vs_set_timeout; nf_conntrack_standalone.c).
inline constexpr Duration kMaxKernelTimeout = std::chrono::hours(576);
inline constexpr Duration kMaxDrainTimeout = std::chrono::hours(24);
inline constexpr Duration kMaxUdpIdleTimeout = std::chrono::hours(24);
inline constexpr int64_t kMaxMasqueradeBit = 31;
inline constexpr int64_t kMaxConntrack = INT32_MAX;
// Every integer up to here is exact in a JSON reader that knows doubles only (RFC 8259, 6).
inline constexpr int64_t kMaxRevision = int64_t{1} << 53;
inline constexpr int64_t kMaxPriority = 1'000'000'000;

inline constexpr size_t kMaxFallbackModes = 4;
inline constexpr size_t kMaxExcludeCidrs = 64;
inline constexpr size_t kMaxNodePortAddresses = 64;
inline constexpr size_t kMaxExtraModules = 64;
inline constexpr size_t kMaxModuleName = 63;
inline constexpr size_t kMaxAcceptedNeighbours = 64;
// In a status, in bytes (the schemas count characters). KeepToSchema (status_bounds.h) keeps to
// them.
inline constexpr size_t kMaxConditions = 16;
inline constexpr size_t kMaxConditionType = 316;
inline constexpr size_t kMaxConditionReason = 1024;
// Less than the schemas' 32,768: 5,000 nodes may all say it at once, and nobody reads more.
inline constexpr size_t kMaxConditionMessage = 4096;
inline constexpr int64_t kMaxCount = int64_t{1} << 53;  // as above
inline constexpr size_t kMaxTimestamp = 64;             // RFC 3339
inline constexpr size_t kMaxSysctls = 128;
inline constexpr size_t kMaxSysctlText = 256;
inline constexpr size_t kMaxModules = 128;
inline constexpr size_t kMaxModuleText = 64;
inline constexpr size_t kMaxModuleState = 32;
inline constexpr size_t kMaxNeighbours = 64;
inline constexpr size_t kMaxNeighbourText = 64;  // name, kind
inline constexpr size_t kMaxNeighbourMessage = 1024;
inline constexpr size_t kMaxPreflights = 8;
inline constexpr size_t kMaxPreflightReason = 64;
inline constexpr size_t kMaxPreflightMessage = 1024;
inline constexpr size_t kMaxModeText = 32;
inline constexpr size_t kMaxKernelRelease = 256;
inline constexpr size_t kMaxAgentVersion = 64;
inline constexpr size_t kMaxPhase = 64;
inline constexpr size_t kMaxTrippedGates = 10;
inline constexpr size_t kMaxGateText = 256;      // node, figure
inline constexpr size_t kMaxInterfaceName = 15;  // IFNAMSIZ - 1
inline constexpr size_t kMaxBindAddress = 64;    // [IPv6]:port
inline constexpr size_t kMaxClusterCidr = 96;
inline constexpr size_t kMaxPortRange = 11;
inline constexpr size_t kMaxConfigurationName = 63;  // it is a label's value too

inline constexpr int64_t kMaxUnavailable = 100'000;
inline constexpr int64_t kMaxCanaryNodes = 100'000;
inline constexpr Duration kMaxRolloutTime = std::chrono::hours(168);  // soak, minReady
inline constexpr Duration kMinProgressDeadline = std::chrono::seconds(1);
inline constexpr int64_t kMaxGateCount = 1'000'000'000;
inline constexpr Duration kMaxGateLatency = std::chrono::hours(1);
inline constexpr int64_t kMaxRevisionHistory = 100;
inline constexpr size_t kMaxMatchLabels = 64;
inline constexpr size_t kMaxMatchExpressions = 32;
inline constexpr size_t kMaxMatchValues = 100;

}  // namespace pointsman::kube::limits

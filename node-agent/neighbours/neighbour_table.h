// Who else may be at work on a node, by what it leaves in the kernel, and how each mode of ours
// gets along with it: data. docs/neighbours.md is the same for people, and a test holds the two
// together.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "kube/pointsman/mode.h"
#include "node-agent/neighbours/signs.h"

namespace pointsman::agent {

enum class NeighbourKind : uint8_t {
  kNetworkPlugin,
  kPolicyEngine,  // enforces NetworkPolicy
  kServiceProxy,
  kServiceMesh,
  kFirewall,
  kDnsCache,
  kContainerRuntime,
  kLoadBalancer,
  kRouting,
  kKernelSetting,
};
std::string_view ToString(NeighbourKind kind);  // "PolicyEngine"

enum class Level : uint8_t {
  kFine,
  kWarning,  // said, and no reason not to run
  kRefused,  // the mode is not begun here unless the neighbour is accepted by name
};

// `reason` and `remedy`: parts of a message for a person, without a full stop at their ends; ""
// when it is fine.
struct Verdict {
  Level level = Level::kFine;
  std::string_view reason;
  std::string_view remedy;
};

// Which settings make a row count at all.
enum class CountsWith : uint8_t {
  kAll,
  kStrictArp,            // ipvs.strictARP
  kOtherMasqueradeMark,  // the mode's masqueradeBit is not 14
};

struct Neighbour {
  std::string_view name;    // one of kube::kNeighbourNames
  std::string_view title;   // "Azure Network Policy Manager"
  std::string_view source;  // where its signs and what follows from them were read
  NeighbourKind kind = NeighbourKind::kNetworkPlugin;
  std::vector<SignPattern> signs;  // one of them is enough
  Verdict userspace;
  Verdict iptables;
  Verdict ipvs;
  Verdict nftables;
  CountsWith counts_with = CountsWith::kAll;

  const Verdict& Of(kube::Mode mode) const;
};

// Sorted by name, as long as the program runs. iptables and nftables mode are refused beside
// nothing: on a new node something must serve, and the default fallback is iptables.
std::span<const Neighbour> Neighbours();

// Of all rows.
std::vector<SignPattern> PatternsOf(std::span<const Neighbour> neighbours);

}  // namespace pointsman::agent

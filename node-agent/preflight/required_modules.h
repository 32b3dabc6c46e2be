// Which kernel modules a mode needs, as data.
#pragma once

#include <compare>
#include <string>
#include <string_view>
#include <vector>

#include "kube/pointsman/mode.h"
#include "kube/pointsman/proxy_settings.h"

namespace pointsman::agent {

struct KernelVersion {
  int major = 0;
  int minor = 0;
  auto operator<=>(const KernelVersion&) const = default;
};

// "6.1.0-18-amd64" → 6.1. Unreadable: 0.0.
KernelVersion ParseKernelVersion(std::string_view release);

// The oldest kernel the mode runs on; nftables: 5.10 (nftables/kernel_support.h says for what), and
// what its rules use is tried too.
KernelVersion OldestKernel(kube::Mode mode);

// Beside the tables themselves (LegacyTableModules or NftTableModules), in the order to load them.
// An ipt_… name is an alias that every kernel version resolves to what it has.
std::vector<std::string> RequiredModules(kube::Mode mode, const kube::ProxySettings& settings,
                                         KernelVersion version);

// A module that most of the mode does without.
struct OptionalModule {
  std::string name;
  std::string without;  // what is missing without it, for a person
};
// `ipv6`: this kernel has IPv6.
std::vector<OptionalModule> OptionalModules(kube::Mode mode, bool ipv6);
std::vector<std::string> LegacyTableModules();
std::vector<std::string> NftTableModules(KernelVersion version);

}  // namespace pointsman::agent

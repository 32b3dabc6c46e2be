// The kernel mechanisms, spelled as in kube-proxy.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace pointsman::kube {

enum class Mode : uint8_t { kUserspace, kIptables, kIpvs, kNftables };

// "userspace", "iptables", "ipvs", "nftables".
std::string_view ToString(Mode mode);
std::optional<Mode> ParseMode(std::string_view text);

}  // namespace pointsman::kube

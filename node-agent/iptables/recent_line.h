// A line of a list of the kernel's match "recent" (/proc/net/xt_recent; net/netfilter/xt_recent.c,
// recent_seq_show).
#pragma once

#include <optional>
#include <string_view>

#include "kube/net/ip_address.h"

namespace pointsman::agent {

// The kernel's unsigned long, which wraps.
using Jiffies = unsigned long;  // NOLINT(google-runtime-int)

struct RecentClient {
  net::IpAddress ip;
  Jiffies last_seen = 0;
  bool operator==(const RecentClient&) const = default;
};

// "src=10.244.0.2 ttl: 63 last_seen: 4296067512 oldest_pkt: 1 4296067512". nullopt: it is none.
std::optional<RecentClient> ParseRecentLine(std::string_view line);

}  // namespace pointsman::agent

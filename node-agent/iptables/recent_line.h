// A line of a list of the kernel's match "recent" (/proc/net/xt_recent; net/netfilter/xt_recent.c,
// recent_seq_show).
#pragma once

#include <cstdint>
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

// How many jiffies from `now` on a client that was last seen then still counts as one that was seen
// in the last `timeout` jiffies; 0 or less: it does not any more. The jiffy in which the time-out
// ends is part of it (recent_mt: only a stamp that is older does not count). Right unless the
// client was seen half of the time ago after which jiffies wrap, which is 24 days at least.
int64_t JiffiesLeft(Jiffies last_seen, Jiffies now, int64_t timeout);

}  // namespace pointsman::agent

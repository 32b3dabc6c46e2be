// Elements that several Service ports may need: each is there as long as one of them does.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "node-agent/dataplane/use_counts.h"
#include "node-agent/nftables/elements.h"

namespace pointsman::agent::nft {

struct SharedElementHash {
  size_t operator()(const SharedElement& element) const noexcept;
};
// How often each is needed.
using SharedUses = UseCounts<std::unordered_map<SharedElement, int64_t, SharedElementHash>>;

// Adds `by` for each element that `entry` needs:
// * `cluster-ips`: its cluster IP;
// * `hairpin`: its endpoints that may be on this node;
// * `reply-sources`, with LayoutSettings::drop_invalid: where its endpoints' answers come from.
void CountShared(const ServicePortEntry& entry, const LayoutSettings& settings, int64_t by,
                 SharedUses& uses);

}  // namespace pointsman::agent::nft

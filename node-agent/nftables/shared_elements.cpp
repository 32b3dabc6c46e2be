#include "node-agent/nftables/shared_elements.h"

#include "node-agent/model/reply_sources.h"

namespace pointsman::agent::nft {

size_t SharedElementHash::operator()(const SharedElement& element) const noexcept {
  const size_t rest = static_cast<size_t>(element.set) << 24 |
                      static_cast<size_t>(element.protocol) << 16 | element.port;
  return std::hash<net::IpAddress>()(element.ip) * 31 + rest;
}

void CountShared(const ServicePortEntry& entry, const LayoutSettings& settings, int64_t by,
                 SharedUses& uses) {
  if (!entry.cluster_ip.IsUnspecified())
    uses.Add({.set = SetId::kClusterIps, .ip = entry.cluster_ip}, by);
  for (const BackendChoice* choice :
       {&entry.internal, &entry.external, &entry.external_from_node}) {
    for (const Backend& backend : choice->backends) {
      if (backend.MayBeHere()) uses.Add({.set = SetId::kHairpin, .ip = backend.ip}, by);
    }
  }
  if (!settings.drop_invalid) return;
  ForEachReplySource(entry, [&](const ReplySource& source) {
    uses.Add({.set = SetId::kReplySources,
              .ip = source.block.address(),
              .protocol = source.protocol,
              .port = source.port},
             by);
  });
}

}  // namespace pointsman::agent::nft

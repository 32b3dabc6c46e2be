#include "node-agent/dataplane/draining_flows.h"

#include <linux/netfilter/nf_conntrack_common.h>
#include <utility>

namespace pointsman::agent {

uint64_t DrainingFlows::Begin(const std::function<bool(const netlink::ConntrackFlow&)>& is_ours) {
  std::unordered_set<uint32_t> ids;
  uint64_t open = 0;
  netlink::Conntrack().ForEach(family_, 0, [&](const netlink::ConntrackFlow& flow) {
    // ipvs does not set this bit where it needs no DNAT of ours: its flows' reply direction is
    // rewritten without NAT of conntrack (net/netfilter/ipvs/ip_vs_nfct.c).
    if ((flow.status & IPS_DST_NAT) == 0 || !is_ours(flow)) return;
    ids.insert(flow.id);  // one that is not open may be about to be
    if (netlink::IsOpen(flow)) ++open;
  });
  ids_ = std::move(ids);
  return open;
}

uint64_t DrainingFlows::Count() const {
  uint64_t open = 0;
  netlink::Conntrack().ForEach(family_, 0, [&](const netlink::ConntrackFlow& flow) {
    if (ids_.contains(flow.id) && netlink::IsOpen(flow)) ++open;
  });
  return open;
}

}  // namespace pointsman::agent

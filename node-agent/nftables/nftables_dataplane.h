// nftables mode: one table of ours in each family, in which a Service is nothing but elements of
// maps (layout.h).
#pragma once

#include <vector>

#include "kube/net/ip_address.h"
#include "kube/pointsman/proxy_settings.h"
#include "node-agent/dataplane/family_dataplane.h"
#include "node-agent/nftables/nftables_family.h"

namespace pointsman::agent {

// Needs no iptables: it masquerades in its own tables. Where iptables' table filter drops what is
// forwarded, and the node has the tools, a chain there accepts Services' traffic
// (xtables/forward_accept.h); full syncs see to it, and no other sync starts a process. A sync
// writes one transaction, one before it when a chain is new, and one after it when something is
// left over that nothing leads to any more. Clients' affinity is in the kernel only and survives
// every sync. With detectLocalMode NodeCIDR, settings.cluster_cidrs are this node's pod CIDRs.
//
// When the kernel refuses a change, the table is read and repaired at once; what it refuses even
// then is a problem in the result, and the next Sync is a full one. route_localnet is set for node
// ports on 127.0.0.1 and undone when this mode is removed, if it was not set before.
//
// Drain empties the chains that take new connections. It counts the connections to Services that
// were there then, whichever mode translated them, and are still open.
//
// Of more than kMostBindings clients Bindings looks at only so many, which takes 4 s: see
// affinity_store.h. While the kernel's hash table grows it can leave out some more. Bind keeps the
// time left.
class NftablesDataplane final : public FamilyDataplane<nft::NftablesFamily> {
 public:
  // `families`: those to serve; tables of ours in another one are removed. `tools`: as
  // xtables::ForwardAccept's. Throws std::invalid_argument that names the field.
  NftablesDataplane(const kube::ProxySettings& settings, const std::vector<net::Family>& families,
                    const std::vector<xtables::IptablesTool*>& tools);

  kube::Mode mode() const override { return kube::Mode::kNftables; }
};

}  // namespace pointsman::agent

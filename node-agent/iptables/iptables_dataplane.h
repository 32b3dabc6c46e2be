// iptables mode: DNAT rules that conntrack applies to a connection's first packet.
#pragma once

#include <vector>

#include "kube/pointsman/proxy_settings.h"
#include "node-agent/dataplane/family_dataplane.h"
#include "node-agent/iptables/iptables_family.h"
#include "node-agent/xtables/iptables_tool.h"

namespace pointsman::agent {

// The rules differ from kube-proxy's where that makes them fewer: no chain an endpoint, one hairpin
// rule for all, and a tree of chains that finds a Service's address in few steps (dispatch_tree.h).
// A change writes only the chains that it touches. With detectLocalMode NodeCIDR,
// settings.cluster_cidrs are this node's pod CIDRs.
//
// A failed write is a problem in the result, and its family waits for the next full sync.
// route_localnet is
// set for node ports on 127.0.0.1 and undone when this mode is removed, if it was not set
// before.
//
// Drain takes the jumps for new connections away. It counts the connections that conntrack sends on
// by DNAT from a Service's address or node port; also those that a kube-proxy beside us made.
// recent_lists.h says what of the clients' affinity Bindings and Bind can carry.
class IptablesDataplane final : public FamilyDataplane<IptablesFamily> {
 public:
  // Serves the tools' families. They outlive this. Throws std::invalid_argument that names the
  // field.
  IptablesDataplane(const kube::ProxySettings& settings, xtables::IptablesTool& tool);
  IptablesDataplane(const kube::ProxySettings& settings,
                    const std::vector<xtables::IptablesTool*>& tools);

  kube::Mode mode() const override { return kube::Mode::kIptables; }
};

}  // namespace pointsman::agent

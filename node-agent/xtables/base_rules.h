// The rules that every mode shares: masquerade of marked packets. They stay in place across a
// handover and are also the permanent user of conntrack that keeps established DNATed connections
// alive when a dataplane's own rules go (when a namespace's last NAT rule goes, the kernel
// unregisters its conntrack hooks and such connections stall).
#pragma once

#include <string>
#include <string_view>

#include "kube/net/ip_address.h"
#include "node-agent/dataplane/dataplane.h"
#include "node-agent/xtables/iptables_tool.h"

namespace pointsman::agent::xtables {

// Chains, in table nat: POINTSMAN-MARK-MASQ (sets the masquerade mark) and POINTSMAN-POSTROUTING
// (masquerades marked packets), jumped to from POSTROUTING. And those of hint_chains.h that nobody
// else makes.
class BaseRules {
 public:
  static constexpr std::string_view kPostroutingChain = "POINTSMAN-POSTROUTING";

  // `tool` outlives this. `masquerade_bit` 0..31.
  BaseRules(IptablesTool& tool, int masquerade_bit);

  // Reads and repairs. Idempotent.
  SyncResult Ensure();
  SyncResult Remove();

 private:
  IptablesTool& tool_;
  const int masquerade_bit_;
};

}  // namespace pointsman::agent::xtables

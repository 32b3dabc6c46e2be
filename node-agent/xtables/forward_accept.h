// What of Services' traffic iptables' table filter lets be forwarded: in the modes whose rules are
// iptables' own, and in the one whose rules are not.
//
// What one base chain of a hook accepts another one still drops: where FORWARD of table filter
// drops what it does not know (Docker, ufw, iptables-services), a rule there has to accept what a
// mode sends on, whatever that mode's own tables say.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "node-agent/dataplane/dataplane.h"
#include "node-agent/xtables/iptables_tool.h"
#include "node-agent/xtables/jump_order.h"
#include "node-agent/xtables/kernel_rules.h"

namespace pointsman::agent::xtables {

// kube-proxy's in KUBE-FORWARD: what carries the masquerade mark, which is a connection's first
// packet to a Service, and what belongs to a connection that was let through. No other packet of a
// connection is marked: only its first one meets the chains of type nat. So a connection that came
// from a pod, which is not masqueraded, opens where the network plugin lets pods' traffic be
// forwarded, as it must for pods that talk to each other, and not for any rule of a service proxy.
void RenderForwardRules(std::string_view chain, int masquerade_bit, std::string& text);
// The jump from FORWARD to that chain.
Jump ForwardJump(std::string_view chain);

// The chain of a mode that has no other rules in iptables' tables, in one family and variant. It is
// there only where FORWARD of table filter has rules of others or a policy other than ACCEPT, and
// goes when that has gone: a node without such a table pays nothing, and no table is made. Its
// rules do not depend on the Services.
class ForwardAccept {
 public:
  static constexpr std::string_view kPrefix = "POINTSMAN-NFT-";
  static constexpr std::string_view kChain = "POINTSMAN-NFT-FORWARD";

  // `tools`: those that there are; one of that family and variant is used, and outlives this, and
  // else one is made when there is something to write. `masquerade_bit` 0..31.
  ForwardAccept(net::Family family, XtablesVariant variant, int masquerade_bit,
                const std::vector<IptablesTool*>& tools);

  // Reads and repairs; starts a process only where the chain is to be or is there. A table that
  // this node's tools cannot read is left alone unless its policy drops. Throws as IptablesTool.
  SyncResult Ensure();
  VerifyResult Verify();
  SyncResult Remove();
  bool Present() const { return Look().ours; }
  XtablesVariant variant() const { return variant_; }

 private:
  // What the kernel says of FORWARD, without a process.
  struct Seen {
    bool drops = false;   // by its policy
    bool needed = false;  // that, or it has rules of others
    bool ours = false;    // the chain, or a jump to it, is there
  };
  // What there is to write, as iptables-restore's input; "" for nothing.
  struct Change {
    std::string text;
    uint64_t writes = 0;
    bool rules = false;  // the chain's own differ, or it is missing
    bool jump = false;   // the jump is missing or has another place
    bool extra = false;  // there is what is not wanted
  };

  Seen Look() const;
  IptablesTool& Tool();
  // Nullopt: it cannot be read, and need not be.
  std::optional<KernelRules> Read(const Seen& seen);
  // `teach`: who keeps itself last is learnt from this look.
  Change Compare(const KernelRules& kernel, bool wanted, bool teach);
  SyncResult Write(const Change& change);

  const net::Family family_;
  const XtablesVariant variant_;
  std::string rules_;
  IptablesTool* tool_ = nullptr;
  std::unique_ptr<IptablesTool> own_tool_;
  LastKeepers keepers_;
  std::string unread_;  // why, as the log says it already
};

}  // namespace pointsman::agent::xtables

// Keeps connection tracking and NAT at work while a kube-proxy's rules go and others come. When the
// last rule that needs them goes, the kernel unhooks both (nf_ct_netns_put in
// net/netfilter/nf_conntrack_proto.c, nf_nat_unregister_fn in nf_nat_core.c): until the next rules
// come the packets of open connections pass untranslated, and the first one that reaches a client
// so is answered with a reset.
#pragma once

#include <string>

namespace pointsman::agent::kube_proxy {

// nf_tables tables of this name, families ip and ip6: chains at NAT's hooks without an effect.
inline constexpr const char* kHoldTable = "pointsman-hold";

// In the network namespace of the calling thread; what is there already stays. A kernel whose
// nf_tables do no NAT has no such rules of kube-proxy's either, and its iptables' tables stay
// hooked: nothing is done. `modules_root`: see KernelHasModule. Throws std::system_error.
void HoldHooks(const std::string& modules_root);
// False: there was nothing.
bool ReleaseHooks(const std::string& modules_root);

}  // namespace pointsman::agent::kube_proxy

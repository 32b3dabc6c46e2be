// What of a mode is asked for to see whether its rules are still in the kernel
// (handover/canaries.h), named so that a person finds it: "IPv4 chain PREROUTING of table nat: the
// jump to …".
#pragma once

#include <set>
#include <string>

#include "kube/pointsman/mode.h"
#include "node-agent/handover/canaries.h"
#include "node-agent/xtables/kernel_jumps.h"

namespace pointsman::agent {

// The jumps to that mode's chains and to those that all modes share.
void AddJumpsOf(kube::Mode mode, net::Family family, const std::set<xtables::KernelJump>& jumps,
                Canaries::Names& names);
// The chains of mode nftables that packets come to, as far as they have rules. Throws
// std::system_error.
void AddNftables(net::Family family, Canaries::Names& names);
// The interface with the VIPs, and the virtual servers, as one: `ipvsadm -C` takes them all. They
// count as there where none is to be. `modules_root`: see kube::KernelHasModule. Throws
// std::system_error.
void AddIpvs(const std::string& modules_root, Canaries::Names& names);

}  // namespace pointsman::agent

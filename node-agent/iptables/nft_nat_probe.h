// Can this kernel do NAT in nf_tables?
#pragma once

#include "kube/net/ip_address.h"

namespace pointsman::agent {

// Asks the kernel to make a table with a nat chain, and lets the transaction be thrown away:
// nothing is changed. False when nf_tables, its nat chains or the family are missing. Throws
// std::system_error when it may not ask (EPERM) or netlink fails.
bool KernelHasNftNat(net::Family family);

}  // namespace pointsman::agent

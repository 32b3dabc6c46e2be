// What this kernel's nf_tables can do, asked by transactions that are thrown away.
#pragma once

#include "kube/net/ip_address.h"

namespace pointsman::agent::netlink {

// Asks the kernel to make a table with a nat chain, and lets the transaction be thrown away:
// nothing is changed. False when nf_tables, its nat chains or the family are missing. Throws
// std::system_error when it may not ask (EPERM) or netlink fails.
bool KernelHasNftNat(net::Family family);

// Does it know this kind of expression in a rule of that family ("masq", "fib", "match")? Same
// errors.
bool KernelHasNftExpression(const char* name, net::Family family = net::Family::kIPv4);

}  // namespace pointsman::agent::netlink

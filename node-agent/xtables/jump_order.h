// Whose rules may stand before our jumps in a builtin chain.
#pragma once

#include <string_view>

namespace pointsman::agent::xtables {

// `rule` is one of a builtin chain, with or without "-A CHAIN ". Our jumps stand first, so that
// rules of others, such as those kube-proxy left or still writes, do not decide before ours.
// Exceptions are our own jumps, and Calico's: its agent puts them back to the top whenever they are
// not, and they decide nothing about Services' addresses.
bool MayPrecedeOurJump(std::string_view rule);

}  // namespace pointsman::agent::xtables

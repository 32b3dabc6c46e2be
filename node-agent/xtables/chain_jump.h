// Where a rule of iptables-save jumps to.
#pragma once

#include <string_view>

namespace pointsman::agent::xtables {

// The chain that `rule`, with or without "-A CHAIN " in front, jumps or goes to at its end
// ("-j CHAIN", "-g CHAIN"); "" when to none. A target of the kernel's without options looks the
// same
// ("DROP"); one with options is none, whatever text these have: anyone may log "-j POINTSMAN-X".
std::string_view ChainJumpedTo(std::string_view rule);

}  // namespace pointsman::agent::xtables

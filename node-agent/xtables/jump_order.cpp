#include "node-agent/xtables/jump_order.h"

#include "node-agent/xtables/chain_jump.h"

namespace pointsman::agent::xtables {

bool MayPrecedeOurJump(std::string_view rule) {
  const std::string_view target = ChainJumpedTo(rule);
  return target.starts_with("cali-") || target.starts_with("POINTSMAN-");
}

}  // namespace pointsman::agent::xtables

#include "node-agent/iptables/jump_order.h"

namespace pointsman::agent {

bool MayPrecedeOurJump(std::string_view rule) {
  const size_t at = rule.rfind("-j ");
  if (at == std::string_view::npos) return false;
  const std::string_view target = rule.substr(at + 3);
  return target.starts_with("cali-") || target.starts_with("POINTSMAN-");
}

}  // namespace pointsman::agent

#include "node-agent/xtables/chain_jump.h"

namespace pointsman::agent::xtables {

std::string_view ChainJumpedTo(std::string_view rule) {
  while (rule.ends_with(' '))
    rule.remove_suffix(1);
  // A text with a blank is quoted, so the last word is part of one only if it ends with a quote.
  // What has none is a word of its own, and before it comes its option.
  const size_t blank = rule.rfind(' ');
  if (blank == std::string_view::npos || rule.ends_with('"')) return {};
  std::string_view option = rule.substr(0, blank);
  option.remove_prefix(option.rfind(' ') + 1);
  return option == "-j" || option == "-g" ? rule.substr(blank + 1) : std::string_view{};
}

}  // namespace pointsman::agent::xtables

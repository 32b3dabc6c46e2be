// A rule of iptables-save, taken apart.
#pragma once

#include <string>
#include <string_view>

namespace pointsman::agent::xtables {

struct SavedRule {
  std::string match;        // which packets, without comments; "": every one
  std::string_view target;  // of the kernel's, or a chain; "": none, the rule only counts
  bool goes = false;        // "-g": what the chain returns goes to where this chain was called from
  bool every() const { return match.empty(); }
};

// `rule` is without "-A CHAIN "; the result points into it.
SavedRule TakeApart(std::string_view rule);

}  // namespace pointsman::agent::xtables

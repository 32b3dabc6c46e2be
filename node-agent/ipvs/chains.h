// Chains of iptables rules that are ours, in the kernel.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "node-agent/xtables/iptables_tool.h"
#include "node-agent/xtables/jump_order.h"

namespace pointsman::agent::ipvs {

// Of each chain's name.
inline constexpr std::string_view kChainPrefix = "POINTSMAN-IPVS-";

// One chain of ours with the base chain that jumps to it.
struct Chain {
  std::string table;
  std::string name;
  std::string base;  // "INPUT"; empty: only other chains of ours jump to it
  std::string jump;  // the jump rule's match, as iptables-save prints it
  xtables::JumpPlace place = xtables::JumpPlace::kStays;  // of the jump
  std::vector<std::string> rules;  // arguments after "-A <name>", as iptables-save prints them
};

// Compares with what iptables-save says, rewrites chains that differ, and moves jumps that are not
// in their place (xtables/jump_order.h). `keepers`: of the tool's family. `written`: how many
// rules. This and all below throw what IptablesTool throws.
struct EnsuredChains {
  size_t written = 0;
  // Another of our modes has a jump in table nat, which is before ours.
  bool other_mode_takes = false;
};
EnsuredChains EnsureChains(xtables::IptablesTool& tool, const std::vector<Chain>& chains,
                           xtables::LastKeepers& keepers);
// New connections are no longer sent to or kept for IPVS: other rules decide about them.
// EnsureChains undoes it. Idempotent.
void StopTaking(xtables::IptablesTool& tool);
// Differences in words, none: all is as it should be.
std::vector<std::string> CheckChains(xtables::IptablesTool& tool, const std::vector<Chain>& chains,
                                     const xtables::LastKeepers& keepers);
// Removes every chain that is called POINTSMAN-IPVS-… and the jumps to it, also those of another
// version. Returns the number of chains removed.
size_t RemoveChains(xtables::IptablesTool& tool);
bool AnyChain(xtables::IptablesTool& tool);

}  // namespace pointsman::agent::ipvs

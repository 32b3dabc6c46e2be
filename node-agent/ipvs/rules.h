// The iptables rules of ipvs mode. They do not change with the Services: what is dynamic is in
// ipsets, so iptables-restore runs only when the rules are not there or were damaged. The exception
// are external frontends that are not bound or have externalTrafficPolicy: Local, a rule each,
// because iptables has no DNAT by a map; what changes with the endpoints is in a set here too.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "kube/pointsman/proxy_settings.h"
#include "node-agent/iptables/iptables_tool.h"
#include "node-agent/ipvs/frontend.h"

namespace pointsman::agent::ipvs {

// One chain of ours with the base chain that jumps to it.
struct Chain {
  std::string table;
  std::string name;
  std::string base;                // "INPUT"; empty: only other chains of ours jump to it
  std::string jump;                // arguments of the jump rule, as iptables-save prints them
  std::vector<std::string> rules;  // arguments after "-A <name>", as iptables-save prints them
};

// A rule each.
struct DnatTargets {
  // Frontend → the one through which this node and its pods reach it (NearFrontend).
  std::map<FrontendKey, FrontendKey> near;
  // Frontend whose address is not bound → the one that serves it (UnboundTarget).
  std::map<FrontendKey, FrontendKey> unbound;
  bool operator==(const DnatTargets&) const = default;
};

// Pure. `random_fully`: MASQUERADE knows --random-fully. `targets` may hold both families. Throws
// std::invalid_argument that names a field of the settings.
std::vector<Chain> DesiredChains(net::Family family, const kube::ProxySettings& settings,
                                 bool random_fully, const DnatTargets& targets);

// Compares with what iptables-save says and rewrites chains that differ; our jumps stand before the
// rules of others (iptables/jump_order.h). Returns how many rules
// were written. Throws what IptablesTool throws.
size_t EnsureChains(IptablesTool& tool, const std::vector<Chain>& chains);
// New connections are no longer sent to or kept for IPVS: other rules decide about them.
// EnsureChains undoes it. Idempotent.
void StopTaking(IptablesTool& tool);
// Differences in words, none: all is as it should be.
std::vector<std::string> CheckChains(IptablesTool& tool, const std::vector<Chain>& chains);
// Removes every chain that is called POINTSMAN-IPVS-… and the jumps to it, also those of another
// version. Returns the number of chains removed.
size_t RemoveChains(IptablesTool& tool);
bool AnyChain(IptablesTool& tool);

}  // namespace pointsman::agent::ipvs

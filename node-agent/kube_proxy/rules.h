// The rules of iptables that a kube-proxy left behind, in either variant.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kube/net/ip_address.h"
#include "node-agent/kube_proxy/names.h"
#include "node-agent/xtables/iptables_tool.h"

namespace pointsman::agent::kube_proxy {

struct RulesPlace {
  net::Family family = net::Family::kIPv4;
  std::string_view variant;  // "legacy", "nft"
  bool operator==(const RulesPlace&) const = default;
};

// Where there are chains of kube-proxy's, all of them or some (names.h). Starts no process and
// makes no table. `modules_root`: see KernelHasModule. In the network namespace of the calling
// thread. Throws std::system_error, and std::runtime_error for a legacy table that is too large to
// be looked at.
using ChainTest = bool (*)(std::string_view table, std::string_view chain);
std::vector<RulesPlace> FindRules(const std::string& modules_root, ChainTest is_chain = IsChain);

struct RemovedRules {
  size_t chains = 0;
  size_t jumps = 0;               // rules of other chains that led to one of them
  std::vector<std::string> kept;  // for a person: what stays, and why
  // For a person: what a kube-proxy that runs leads to yet. In that table nothing was removed.
  std::vector<std::string> in_use;
};

// One transaction for each table. A chain to which one of somebody else's leads is emptied and
// stays. With kubelets before 1.27, which made it too, KUBE-POSTROUTING stays without its
// references to ipsets. What says that it was made by Pointsman for others stays. `running`: a
// kube-proxy runs in that mode, and what is of that mode stays as it is. Throws as IptablesTool.
RemovedRules RemoveRules(xtables::IptablesTool& tool,
                         std::optional<kube::Mode> running = std::nullopt);

}  // namespace pointsman::agent::kube_proxy

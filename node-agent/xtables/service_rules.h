// One Service port as iptables rules: pure functions of the entry and of the settings.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kube/pointsman/proxy_settings.h"
#include "node-agent/model/service_model.h"
#include "node-agent/xtables/dispatch_tree.h"
#include "node-agent/xtables/rule_flavour.h"

namespace pointsman::agent::xtables {

// What the settings say, in the words of iptables.
struct RuleSettings {
  // Throws std::invalid_argument that names the field.
  RuleSettings(const kube::ProxySettings& settings, net::Family family, const RuleFlavour& flavour);

  RuleFlavour flavour;
  net::Family family;
  // As SourceMatch.
  std::optional<std::string> from_cluster;
  std::optional<std::string> off_cluster;
  // sessionAffinity: ClientIP can be kept: the kernel has xt_recent.
  bool keeps_affinity = false;
};

// Which tree a dispatch belongs to.
enum class DispatchTable : uint8_t { kNatAddress, kNatPort, kFilterAddress, kFilterPort };

struct Dispatch {
  DispatchTable table;
  DispatchKey key;
  DispatchAction action;
  auto operator<=>(const Dispatch&) const = default;
};

// Where traffic for the entry comes from and goes to. Sorted, no duplicates of table and key.
std::vector<Dispatch> DispatchesOf(const ServicePortEntry& entry);

// The list of xt_recent with the clients that sessionAffinity has bound to this backend: the same
// in all chains of the Service port.
std::string AffinityList(const ServicePortId& service, const Backend& backend);

// Calls `each` with the name and the rules ("-A …\n" lines) of each chain of the entry in table
// nat. The views are valid during the call.
void ForEachServiceChain(const ServicePortEntry& entry, const RuleSettings& settings,
                         const std::function<void(std::string_view, std::string_view)>& each);

}  // namespace pointsman::agent::xtables

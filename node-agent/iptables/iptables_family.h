// iptables mode in one address family: rules that DNAT to the endpoints, and the clients that
// sessionAffinity has bound.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "kube/pointsman/proxy_settings.h"
#include "node-agent/dataplane/dataplane.h"
#include "node-agent/model/service_model.h"
#include "node-agent/xtables/family_rules.h"
#include "node-agent/xtables/iptables_tool.h"

namespace pointsman::agent {

// For FamilyDataplane. Not thread-safe.
class IptablesFamily : public xtables::FamilyRules {
 public:
  // Of each chain's name.
  static constexpr std::string_view kChainPrefix = "POINTSMAN-IPT-";

  // As FamilyRules.
  IptablesFamily(const kube::ProxySettings& settings, xtables::IptablesTool& tool);

  // As recent_lists.h; Bind does nothing where clients are not bound, which warnings say.
  std::vector<ClientBinding> Bindings(const ServiceModel& model, size_t most);
  SyncResult Bind(const ServiceModel& model, const std::vector<ClientBinding>& bindings);
};

}  // namespace pointsman::agent

#include "node-agent/iptables/iptables_family.h"

#include "node-agent/iptables/recent_lists.h"

namespace pointsman::agent {

IptablesFamily::IptablesFamily(const kube::ProxySettings& settings, xtables::IptablesTool& tool)
    : FamilyRules(settings, tool, {.prefix = kChainPrefix}) {}

std::vector<ClientBinding> IptablesFamily::Bindings(const ServiceModel& model, size_t most) {
  return ReadRecentBindings(model, family(), most);
}

SyncResult IptablesFamily::Bind(const ServiceModel& model,
                                const std::vector<ClientBinding>& bindings) {
  if (!keeps_affinity()) return {};
  return WriteRecentBindings(model, family(), bindings);
}

}  // namespace pointsman::agent

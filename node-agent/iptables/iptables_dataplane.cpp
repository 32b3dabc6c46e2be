#include "node-agent/iptables/iptables_dataplane.h"

#include <memory>

namespace pointsman::agent {

IptablesDataplane::IptablesDataplane(const kube::ProxySettings& settings,
                                     xtables::IptablesTool& tool)
    : IptablesDataplane(settings, std::vector{&tool}) {}

IptablesDataplane::IptablesDataplane(const kube::ProxySettings& settings,
                                     const std::vector<xtables::IptablesTool*>& tools)
    : FamilyDataplane("iptables rules") {
  for (xtables::IptablesTool* tool : tools)
    Serve(std::make_unique<IptablesFamily>(settings, *tool));
}

}  // namespace pointsman::agent

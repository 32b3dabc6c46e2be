#include "node-agent/iptables/iptables_dataplane.h"

#include <memory>

namespace pointsman::agent {

IptablesDataplane::IptablesDataplane(const kube::ProxySettings& settings, IptablesTool& tool)
    : IptablesDataplane(settings, std::vector{&tool}) {}

IptablesDataplane::IptablesDataplane(const kube::ProxySettings& settings,
                                     const std::vector<IptablesTool*>& tools)
    : FamilyDataplane("iptables rules") {
  for (IptablesTool* tool : tools)
    Serve(std::make_unique<IptablesFamily>(settings, *tool));
}

}  // namespace pointsman::agent

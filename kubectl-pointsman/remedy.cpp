#include "kubectl-pointsman/remedy.h"

#include <array>
#include <utility>

namespace pointsman::plugin {
namespace {

using Remedy = std::pair<std::string_view, std::string_view>;

constexpr std::array kRemedies{
    Remedy{"ModuleMissing",
           "install the kernel's package that has the module (Debian and Ubuntu: "
           "linux-modules-extra-$(uname -r)), or choose another mode for this node with a "
           "nodeSelector"},
    Remedy{"ModuleNotLoaded",
           "load it at boot (/etc/modules-load.d), or let the agent do it: spec.modules.policy: "
           "Load"},
    Remedy{"NotPermitted",
           "give the agent the capability SYS_MODULE, or load the module at boot "
           "(/etc/modules-load.d) and set spec.modules.policy: RequireLoaded"},
    Remedy{"KernelTooOld", "update the node's kernel, or choose another mode for this node"},
    Remedy{"FeatureMissing", "update the node's kernel, or choose another mode for this node"},
    Remedy{"ToolMissing", "install the tool that the message names where the agent runs"},
    Remedy{"TableIncompatible",
           "take the rules that only nft knows out of the table (`nft list table ip filter` on the "
           "node shows them)"},
    Remedy{"NeighbourRefused",
           "docs/neighbours.md says why; where it does no harm, name the neighbour in "
           "spec.neighbours.accept"},
    Remedy{"PreflightFailed",
           "the agent's log says what could not be read on the node; it is tried again"},
    Remedy{"HandoverReverted",
           "mend what the message names (the clients that stayed unanswered are in it); the agent "
           "tries again by itself, ever more seldom, and at once after a change of the "
           "ProxyConfiguration"},
    Remedy{"NoModeCanRun",
           "mend what the message names, or add a mode that this node can run to "
           "spec.fallbackModes"},
    Remedy{"Fallback",
           "mend what the message names, and the node changes by itself; or leave it as it is: its "
           "Services are served"},
    Remedy{"SyncFailed",
           "the agent tries again by itself; the message names the object and the kernel's error"},
    Remedy{"FamilyNotServed",
           "the other family is served; the message names what the kernel refused"},
    Remedy{"Retrying", "nothing, unless it lasts: the agent tries again by itself"},
    Remedy{"NodeIncomplete",
           "the Node has no spec.podCIDRs yet: whoever assigns them (the controller manager, the "
           "network plugin) has to"},
    Remedy{"NeighbourNotReady", "nothing, unless it lasts: see the log of the neighbour named"},
    Remedy{"NothingProgrammed",
           "look at the agent's log: it waits for the API server's lists, or for its turn"},
    Remedy{"NotServedAsSpecified",
           "see the Events of the Services named (`kubectl describe service`)"},
    Remedy{"Removed", "nothing: no ProxyConfiguration wants this node any more"},
};

}  // namespace

std::string_view RemedyFor(std::string_view reason) {
  for (const auto& [known, remedy] : kRemedies) {
    if (known == reason) return remedy;
  }
  return "";
}

}  // namespace pointsman::plugin

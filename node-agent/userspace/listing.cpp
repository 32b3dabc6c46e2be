#include "node-agent/userspace/listing.h"

#include <map>

#include "node-agent/userspace/forwarder/address_plan.h"
#include "node-agent/userspace/running_forwarders.h"
#include "node-agent/userspace/userspace_dataplane.h"
#include "node-agent/xtables/listing.h"

namespace pointsman::agent {
std::vector<ListedService> ListUserspaceServices(xtables::IptablesTool& tool,
                                                 const std::string& directory,
                                                 std::vector<std::string>& problems) {
  std::vector<ListedService> services =
      xtables::ListServices(tool, UserspaceDataplane::kChainPrefix);
  if (services.empty()) return services;
  const std::map<uint32_t, forwarder::Slot> slots = ReadForwarderSlots(directory, problems);
  for (ListedService& listed : services) {
    std::vector<ListedBackend> backends;
    for (const ListedBackend& steered : listed.backends) {
      const auto number = forwarder::SlotOf(steered.ip);
      const auto slot = number ? slots.find(*number) : slots.end();
      if (slot == slots.end()) continue;
      for (const net::IpPort& place : slot->second.backends) {
        ListedBackend backend;
        backend.ip = place.ip;
        backend.port = place.port;
        backends.push_back(backend);
      }
    }
    listed.backends = std::move(backends);
  }
  return services;
}

}  // namespace pointsman::agent

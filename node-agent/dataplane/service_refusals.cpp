#include "node-agent/dataplane/service_refusals.h"

#include <fmt/format.h>
#include <spdlog/fmt/fmt.h>

namespace pointsman::agent {

void ServiceRefusals::Add(const ServicePortId& id, std::string message) {
  Refused& refused = refused_[id];
  if (refused.count++ == 0) refused.message = std::move(message);
}

void ServiceRefusals::Add(ServiceRefusals other) {
  refused_.merge(other.refused_);
  for (const auto& [id, refused] : other.refused_)  // those that are in both
    refused_[id].count += refused.count;
}

std::vector<ServiceWarning> ServiceRefusals::Warnings() const {
  std::vector<ServiceWarning> warnings;
  for (auto at = refused_.begin(); at != refused_.end();) {
    const ServicePortId& id = at->first;
    ServiceWarning warning{id.ns, id.name,
                           fmt::format("{}: {}", id.ToString(), at->second.message)};
    uint64_t count = 0;
    for (; at != refused_.end() && at->first.ns == warning.ns && at->first.name == warning.service;
         ++at) {
      count += at->second.count;
    }
    if (count > 1) warning.message += fmt::format(" (and {} more of this Service)", count - 1);
    warnings.push_back(std::move(warning));
  }
  return warnings;
}

}  // namespace pointsman::agent

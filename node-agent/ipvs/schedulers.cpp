#include "node-agent/ipvs/schedulers.h"

#include <algorithm>
#include <linux/ip_vs.h>
#include <string_view>

#include "kube/pointsman/limits.h"
#include "kube/text/text.h"

namespace pointsman::agent::ipvs {
namespace {

uint32_t FlagsOf(std::string_view text) {
  uint32_t flags = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find(','), text.size());
    const std::string_view word = text.substr(0, end);
    if (word == "flag-1" || word == "sh-fallback" || word == "mh-fallback")
      flags |= IP_VS_SVC_F_SCHED1;
    else if (word == "flag-2" || word == "sh-port" || word == "mh-port")
      flags |= IP_VS_SVC_F_SCHED2;
    else if (word == "flag-3")
      flags |= IP_VS_SVC_F_SCHED3;
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return flags;
}

}  // namespace

void Schedulers::Check(const ServicePortEntry& entry) {
  if (entry.ipvs_scheduler.empty()) return;
  const auto [known, unseen] = known_.try_emplace(entry.ipvs_scheduler);
  if (unseen) {
    // The name comes from whoever may write Services: only the kernel's own schedulers are modules
    // that they may have loaded.
    known->second = kube::limits::IsIpvsScheduler(known->first) ? ensure_(known->first)
                                                                : "IPVS has no such scheduler";
  }
  if (known->second.empty()) return;
  warnings_[entry.id] =
      "annotation pointsman.io/ipvs-scheduler: " + text::Quote(entry.ipvs_scheduler) +
      " cannot be used: " + known->second + "; " + configured_ + " is used";
}

void Schedulers::clear() {
  known_.clear();
  warnings_.clear();
}

const std::string& Schedulers::Of(const ServicePortEntry& entry) const {
  if (entry.ipvs_scheduler.empty()) return configured_;
  const auto known = known_.find(entry.ipvs_scheduler);
  return known != known_.end() && known->second.empty() ? known->first : configured_;
}

netlink::IpvsServer Schedulers::ServerOf(const FrontendKey& key,
                                         const ServicePortEntry& entry) const {
  netlink::IpvsServer server = ToServer(key);
  server.scheduler = Of(entry);
  // Flags are meant for the scheduler that the Service asks for.
  if (entry.ipvs_scheduler.empty() || server.scheduler == entry.ipvs_scheduler)
    server.flags = FlagsOf(entry.ipvs_scheduler_flags);
  // These two keep a hash slot for a destination of weight 0 and would refuse its clients while it
  // drains, if they were not told to look further.
  if (server.scheduler == "sh" || server.scheduler == "mh") server.flags |= IP_VS_SVC_F_SCHED1;
  if (entry.affinity_timeout.count() > 0) {
    server.flags |= IP_VS_SVC_F_PERSISTENT;
    server.persistence = static_cast<uint32_t>(entry.affinity_timeout.count());
  }
  return server;
}

void Schedulers::AppendWarnings(std::vector<ServiceWarning>& warnings) const {
  for (const auto& [id, message] : warnings_)
    warnings.push_back({id.ns, id.name, message});
}

}  // namespace pointsman::agent::ipvs

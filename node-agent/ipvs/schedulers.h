// Which scheduler a virtual server has: the configured one, or that of the Service's annotation
// pointsman.io/ipvs-scheduler.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "node-agent/dataplane/service_refusals.h"
#include "node-agent/ipvs/frontend.h"
#include "node-agent/model/service_model.h"
#include "node-agent/netlink/ipvs.h"

namespace pointsman::agent::ipvs {

// Not thread-safe.
class Schedulers {
 public:
  // Makes sure that the kernel has a scheduler ("mh"); returns "" or why it cannot have it.
  using Ensure = std::function<std::string(const std::string& name)>;

  // `ensure` is asked for schedulers of single Services, never for the configured one, which is
  // preflight's.
  Schedulers(std::string configured, Ensure ensure)
      : configured_(std::move(configured)), ensure_(std::move(ensure)) {}

  // Looks whether the entry's scheduler can be had, and remembers a warning if not.
  void Check(const ServicePortEntry& entry);
  // The entry's warning goes.
  void Forget(const ServicePortId& id) { warnings_.erase(id); }
  // What could not be had is tried again by Check.
  void clear();

  // As it is to be. Entries that were not checked have the configured scheduler.
  netlink::IpvsServer ServerOf(const FrontendKey& key, const ServicePortEntry& entry) const;
  void AppendWarnings(std::vector<ServiceWarning>& warnings) const;

 private:
  // The Service's own scheduler if it can be had, else the configured one.
  const std::string& Of(const ServicePortEntry& entry) const;

  const std::string configured_;
  const Ensure ensure_;
  std::map<std::string, std::string> known_;  // name → why it cannot be had, or ""
  std::map<ServicePortId, std::string> warnings_;
};

}  // namespace pointsman::agent::ipvs

// The drain of nftables mode in one family.
#pragma once

#include <cstdint>

#include "node-agent/dataplane/draining_flows.h"
#include "node-agent/model/service_model.h"
#include "node-agent/nf_tables/connection.h"

namespace pointsman::agent::nft {

// Not thread-safe.
class Drain {
 public:
  explicit Drain(net::Family family) : family_(family), flows_(family) {}

  bool active() const { return active_; }
  // New connections do not come here any more; returns how many are left. Throws std::system_error.
  uint64_t Begin(const ServiceModel& model, Connection& connection);
  // How many of those that were there when it began are still open. Throws std::system_error.
  uint64_t Left() const { return flows_.Count(); }
  void End();

 private:
  void EmptyEntrances(Connection& connection) const;

  const net::Family family_;
  bool active_ = false;
  DrainingFlows flows_;
};

}  // namespace pointsman::agent::nft

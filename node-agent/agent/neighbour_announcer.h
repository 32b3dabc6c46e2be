// Tells the neighbours of this node that have to know of a mode (node-agent/neighbours).
#pragma once

#include <string>

#include "node-agent/handover/announcer.h"
#include "node-agent/neighbours/ipvs_notice.h"

namespace pointsman::agent {

// The sync thread's.
class NeighbourAnnouncer final : public Announcer {
 public:
  explicit NeighbourAnnouncer(std::string modules_root) : ipvs_(std::move(modules_root)) {}

  Readiness Announce(kube::Mode mode, const kube::ProxySettings& settings) override;
  Readiness Renew(kube::Mode mode, const kube::ProxySettings& settings) override;
  void Withdraw(kube::Mode mode) override;

 private:
  IpvsNotice ipvs_;
};

}  // namespace pointsman::agent

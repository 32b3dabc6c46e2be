// The kernel and the node as a handover sees them.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "kube/net/ip_address.h"
#include "kube/pointsman/mode.h"
#include "kube/pointsman/proxy_settings.h"
#include "node-agent/dataplane/dataplane.h"
#include "node-agent/handover/announcer.h"
#include "node-agent/handover/canaries.h"
#include "node-agent/handover/traffic_check.h"
#include "node-agent/preflight/preflight.h"

namespace pointsman::agent {

// What the controller needs of the rest of the agent. All called on the sync thread. Any of it may
// throw: the controller tries it again and serves meanwhile what it can.
class ModeEnvironment {
 public:
  virtual ~ModeEnvironment() = default;
  // The dataplane if anything of that mode of ours is in the kernel, else null; also null for a
  // mode that this node cannot have.
  virtual std::unique_ptr<Dataplane> FindInKernel(kube::Mode mode,
                                                  const kube::ProxySettings& settings) = 0;
  // For a mode whose preflight passed. Never null.
  virtual std::unique_ptr<Dataplane> MakeDataplane(kube::Mode mode,
                                                   const kube::ProxySettings& settings) = 0;
  virtual PreflightResult Preflight(kube::Mode mode, const kube::ProxySettings& settings,
                                    bool load) = 0;
  // The families that are to be served on this node: those whose problems count.
  virtual std::vector<net::Family> Families() const = 0;
  // Changes when MakeDataplane can do more than before: what it made earlier is to be replaced.
  virtual uint64_t Generation() const { return 0; }
  // Rules that settings.mode and other modes share; they outlive each dataplane. A family that
  // cannot be served in that mode is a problem of that family.
  virtual SyncResult EnsureBase(const kube::ProxySettings& settings) = 0;
  virtual SyncResult RemoveBase(const kube::ProxySettings& settings) = 0;
  virtual TrafficCheck& Traffic() = 0;
  virtual Announcer& Others() = 0;
  // Of what that mode has in the kernel, the names of a few things that are there as long as its
  // rules are. Quick: the sync thread calls it between two changes.
  virtual Canaries::Names CanariesOf(kube::Mode mode) = 0;
  virtual std::chrono::steady_clock::time_point Now() = 0;
};

}  // namespace pointsman::agent

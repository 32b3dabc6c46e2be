// The ipvs dataplane: each frontend (a Service's address and port on this node) is a virtual server
// of the kernel's IPVS.
//
// * VIPs are host routes of type "local" through the dummy device kube-ipvs-pm, not addresses on
//   it: 10,000 of them cost no quadratic insertion, are never picked as a source address and do not
//   appear where programs list the node's addresses; the kernel delivers and answers ARP the same.
//   A VIP that is an address of the node anyway gets neither route nor filter; where NodeLocal
//   DNSCache answers, there is no virtual server (model/dns_cache.h).
// * A node port is one virtual server, on an internal address (internal_addresses.h).
// * External and load balancer IPs are not bound: they may be another machine's, which this node
//   could not reach any more. Their virtual servers are on internal addresses too.
// * What is ours is recorded in the kernel (ipset PM-IPVS-OWNED-4/-6, written before the virtual
//   server): a restarted agent and Remove touch exactly that. Other virtual servers are not
//   touched; one that a Service needs is taken over, unless its address is in excludeCIDRs.
// * A backend that goes keeps its TCP and SCTP connections for a while (graceful_termination.h); a
//   frontend that goes does too.
//
// A full sync reads desired state, kernel state, writes their diff; Verify says it; a sync of a
// change writes the diff of the frontends that it touches.
#pragma once

#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "kube/pointsman/proxy_settings.h"
#include "node-agent/dataplane/dataplane.h"
#include "node-agent/ipvs/desired_state.h"
#include "node-agent/ipvs/drain.h"
#include "node-agent/ipvs/frontend_table.h"
#include "node-agent/ipvs/graceful_termination.h"
#include "node-agent/ipvs/host_addresses.h"
#include "node-agent/ipvs/ipvs_base.h"
#include "node-agent/ipvs/kernel_state.h"
#include "node-agent/ipvs/room.h"
#include "node-agent/ipvs/schedulers.h"
#include "node-agent/ipvs/writer.h"
#include "node-agent/netlink/ipset.h"
#include "node-agent/netlink/ipvs.h"
#include "node-agent/netlink/socket.h"
#include "node-agent/xtables/iptables_tool.h"

namespace pointsman::agent {

class IpvsDataplane final : public Dataplane {
 public:
  static constexpr const char* kDevice = "kube-ipvs-pm";

  using EnsureScheduler = ipvs::Schedulers::Ensure;

  // Serves the tools' families; they outlive this. Opens netlink sockets only, changes nothing.
  // `ensure_scheduler` is asked for schedulers of single Services (annotation
  // pointsman.io/ipvs-scheduler), never for the configured one, which is preflight's.
  // `modules_root`: see kube::KernelHasModule. Throws std::system_error, ENOENT when the kernel has
  // no IPVS.
  IpvsDataplane(const kube::ProxySettings& settings, EnsureScheduler ensure_scheduler,
                const std::vector<xtables::IptablesTool*>& tools, const ipvs::Room& room = {},
                const std::string& modules_root = "");
  IpvsDataplane(const kube::ProxySettings& settings, EnsureScheduler ensure_scheduler,
                xtables::IptablesTool& tool)
      : IpvsDataplane(settings, std::move(ensure_scheduler), std::vector{&tool}) {}

  kube::Mode mode() const override { return kube::Mode::kIpvs; }
  SyncResult FullSync(const ServiceModel& model) override;
  SyncResult Sync(const ServiceModel& model, const ModelDelta& delta) override;
  VerifyResult Verify(const ServiceModel& model) override;
  // Counts established TCP and SCTP connections, and UDP flows of backends that got a packet within
  // the last 30 s (IPVS does not say of a single UDP flow when it was last used).
  DrainStatus Drain(const ServiceModel& model) override;
  void TakeOver() override { base_.TakeOver(); }
  // From IPVS's persistence templates, for 2 s at most: what it has not read by then is left out.
  std::vector<ClientBinding> Bindings(const ServiceModel& model) override;
  // template_sync.h says how, and what is not as with IPVS's own templates.
  SyncResult Bind(const ServiceModel& model, const std::vector<ClientBinding>& bindings) override;
  SyncResult Remove() override;
  std::chrono::steady_clock::time_point FullSyncDue() const override { return full_sync_due_; }
  bool Present() override { return base_.Present(); }
  std::vector<std::string> Sysctls() const override { return base_.Sysctls(); }

 private:
  bool Serves(const ServicePortEntry& entry) const { return base_.Serves(entry.id.family); }
  ipvs::DesiredState MakeDesired(const ServiceModel& model) const;
  // Looks for the device and reads the addresses of the node, which are not on it.
  void ReadHost();
  ipvs::Writer MakeWriter(SyncResult& result);
  // Takes the delta into needs_. False: a full sync has to say who is served now.
  bool HasRoomFor(const ModelDelta& delta);
  void CheckSchedulers(const ModelDelta& delta);
  // Only a full sync knows whether a virtual server of others is there.
  bool MayBeOthers(const ipvs::FrontendTable::Touched& touched) const;
  void WriteChange(ipvs::DiffVisitor& writer, const ipvs::FrontendTable::Touched& touched);
  // After the flush of a sync: what has no connections goes.
  void EndIdle(ipvs::Writer& writer);
  std::vector<ServiceWarning> Warnings(const ipvs::FrontendTable& frontends) const;
  // Of both families; the record of what is ours stays until all of it is gone.
  void RemoveServers(SyncResult& result);

  const kube::ProxySettings settings_;
  const ipvs::Room room_;
  netlink::Ipvs ipvs_;
  netlink::Ipset ipset_;
  netlink::Socket route_;
  ipvs::KernelReader reader_;
  ipvs::IpvsBase base_;
  ipvs::Schedulers schedulers_;
  ipvs::GracefulTermination termination_;
  ipvs::DrainCounter drain_;
  std::chrono::steady_clock::time_point full_sync_due_ =
      std::chrono::steady_clock::time_point::max();

  bool synced_ = false;
  bool drained_ = false;  // new connections are not kept for IPVS any more
  // As last written.
  ipvs::FrontendTable frontends_;
  ipvs::SharedElements shared_;
  ipvs::HostAddresses host_;
  ipvs::Needs needs_;
  std::map<ipvs::ServiceName, std::string> crowded_;
};

}  // namespace pointsman::agent

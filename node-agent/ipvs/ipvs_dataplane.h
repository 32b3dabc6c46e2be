// The ipvs dataplane: each frontend (a Service's address and port on this node) is a virtual server
// of the kernel's IPVS.
//
// * VIPs are host routes of type "local" through the dummy device kube-ipvs-pm, not addresses on
//   it: 10,000 of them cost no quadratic insertion, are never picked as a source address and do not
//   appear where programs list the node's addresses; the kernel delivers and answers ARP the same.
//   A VIP that is an address of the node anyway gets neither route nor filter.
// * A node port is one virtual server, on an internal address (internal_addresses.h).
// * External and load balancer IPs are not bound: they may be another machine's, which this node
//   could not reach any more. Their virtual servers are on internal addresses too.
// * What is ours is recorded in the kernel (ipset PM-IPVS-OWNED-4/-6, written before the virtual
//   server): a restarted agent and Remove touch exactly that. Other virtual servers are not
//   touched; one that a Service needs is taken over, unless its address is in excludeCIDRs.
// * One family may be out of order (kubernetes#99127: an ip6tables that refuses MARK): the other is
//   served, and each full sync tries the first again.
// * A backend that goes keeps its TCP and SCTP connections: weight 0 until they have ended, as long
//   as it terminates and at most drain_timeout after it has left the Service's slices; a frontend
//   that goes does too. UDP flows end at once.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "kube/pointsman/proxy_settings.h"
#include "node-agent/dataplane/dataplane.h"
#include "node-agent/iptables/iptables_tool.h"
#include "node-agent/ipvs/frontend.h"
#include "node-agent/ipvs/room.h"
#include "node-agent/ipvs/rules.h"
#include "node-agent/ipvs/sets.h"
#include "node-agent/ipvs/strict_arp.h"
#include "node-agent/ipvs/writer.h"
#include "node-agent/netlink/ipset.h"
#include "node-agent/netlink/ipvs.h"
#include "node-agent/netlink/socket.h"

namespace pointsman::agent {

class IpvsDataplane final : public Dataplane {
 public:
  static constexpr const char* kDevice = "kube-ipvs-pm";

  // Makes sure that the kernel has a scheduler ("mh"); returns "" or why it cannot have it.
  using EnsureScheduler = std::function<std::string(const std::string& name)>;

  // Serves the tools' families; they outlive this. Opens netlink sockets only, changes nothing.
  // `ensure_scheduler` is asked for schedulers of single Services (annotation
  // pointsman.io/ipvs-scheduler), never for the configured one, which is preflight's. Throws
  // std::system_error, ENOENT when the kernel has no IPVS.
  IpvsDataplane(const kube::ProxySettings& settings, EnsureScheduler ensure_scheduler,
                const std::vector<IptablesTool*>& tools, const ipvs::Room& room = {});
  IpvsDataplane(const kube::ProxySettings& settings, EnsureScheduler ensure_scheduler,
                IptablesTool& tool)
      : IpvsDataplane(settings, std::move(ensure_scheduler), std::vector{&tool}) {}

  kube::Mode mode() const override { return kube::Mode::kIpvs; }
  SyncResult FullSync(const ServiceModel& model) override;
  SyncResult Sync(const ServiceModel& model, const ModelDelta& delta) override;
  VerifyResult Verify(const ServiceModel& model) override;
  // Counts established TCP and SCTP connections, and UDP flows of backends that got a packet within
  // the last 30 s (IPVS does not say of a single UDP flow when it was last used).
  DrainStatus Drain(const ServiceModel& model) override;
  // From IPVS's persistence templates, for 2 s at most: what it has not read by then is left out.
  std::vector<ClientBinding> Bindings(const ServiceModel& model) override;
  // template_sync.h says how, and what is not as with IPVS's own templates.
  SyncResult Bind(const ServiceModel& model, const std::vector<ClientBinding>& bindings) override;
  SyncResult Remove() override;
  std::chrono::steady_clock::time_point FullSyncDue() const override { return full_sync_due_; }
  bool Present() override;
  std::vector<std::string> Sysctls() const override;

 private:
  // A frontend as it was last written.
  struct Frontend {
    EntryPtr entry;  // null: lingering, of an earlier process
    ipvs::FrontendSource source = ipvs::FrontendSource::kClusterIp;
    net::IpAddress address;  // what clients ask for (FrontendClaim)
    bool vip = false;        // the virtual server's address is bound and filtered by us
    bool lingering = false;  // the Service port is gone, connections are not
  };
  using Key = ipvs::FrontendKey;
  using Frontends = std::unordered_map<Key, Frontend, ipvs::FrontendKeyHash>;
  struct ServerState {
    netlink::IpvsServer server;
    std::vector<netlink::IpvsDestination> destinations;  // sorted by address and port
  };
  struct Quiet {  // a destination of weight 0
    net::IpAddress ip;
    uint16_t port = 0;
    std::chrono::steady_clock::time_point deadline;
    // Its pod terminates: the pod's grace period comes first, and the deadline counts from when it
    // has left the Service's slices.
    bool terminating = false;
  };
  // Of a frontend. The model gives an address with port to one Service port alone, but load
  // balancer and external IPs can have the same internal address.
  struct Claim {
    EntryPtr entry;
    ipvs::FrontendClaim frontend;
  };
  struct Kernel;   // what a full sync reads
  struct Desired;  // what a model wants

  // Configured, and the kernel took its sets and rules in the last full sync.
  bool Serves(net::Family family) const;
  bool Serves(const ServicePortEntry& entry) const;
  bool ServesAny() const;
  Desired BuildDesired(const ServiceModel& model);
  // Of two addresses that share an internal one, the older Service's has it, then the spare one is
  // tried; one that has neither is left out. The result does not depend on the order of the calls.
  void Place(Desired& desired, Claim claim) const;
  // Takes the delta into needs_. False: a full sync has to say who is served now.
  bool HasRoomFor(const ModelDelta& delta);
  Kernel ReadKernel();
  std::vector<netlink::IpvsDestination> DestinationsOf(const netlink::IpvsServer& server);
  // Says in unserved_ which families are not to be served: what must be there before a VIP is bound
  // is not.
  void EnsureBase(SyncResult& result);
  // `sets`: the names of those that exist.
  void EnsureFamilies(const std::unordered_set<std::string>& sets, SyncResult& result);
  SyncResult EnsureFamily(net::Family family, IptablesTool& tool,
                          const std::unordered_set<std::string>& sets);
  void EnsureStrictArp(bool recorded, SyncResult& result);
  void UndoStrictArp(SyncResult& result);
  VerifyResult VerifyRules(net::Family family, IptablesTool& tool) const;
  void ReadHost();
  bool IsHostAddress(const net::IpAddress& ip) const;
  // The elements of kNodeAddress.
  std::vector<ipvs::SetEntry> NodeAddresses(const NodeNetwork& node) const;
  bool NodeInRanges(const ServicePortEntry& entry) const;
  bool Excluded(const net::IpAddress& ip) const;
  // The address that clients ask for has a virtual server of others and lies in excludeCIDRs.
  bool IsLeftToOthers(const Kernel& kernel, const Key& key, const Frontend& frontend) const;
  netlink::IpvsServer MakeServer(const Key& key, const ServicePortEntry& entry) const;
  // The Service's own scheduler if it can be had, else the configured one.
  const std::string& SchedulerOf(const ServicePortEntry& entry) const;
  // Looks whether the entry's scheduler can be had, and remembers a warning if not.
  void CheckScheduler(const ServicePortEntry& entry);
  std::vector<ServiceWarning> Warnings(const Frontends& frontends) const;
  void NoteFullSyncDue();
  ServerState Remembered(const Key& key, const Frontend& frontend) const;
  Frontend MakeFrontend(const EntryPtr& entry, const ipvs::FrontendClaim& claim) const;
  // The key at which `frontends` has it.
  static std::optional<Key> PlaceOf(const Frontends& frontends, const ServicePortId& id,
                                    const ipvs::FrontendClaim& claim);
  // Those of its virtual server.
  static const std::vector<Backend>& BackendsOf(const Frontend& frontend);

  // Plans what turns `current` (null: no server) into what `want` (null: nothing) needs. Returns
  // whether a server will be there. `counted`: the connection counts in `current` are real.
  bool PlanServer(ipvs::Writer& writer, const Key& key, const ServerState* current, bool counted,
                  const Frontend* want);
  void PlanElements(ipvs::Writer& writer, const std::vector<ipvs::SetEntry>& before,
                    const std::vector<ipvs::SetEntry>& after, const ServicePortEntry* owner) const;
  std::vector<ipvs::SetEntry> Elements(const Key& key, const Frontend& frontend) const;
  // The frontends that a sync touches, as they were before it (null: there was none).
  using Touched = std::unordered_map<Key, std::optional<Frontend>, ipvs::FrontendKeyHash>;
  void ReleaseClaims(const EntryPtr& entry, Touched& touched);
  // False: another address has a key, and a full sync must say who is where.
  bool MakeClaims(const EntryPtr& entry, Touched& touched);
  // Does it add or take away an address that shares its internal one with another?
  bool ChangesShared(const ModelDelta& delta) const;
  void CountReferences(const Key& key, const Frontend& frontend, int by);
  // Deletes destinations of weight 0 without connections, and servers and frontends that then have
  // no reason to be.
  void ReapIdle(ipvs::Writer& writer);
  void ForgetFrontend(ipvs::Writer& writer, const Key& key);
  // The node's own connections to a VIP that is bound here have the VIP as their source, and end
  // with it: those that the other mode gets from now on shall not.
  void KeepVipsFromBeingSources();
  void ReadOwned(std::vector<Key>& owned);

  const kube::ProxySettings settings_;
  const EnsureScheduler ensure_scheduler_;
  std::vector<std::pair<net::Family, IptablesTool*>> families_;
  // Why the last full sync left out families; each names one. What the kernel holds of such a
  // family stays as it is until a full sync can serve it or Remove takes it away.
  std::vector<SyncProblem> unserved_;
  const ipvs::Room room_;
  const std::string kernel_release_;
  netlink::Ipvs ipvs_;
  netlink::Ipset ipset_;
  netlink::Socket route_;
  ipvs::StrictArp strict_arp_;
  int device_index_ = 0;

  std::map<std::string, std::string, std::less<>>
      schedulers_;  // name → why it cannot be had, or ""
  std::map<ServicePortId, std::string> scheduler_warnings_;
  std::chrono::steady_clock::time_point full_sync_due_ =
      std::chrono::steady_clock::time_point::max();

  ipvs::Needs needs_;  // of what is served
  std::map<ipvs::ServiceName, std::string> crowded_;
  bool synced_ = false;
  bool drained_ = false;  // new connections are not kept for IPVS any more
  Frontends frontends_;
  std::unordered_set<Key, ipvs::FrontendKeyHash> shared_;  // wanted by several addresses
  std::vector<Claim> left_out_;                            // of these addresses
  std::unordered_map<Key, std::vector<Quiet>, ipvs::FrontendKeyHash> quiet_;
  std::unordered_set<Key, ipvs::FrontendKeyHash> quieted_now_;
  std::unordered_map<net::IpAddress, uint32_t> vips_;                  // frontends on each
  std::unordered_map<Key, uint32_t, ipvs::FrontendKeyHash> hairpins_;  // backends that may be here
  // Health check node ports by the frontends of their Services; the key's address says the family.
  std::unordered_map<Key, uint32_t, ipvs::FrontendKeyHash> health_;
  std::vector<net::IpAddress> host_addresses_;  // sorted

  struct UdpActivity {
    uint64_t packets = 0;
    std::chrono::steady_clock::time_point changed;
  };
  std::unordered_map<std::string, UdpActivity> udp_activity_;  // only while draining
};

}  // namespace pointsman::agent

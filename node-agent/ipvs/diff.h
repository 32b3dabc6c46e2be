// What differs between what is wanted and what the kernel holds. A full sync writes it, Verify
// tells of it, and a sync of a change writes that of the frontends it touches.
#pragma once

#include <utility>
#include <vector>

#include "kube/pointsman/proxy_settings.h"
#include "node-agent/ipvs/desired_state.h"
#include "node-agent/ipvs/frontend_table.h"
#include "node-agent/ipvs/kernel_state.h"
#include "node-agent/ipvs/schedulers.h"

namespace pointsman::agent::ipvs {

// A backend's destination, as it is to be.
netlink::IpvsDestination MakeDestination(const net::IpAddress& ip, uint16_t port);

// Of one virtual server. Points into what it was made of.
struct ServerDiff {
  FrontendKey key;
  const ServicePortEntry* entry = nullptr;  // whose it is to be; null: nobody's
  const ServerState* present = nullptr;     // null: there is none
  netlink::IpvsServer server;               // as it is to be; nobody's: as it is
  bool server_differs = false;              // in scheduler, flags or persistence
  size_t wanted = 0;                        // destinations
  std::vector<netlink::IpvsDestination> missing;
  // There, with another weight or way of forwarding.
  std::vector<const netlink::IpvsDestination*> changed;
  // Nothing that is surplus may stay: another program answers at this place from now on, and new
  // connections would not come to it.
  bool left_to_another = false;
  // Also those whose connections are let end: GracefulTermination says for how long.
  std::vector<const netlink::IpvsDestination*> surplus;
};

// `want` null: none.
ServerDiff DiffServer(const FrontendKey& key, const Frontend* want, const ServerState* present,
                      const Schedulers& schedulers);

// A virtual server as it was written for `frontend`, with its backends' destinations, unsorted.
ServerState MakeServerState(const FrontendKey& key, const Frontend& frontend,
                            const Schedulers& schedulers);

// Is told of all differences, in the order in which they are to be written.
class DiffVisitor {
 public:
  virtual ~DiffVisitor() = default;
  // What is told in between belongs to that frontend, which is wanted.
  virtual void BeginFrontend(const FrontendKey& key, const Frontend& frontend) = 0;
  virtual void EndFrontend() = 0;
  virtual void MissingVip(const net::IpAddress& ip) = 0;
  virtual void SurplusVip(const net::IpAddress& ip) = 0;
  // `entry`: whose it is to be; null: it is shared.
  virtual void MissingElement(const SetEntry& element, const ServicePortEntry* entry) = 0;
  // `stays_open`: another open set has its address and port, or is to have them.
  virtual void SurplusElement(const SetEntry& element, bool stays_open) = 0;
  // Also where nothing differs. Returns whether a virtual server will be there: one that nobody
  // wants may have connections.
  virtual bool Server(const ServerDiff& diff) = 0;
};

// The virtual servers of ours that nobody wants and of which the visitor says that they stay join
// `desired` as terminating. Returns how many elements were compared.
size_t Diff(DesiredState& desired, const KernelState& kernel, const Schedulers& schedulers,
            const HostAddresses& host, DiffVisitor& visitor);

// Of one frontend's own elements, both sorted.
void DiffElements(const std::vector<SetEntry>& present, const std::vector<SetEntry>& wanted,
                  const ServicePortEntry* entry, DiffVisitor& visitor);
void DiffShared(const SharedElements::Changes& changes, DiffVisitor& visitor);

// May virtual servers of others for this address be there, which are left alone (excludeCIDRs)?
bool IsExcluded(const kube::ProxySettings& settings, const net::IpAddress& address);
// Takes out of `desired` what clients ask for at such a virtual server; returns it.
std::vector<std::pair<FrontendKey, Frontend>> LeaveToOthers(DesiredState& desired,
                                                            const KernelState& kernel,
                                                            const kube::ProxySettings& settings);

}  // namespace pointsman::agent::ipvs

// Collects changes of one sync and carries them out in the order in which no packet meets a
// half-made VIP.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <unordered_set>
#include <vector>

#include "node-agent/dataplane/dataplane.h"
#include "node-agent/ipvs/frontend.h"
#include "node-agent/ipvs/sets.h"
#include "node-agent/netlink/ipset.h"
#include "node-agent/netlink/ipvs.h"
#include "node-agent/netlink/socket.h"

namespace pointsman::agent::ipvs {

class Writer {
 public:
  // The early ones close and prepare (a filter before what it filters), the late ones open. The
  // last ones send packets on to addresses that have been bound by then, or forget what all of this
  // made needless.
  enum class When : uint8_t { kEarly, kLate, kLast };

  // Everything outlives this. `entry`, where it is asked for, names the Service port in a problem
  // or a refusal, may be null, and must live until Flush.
  Writer(netlink::Ipvs& ipvs, netlink::Ipset& ipset, netlink::Socket& route, int device_index,
         SyncResult& result);

  void AddElement(When when, const SetEntry& element, const ServicePortEntry* entry = nullptr);
  void DeleteElement(When when, const SetEntry& entry);
  void NewServer(const netlink::IpvsServer& server, const ServicePortEntry* entry);
  void SetServer(const netlink::IpvsServer& server, const ServicePortEntry* entry);
  void DeleteServer(const netlink::IpvsServer& server, const ServicePortEntry* entry);
  void NewDestination(const netlink::IpvsServer& server, const netlink::IpvsDestination& d,
                      const ServicePortEntry* entry);
  void SetDestination(const netlink::IpvsServer& server, const netlink::IpvsDestination& d,
                      const ServicePortEntry* entry);
  void DeleteDestination(const netlink::IpvsServer& server, const netlink::IpvsDestination& d,
                         const ServicePortEntry* entry);
  void Bind(const net::IpAddress& vip);
  void Unbind(const net::IpAddress& vip);

  // Order: unbind, early elements, IPVS, late elements, bind, last elements. What is refused for
  // what a Service asks (a set is full, the kernel lost its scheduler) is that Service's refusal,
  // all else a problem of the result. Throws std::system_error when a socket fails.
  void Flush();

  // Changes asked for so far.
  uint64_t planned() const { return planned_; }
  size_t pending() const { return servers_.size(); }
  void AddProblem(std::string object, std::string message);

 private:
  enum class Verb : uint8_t {
    kNewServer,
    kSetServer,
    kDeleteServer,
    kNewDestination,
    kSetDestination,
    kDeleteDestination
  };
  struct ServerChange {
    Verb verb;
    FrontendKey key;
    net::IpAddress backend_ip;
    uint16_t backend_port;
    const ServicePortEntry* entry;
  };
  struct ElementChange {
    bool add;
    SetEntry entry;
    const ServicePortEntry* owner;
  };
  void Plan(Verb verb, const netlink::IpvsServer& server, const netlink::IpvsDestination* d,
            const ServicePortEntry* entry);
  void FlushElements(std::vector<ElementChange>& changes);
  void FlushServers();
  void FlushRoutes(std::vector<net::IpAddress>& vips, bool add);

  netlink::Ipvs& ipvs_;
  netlink::Ipset& ipset_;
  netlink::Socket& route_;
  const int device_index_;
  SyncResult& result_;
  netlink::Batch batch_;  // of IPVS requests
  std::vector<ServerChange> servers_;
  std::array<std::vector<ElementChange>, 3> elements_;  // by When
  std::vector<net::IpAddress> bind_;
  std::vector<net::IpAddress> unbind_;
  uint64_t planned_ = 0;
  uint64_t unsaid_problems_ = 0;
};

}  // namespace pointsman::agent::ipvs

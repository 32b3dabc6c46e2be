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
  // Everything outlives this. `entry`, where it is asked for, names the Service port in a problem
  // or a refusal, may be null, and must live until Flush.
  Writer(netlink::Ipvs& ipvs, netlink::Ipset& ipset, netlink::Socket& route, int device_index,
         SyncResult& result);

  void AddElement(const SetEntry& element, const ServicePortEntry* entry);
  // `stays_open`: another open set has its address and port, or will have when those that open are
  // added.
  void DeleteElement(const SetEntry& element, bool stays_open);
  void NewServer(const netlink::IpvsServer& server, const ServicePortEntry* entry);
  void SetServer(const netlink::IpvsServer& server, const ServicePortEntry* entry);
  void DeleteServer(const netlink::IpvsServer& server, const ServicePortEntry* entry);
  void NewDestination(const netlink::IpvsServer& server, const netlink::IpvsDestination& d,
                      const ServicePortEntry* entry);
  void SetDestination(const netlink::IpvsServer& server, const netlink::IpvsDestination& d,
                      const ServicePortEntry* entry);
  void DeleteDestination(const netlink::IpvsServer& server, const netlink::IpvsDestination& d,
                         const ServicePortEntry* entry);
  // A local route through our device.
  void AddVip(const net::IpAddress& vip);
  void RemoveVip(const net::IpAddress& vip);

  // Order: VIPs that go, early elements, IPVS, late elements, VIPs that come, last elements. What
  // is refused for what a Service asks (a set is full, the kernel lost its scheduler) is that
  // Service's refusal, all else a problem of the result. Throws std::system_error when a socket
  // fails.
  void Flush();

  // Changes asked for so far.
  uint64_t planned() const { return planned_; }
  // A first sync is carried out in pieces, so that memory for requests stays small and the first
  // Services work before the last are written: is it time for a flush?
  bool IsFull() const { return servers_.size() >= kMaxPending; }

 private:
  static constexpr size_t kMaxPending = 8192;
  // The early ones close and prepare (a filter before what it filters), the late ones open. The
  // last ones send packets on to addresses that are VIPs by then, or forget what all of this made
  // needless.
  enum class When : uint8_t { kEarly, kLate, kLast };
  static When WhenToAdd(SetId id);
  static When WhenToDelete(SetId id, bool stays_open);

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
  void AddProblem(std::string object, std::string message);
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
  std::vector<net::IpAddress> new_vips_;
  std::vector<net::IpAddress> gone_vips_;
  uint64_t planned_ = 0;
  uint64_t unsaid_problems_ = 0;
};

}  // namespace pointsman::agent::ipvs

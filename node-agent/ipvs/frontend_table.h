// Which Service port has which virtual server.
//
// The model gives an address with port to one Service port alone (model/address_claims.h). But load
// balancer and external IPs can have the same internal address (internal_addresses.h): the older
// Service's has it, then the spare one is tried; one that has neither is left out. That is the same
// on every node and after every restart.
#pragma once

#include <functional>
#include <netinet/in.h>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "node-agent/dataplane/service_refusals.h"
#include "node-agent/ipvs/frontend.h"
#include "node-agent/ipvs/host_addresses.h"
#include "node-agent/model/dns_cache.h"
#include "node-agent/model/service_model.h"

namespace pointsman::agent::ipvs {

// Of one virtual server.
struct Frontend {
  EntryPtr entry;  // null: terminating, of an earlier process
  FrontendSource source = FrontendSource::kClusterIp;
  net::IpAddress address;    // what clients ask for (FrontendClaim)
  bool vip = false;          // the virtual server's address is on our device and filtered by us
  bool terminating = false;  // the Service port is gone, connections are not

  // Those of its virtual server.
  const std::vector<Backend>& backends() const;
};

// Not thread-safe.
class FrontendTable {
 public:
  using Map = std::unordered_map<FrontendKey, Frontend, FrontendKeyHash>;
  // The frontends that a change touches, as they were before it (nullopt: there was none).
  using Touched = std::unordered_map<FrontendKey, std::optional<Frontend>, FrontendKeyHash>;
  using Serves = std::function<bool(const ServicePortEntry&)>;

  // What is an address of the node is no VIP. What its DNS cache answers is no frontend; after a
  // change that concerns it the table must be made again.
  explicit FrontendTable(HostAddresses host = {}, DnsCachePorts dns_cache = {})
      : host_(std::move(host)), dns_cache_(std::move(dns_cache)) {}

  // For a table that is made; the result does not depend on the order of the calls.
  void Add(const EntryPtr& entry);

  // For a table that is kept. `serves`: which entries count.
  // Does it add or take away an address that shares its internal one with another? Then the table
  // must be made again.
  bool ChangesShared(const ModelDelta& delta, const Serves& serves) const;
  // Not after ChangesShared. nullopt: two addresses share an internal one from now on, and the
  // table must be made again.
  std::optional<Touched> Change(const ModelDelta& delta, const Serves& serves);

  const Frontend* Find(const FrontendKey& key) const;
  bool Contains(const FrontendKey& key) const { return frontends_.contains(key); }
  // Where `id` has what it claims, and that frontend, which does not terminate.
  std::optional<std::pair<FrontendKey, const Frontend*>> FindClaim(
      const ServicePortId& id, const FrontendClaim& claim) const;
  // What is asked for there is answered by the node's DNS cache.
  bool IsLeftToDnsCache(const FrontendKey& key) const {
    return key.protocol != IPPROTO_SCTP && dns_cache_.Answers(key.ip, key.port);
  }
  const Map& all() const { return frontends_; }
  void Erase(const FrontendKey& key) { frontends_.erase(key); }
  // Its Service port is gone. The key is free.
  const Frontend& AddTerminating(const FrontendKey& key, Frontend frontend);

  // One for each address that clients cannot reach.
  void AppendWarnings(std::vector<ServiceWarning>& warnings) const;

 private:
  struct Claim {
    EntryPtr entry;
    FrontendClaim frontend;
  };
  Frontend MakeFrontend(const FrontendKey& key, const Claim& claim) const;
  void Place(Claim claim);
  void Release(const EntryPtr& entry, Touched& touched);
  // False: another address has a key.
  bool PutBack(const EntryPtr& entry, Touched& touched);
  // "203.0.113.1 (Service port default/web:http/TCP/IPv4)"
  std::string HolderOf(const FrontendKey& key) const;

  HostAddresses host_;
  DnsCachePorts dns_cache_;
  Map frontends_;
  std::unordered_set<FrontendKey, FrontendKeyHash> shared_;  // wanted by several addresses
  std::vector<Claim> left_out_;                              // of these addresses
};

}  // namespace pointsman::agent::ipvs

// Which backend a client's connection goes to: the slots of the forwarder with their backends,
// round robin, ClientIP affinity, and backends that did not answer of late.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "kube/net/fair_shares.h"
#include "node-agent/userspace/forwarder/address_plan.h"

namespace pointsman::forwarder {

using Clock = std::chrono::steady_clock;

// One class of traffic of one Service port.
struct Slot {
  uint32_t number = 0;  // 1..kMaxSlot
  // "default/web:http/TCP/IPv4"; slots of one Service port share their clients' affinity.
  std::string service;
  uint8_t kind = 0;  // 0 cluster traffic, 1 from outside, 2 from outside, by this node and its pods
  bool udp = false;
  uint32_t affinity_seconds = 0;  // 0: none
  std::vector<IpPort> backends;   // sorted; not empty
  bool operator==(const Slot&) const = default;
};

// Who uses a place for a connection or a flow: the namespace of the Service, its slot, the client.
std::array<net::ShareKey, 3> ShareOf(const Slot& slot, const net::IpAddress& client);

// ClientIP affinity of one client of a Service port, as it goes from and to the agent.
struct Binding {
  net::IpAddress client;
  IpPort backend;
  uint32_t seconds_left = 0;  // at least 1
  bool operator==(const Binding&) const = default;
};
struct ServiceBindings {
  std::string service;  // as in Slot
  std::vector<Binding> bindings;
  bool operator==(const ServiceBindings&) const = default;
};

struct IpPortHash {
  size_t operator()(const IpPort& place) const noexcept {
    return std::hash<net::IpAddress>()(place.ip) * 31 + place.port;
  }
};

// Not thread-safe.
class BackendTable {
 public:
  // How long a backend that did not answer is only used when there is no other.
  static constexpr std::chrono::seconds kSuspectTime{2};
  // Clients whose affinity is remembered, over all Services: about 30 MB. Beyond that the one that
  // has been silent longest is forgotten.
  static constexpr size_t kMaxAffineClients = 200'000;
  static constexpr size_t kMaxSuspects = 4096;

  // Adds or replaces. Affinity and the turn of round robin are kept.
  void Set(Slot slot);
  void Remove(uint32_t number);
  // Removes all slots for which `keep` is false.
  template <typename Keep>
  void RemoveUnless(const Keep& keep) {
    std::vector<uint32_t> gone;
    for (const auto& [number, state] : slots_) {
      if (!keep(number)) gone.push_back(number);
    }
    for (uint32_t number : gone)
      Remove(number);
  }
  const Slot* Find(uint32_t number) const;
  bool Has(uint32_t number, const IpPort& backend) const;
  size_t size() const { return slots_.size(); }
  template <typename Each>
  void ForEach(const Each& each) const {
    for (const auto& [number, state] : slots_)
      each(state.slot);
  }

  // The backend for a new connection of `client`, never one of `tried`; nullopt: there is no other.
  std::optional<IpPort> Choose(uint32_t number, const net::IpAddress& client,
                               std::span<const IpPort> tried, Clock::time_point now);
  // The client's connection reached `backend`: with affinity, its next ones go there too.
  void Reached(uint32_t number, const net::IpAddress& client, const IpPort& backend,
               Clock::time_point now);
  void Failed(const IpPort& backend, Clock::time_point now);
  size_t affine_clients() const { return affine_clients_.size(); }

  // All clients whose affinity has not ended.
  std::vector<ServiceBindings> Bindings(Clock::time_point now) const;
  // Takes these over as if each client had connected when its time began. One that is bound here
  // already, to a backend that is still there, stays, unless it has connected elsewhere since: this
  // forwarder may have drained meanwhile. Returns how many there is no place for: no
  // such Service with affinity, or no such backend of it.
  size_t Bind(const std::vector<ServiceBindings>& given, Clock::time_point now);

 private:
  struct Affinity;
  struct AffineClient {
    Affinity* service;
    net::IpAddress client;
    IpPort backend;
    Clock::time_point last;
  };
  using AffineClients = std::list<AffineClient>;  // the longest silent first
  struct Affinity {
    std::unordered_map<net::IpAddress, AffineClients::iterator> clients;
    std::vector<uint32_t> slots;  // that share it; a handful
  };
  struct State {
    Slot slot;
    size_t next = 0;
    Affinity* affinity = nullptr;
  };
  void Release(State& state);
  // All slots of a Service port have the same.
  std::chrono::seconds TimeoutOf(const Affinity& affinity) const;
  bool HasAny(const Affinity& affinity, const IpPort& backend) const;
  void ForgetBeyondLimit();
  bool IsSuspect(const IpPort& backend, Clock::time_point now);

  std::unordered_map<uint32_t, State> slots_;
  std::unordered_map<std::string, Affinity> affinities_;  // by service
  AffineClients affine_clients_;
  std::unordered_map<IpPort, Clock::time_point, IpPortHash> suspects_;  // until when
};

}  // namespace pointsman::forwarder

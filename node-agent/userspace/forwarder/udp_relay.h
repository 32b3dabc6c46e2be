// UDP: flows (one client address and port to one slot) with a connected socket each towards their
// backend, which makes the kernel hand ICMP errors to the flow they belong to.
//
//  * A flow ends when nothing came either way for the idle time-out; one whose client waits for an
//    answer, the first or a later one, lives at least kAnswerTimeout, because an answer may well
//    take longer than the 250 ms that kube-proxy's default gives it.
//  * An ICMP error before the first answer sends the last datagram to the next backend. Without
//    affinity, a client that sends again after kUnansweredTimeout without any answer goes to the
//    next backend too: a backend that is gone without an error is not asked for ever.
//  * When a flow's backend leaves the slot the flow ends, and the client's next datagram starts
//    another one: UDP has no connections to keep.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <iterator>
#include <list>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/unique_fd.h"
#include "node-agent/userspace/forwarder/backend_table.h"
#include "node-agent/userspace/forwarder/event_loop.h"
#include "node-agent/userspace/forwarder/protocol.h"
#include "node-agent/userspace/forwarder/sockets.h"

namespace pointsman::forwarder {

// Not thread-safe: everything in the loop's thread.
class UdpRelay {
 public:
  static constexpr std::chrono::seconds kAnswerTimeout{5};
  static constexpr std::chrono::seconds kUnansweredTimeout{1};
  // What is kept of an unanswered datagram to send it again: EDNS's largest usual size.
  static constexpr size_t kMaxKept = 4096;
  static constexpr size_t kLooks = 32;

  // All outlive this. At most `flows` flows (a file descriptor each): a new one ends one that has
  // been silent long, one that never had an answer before the others, so that a flood of forged
  // source addresses does not end flows that are in use. Of the kLooks that have been silent
  // longest it is one of the namespace, slot and client with the most flows, so that it does not
  // end those of other Services either.
  UdpRelay(EventLoop& loop, BackendTable& table, Stats& stats, size_t flows, uint32_t mark);
  ~UdpRelay();
  UdpRelay(const UdpRelay&) = delete;
  UdpRelay& operator=(const UdpRelay&) = delete;

  void Listen(UniqueFd socket, net::Family family);
  void SetIdleTimeout(std::chrono::nanoseconds timeout);
  // Ends the flows whose backend is no longer one of their slot.
  void TableChanged();
  size_t flows() const { return flows_.size(); }

 private:
  class Listener;
  class Flow;
  struct Key {
    IpPort client;
    uint32_t slot = 0;
    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    size_t operator()(const Key& key) const noexcept {
      return IpPortHash()(key.client) * 0x9e3779b97f4a7c15ULL + key.slot;
    }
  };
  using Order = std::list<Flow*>;  // the longest silent first
  // In the order in which they make room for a new flow.
  enum class Phase : uint8_t {
    kUnanswered,  // no answer has come yet
    kQuiet,       // nothing was sent since the last answer
    kAsking,      // something was
  };
  static constexpr Phase kPhases[] = {Phase::kUnanswered, Phase::kQuiet, Phase::kAsking};
  struct Buffers;

  Flow* Find(const Key& key, Listener& listener);
  void End(Flow* flow);
  // The one that makes room for a new one; false: there is none.
  bool EndOne();
  void Sweep();
  void ScheduleSweep();
  Order& InPhase(Phase phase) { return orders_[static_cast<size_t>(phase)]; }
  Clock::duration TimeoutOf(Phase phase) const;

  EventLoop& loop_;
  BackendTable& table_;
  Stats& stats_;
  const size_t limit_;
  const uint32_t mark_;
  Clock::duration idle_timeout_ = std::chrono::milliseconds(250);
  std::unique_ptr<Buffers> buffers_;
  std::vector<std::unique_ptr<Listener>> listeners_;
  net::FairShares<Flow> shares_;
  std::unordered_map<Key, std::shared_ptr<Flow>, KeyHash> flows_;
  std::array<Order, std::size(kPhases)> orders_;
  bool sweep_set_ = false;
  EventLoop::Timer sweep_;
};

}  // namespace pointsman::forwarder

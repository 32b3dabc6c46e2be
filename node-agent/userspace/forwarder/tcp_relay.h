// TCP: accepts, finds a backend that answers, and moves bytes both ways with splice(2).
//
// A client's connection is accepted before a backend is asked. A backend that refuses or does not
// answer in time is followed by the next one (250 ms, 500 ms, 1 s, 2 s: kube-proxy's
// EndpointDialTimeouts, pkg/proxy/userspace/proxysocket.go); when none answers the client gets a
// reset. What the client sends meanwhile waits in its socket's receive buffer.
//
// Memory of a connection: this object and what the kernel's socket buffers and at most two pipes
// hold. Nothing is read that could not be passed on, so a slow reader slows its sender.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/unique_fd.h"
#include "kube/net/fair_shares.h"
#include "kube/process/log_limit.h"
#include "node-agent/userspace/forwarder/backend_table.h"
#include "node-agent/userspace/forwarder/event_loop.h"
#include "node-agent/userspace/forwarder/pipe_pool.h"
#include "node-agent/userspace/forwarder/protocol.h"

namespace pointsman::forwarder {

// Not thread-safe: everything in the loop's thread.
class TcpRelay {
 public:
  struct Limits {
    // Two file descriptors each. When there are as many, that of the heaviest namespace's heaviest
    // slot's heaviest client which has been idle longest makes room for a new one. A client that is
    // itself that one gives up only what has been idle for kIdle, else it gets no more.
    size_t connections;
    size_t pipes;  // two file descriptors each; without one bytes are copied
  };
  static constexpr std::chrono::seconds kIdle{60};
  // How long a client's connection is open at most before a backend has accepted it or it is
  // reset: the sum of the four times.
  static constexpr std::chrono::milliseconds kGivesUpAfter{3750};

  // All outlive this. `mark`: see OpenBackendSocket.
  TcpRelay(EventLoop& loop, BackendTable& table, Stats& stats, const Limits& limits, uint32_t mark);
  ~TcpRelay();
  TcpRelay(const TcpRelay&) = delete;
  TcpRelay& operator=(const TcpRelay&) = delete;

  // Takes connections from this listening socket.
  void Listen(UniqueFd socket);
  size_t connections() const { return connections_.size(); }
  size_t pipes() const { return pipes_.size(); }

 private:
  class Listener;
  class Connection;

  // False: the newcomer gets no place.
  bool MakeRoom(std::span<const net::ShareKey> newcomer);

  EventLoop& loop_;
  BackendTable& table_;
  Stats& stats_;
  const Limits limits_;
  const uint32_t mark_;
  PipePool pipes_;
  UniqueFd spare_;  // given up for a moment to accept, and close, what no descriptor is left for
  std::vector<char> copy_buffer_;
  std::vector<std::unique_ptr<Listener>> listeners_;
  net::FairShares<Connection> shares_;
  kube::LogLimit refused_log_;
  kube::LogLimit room_log_;
  kube::LogLimit socket_log_;
  std::unordered_map<Connection*, std::shared_ptr<Connection>> connections_;
};

}  // namespace pointsman::forwarder

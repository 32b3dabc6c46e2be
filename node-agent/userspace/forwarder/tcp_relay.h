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

#include <cstdint>
#include <memory>
#include <unordered_set>
#include <vector>

#include "node-agent/userspace/forwarder/backend_table.h"
#include "node-agent/userspace/forwarder/event_loop.h"
#include "node-agent/userspace/forwarder/pipe_pool.h"
#include "node-agent/userspace/forwarder/protocol.h"

namespace pointsman::forwarder {

// Not thread-safe: everything in the loop's thread.
class TcpRelay {
 public:
  struct Limits {
    size_t connections;  // two file descriptors each; those beyond are closed at once
    size_t pipes;        // two file descriptors each; without one bytes are copied
  };
  // All outlive this. `mark`: see OpenBackendSocket.
  TcpRelay(EventLoop& loop, BackendTable& table, Stats& stats, const Limits& limits, uint32_t mark);
  ~TcpRelay();
  TcpRelay(const TcpRelay&) = delete;
  TcpRelay& operator=(const TcpRelay&) = delete;

  // Takes connections from this listening socket.
  void Listen(Fd socket);
  size_t connections() const { return connections_.size(); }
  size_t pipes() const { return pipes_.size(); }

 private:
  class Listener;
  class Connection;

  EventLoop& loop_;
  BackendTable& table_;
  Stats& stats_;
  const Limits limits_;
  const uint32_t mark_;
  PipePool pipes_;
  Fd spare_;  // given up for a moment to accept, and close, what no descriptor is left for
  std::vector<char> copy_buffer_;
  std::vector<std::unique_ptr<Listener>> listeners_;
  std::unordered_map<Connection*, std::shared_ptr<Connection>> connections_;
};

}  // namespace pointsman::forwarder

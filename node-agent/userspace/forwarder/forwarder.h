// The forwarder: one process, one event loop, that carries userspace mode's connections and
// outlives the agent that started it.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "node-agent/userspace/forwarder/backend_table.h"
#include "node-agent/userspace/forwarder/control_server.h"
#include "node-agent/userspace/forwarder/event_loop.h"
#include "node-agent/userspace/forwarder/protocol.h"
#include "node-agent/userspace/forwarder/sockets.h"
#include "node-agent/userspace/forwarder/tcp_relay.h"
#include "node-agent/userspace/forwarder/udp_relay.h"

namespace pointsman::forwarder {

struct ForwarderOptions {
  std::string control_path;
  std::string version;
  uint16_t port = 0;     // of the listening sockets, if it can be had; 0: any
  PortRange port_range;  // what `port` is chosen from otherwise
  std::chrono::nanoseconds udp_idle_timeout = std::chrono::milliseconds(250);
  uint32_t mark = 0;  // of its packets to backends
  uint64_t max_files = uint64_t{1} << 20;
};

// How the file descriptors are shared out.
struct FileBudget {
  size_t tcp_connections;
  size_t pipes;
  size_t udp_flows;
};
FileBudget ShareFiles(uint64_t files);

class Forwarder {
 public:
  // Opens all sockets. Throws std::system_error.
  explicit Forwarder(const ForwarderOptions& options);
  // Until told to exit, or until a drain has ended.
  void Run() { loop_.Run(); }

 private:
  // The frames of an update that is not complete yet, of one session: another one that only looks
  // must not get into it, and what an agent that is gone had begun goes with its session.
  using Partial = std::optional<Update>;
  void Handle(Partial& partial, FrameType type, std::string_view body, std::string& out);
  void HandleUpdate(Partial& partial, std::string_view body, std::string& out);
  void Apply(Update update);
  HelloReply Hello() const;
  Stats Statistics() const;
  void Drain(std::chrono::seconds longest);
  void PollDrain();

  const ForwarderOptions options_;
  EventLoop loop_;
  BackendTable table_;
  Stats stats_;
  FileBudget budget_;
  uint16_t port_v4_ = 0;
  uint16_t port_v6_ = 0;
  std::unique_ptr<TcpRelay> tcp_;
  std::unique_ptr<UdpRelay> udp_;
  std::unique_ptr<ControlServer> control_;
  uint64_t generation_ = 0;
  uint32_t last_slot_ = 0;
  std::optional<Clock::time_point> drain_deadline_;
  EventLoop::Timer drain_timer_;
};

}  // namespace pointsman::forwarder

// The forwarder's end of the control socket.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <string>
#include <string_view>

#include "node-agent/userspace/forwarder/event_loop.h"
#include "node-agent/userspace/forwarder/protocol.h"
#include "node-agent/userspace/forwarder/sockets.h"

namespace pointsman::forwarder {

// Not thread-safe: everything in the loop's thread. The socket is only for its owner (mode 0600),
// and a peer that is not the same user is turned away too.
class ControlServer {
 public:
  // Handles one question and appends the frames of its answer to `out`. Each session has one of its
  // own, which goes with it.
  using Handler = std::function<void(FrameType type, std::string_view body, std::string& out)>;

  // Throws std::system_error.
  ControlServer(EventLoop& loop, std::string path, std::function<Handler()> make_handler);
  ~ControlServer();  // the path goes too
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;

  // Is an agent connected?
  bool asked_by_anyone() const { return !sessions_.empty(); }

 private:
  class Listener;
  class Session;

  EventLoop& loop_;
  const std::string path_;
  const std::function<Handler()> make_handler_;
  std::unique_ptr<Listener> listener_;
  std::list<std::shared_ptr<Session>> sessions_;
};

}  // namespace pointsman::forwarder

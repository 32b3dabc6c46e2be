// What is said over a forwarder's control socket, from the agent's side.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"
#include "node-agent/userspace/forwarder/protocol.h"

namespace pointsman::agent {

// A connection to one forwarder's control socket. Not thread-safe.
class ForwarderSession {
 public:
  // No answer for `timeout` is an error. Throws std::system_error; ECONNREFUSED or ENOENT: nobody
  // is there. ProtocolError.
  explicit ForwarderSession(const std::string& path,
                            std::chrono::seconds timeout = std::chrono::seconds(15));

  const forwarder::HelloReply& hello() const { return hello_; }
  int fd() const { return socket_.get(); }
  // Whether the forwarder ends within `wait`.
  bool HungUp(std::chrono::milliseconds wait) const;

  // All throw std::system_error or ProtocolError, after which the session is no good any more.
  // Apply: false when the table has another generation than update.from.
  bool Apply(const forwarder::Update& update);
  std::vector<forwarder::Slot> Dump();
  forwarder::Stats Statistics();
  void SetUdpIdleTimeout(std::chrono::nanoseconds timeout);
  forwarder::Stats Drain(std::chrono::seconds longest);
  void Resume();
  void Exit();
  std::vector<forwarder::ServiceBindings> Bindings();
  // Returns for how many there is no place.
  size_t Bind(const std::vector<forwarder::ServiceBindings>& given);

 private:
  void Send(std::string_view frames);
  std::string Receive(forwarder::FrameType wanted);
  std::string Ask(forwarder::FrameType question, std::string_view body,
                  forwarder::FrameType wanted);

  UniqueFd socket_;
  forwarder::FrameReader reader_;
  forwarder::HelloReply hello_;
};

}  // namespace pointsman::agent

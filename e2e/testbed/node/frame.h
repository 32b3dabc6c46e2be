// The wire format between the testbed and a node's init: one TCP connection for each command.
//   frame   = type (1 byte) length (4 bytes, big endian, at most kMaxFrame) payload
//   request = 'R' {"token", "op", …}, then for exec and put: 'I' stdin bytes…, 'E' end of stdin
//   answer  = 'O' stdout bytes…, 'e' stderr bytes…, then 'X' {…} or '!' what failed, and it is over
// Ops: ping; exec {argv, env, cwd, netns} → X {exit, signal}; start {argv, env, cwd, netns, log} →
// X {pid}; status {pid} → X {running, exit, signal}; signal {pid, signal}; put {path, mode, owner};
// get {path}.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace pointsman::e2e {

struct Frame {
  char type = 0;
  std::string payload;
};

constexpr std::size_t kMaxFrame = 1 << 20;
constexpr std::uint16_t kNodePort = 10;

// Blocking. Throws std::system_error when the peer is gone, std::runtime_error when a frame is too
// long.
void WriteFrame(int fd, char type, std::string_view payload);
// nullopt: the peer closed between two frames.
std::optional<Frame> ReadFrame(int fd);

}  // namespace pointsman::e2e

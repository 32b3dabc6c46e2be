// The server in a test pod. It says who it is and whom it sees, so that a client can tell which
// backend a Service led to and whether its address was kept.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace pointsman::e2e {

struct ServeOptions {
  std::string name;                 // no white space
  std::string bind = "0.0.0.0";     // "::" serves IPv4 too
  std::vector<std::uint16_t> tcp;   // ports; greets with "NAME client:port\n", then echoes
  std::vector<std::uint16_t> udp;   // ports; answers "NAME client:port PAYLOAD" to PAYLOAD
  std::vector<std::uint16_t> sctp;  // ports; as tcp
  std::uint16_t http = 0;           // 0: off. Any request is answered 200 with "NAME\n".
  // After SIGTERM, how long new connections are still accepted: endpoints of a terminating pod
  // reach the proxies of other nodes only after the pod was told to stop.
  std::chrono::milliseconds linger{0};
};

// Runs until SIGTERM or SIGINT. On SIGTERM stops accepting (after `linger`) and returns when the
// last TCP connection has ended; on SIGINT, or a second SIGTERM, returns at once.
int Serve(const ServeOptions& options);

}  // namespace pointsman::e2e

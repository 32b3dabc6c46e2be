// For tests: clients in network namespaces that ask an NamedServers who it is.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "base/unique_fd.h"
#include "node-agent/testing/net_namespace.h"

namespace pointsman::agent::testing {

enum class Transport : uint8_t { kTcp, kUdp, kSctp };

struct Reply {
  Transport transport = Transport::kTcp;
  int error = 0;        // errno of what failed; ETIMEDOUT: nothing came in time
  std::string server;   // who answered; empty: nobody
  std::string peer;     // the source address it saw
  uint32_t resent = 0;  // TCP segments that had to be sent once more
  bool ok() const { return error == 0; }
};

struct Attempt {
  Transport transport = Transport::kTcp;
  std::chrono::milliseconds timeout{3000};  // for the connection, and for each answer
  std::string source;                       // may be no address of the namespace; "": any
  uint16_t source_port = 0;                 // 0: any
};

// A TCP or SCTP connection that stays open.
class Stream {
 public:
  // Throws std::system_error only where there can be no such socket; what the network says is
  // known afterwards.
  Stream(const NetNamespace& from, const std::string& ip, uint16_t port,
         const Attempt& attempt = {});
  bool connected() const { return error_ == 0; }
  Reply Ask();  // sends a line and waits for the answer
  // IPv4: sends a line and waits for the error that the network (ICMP) or the peer answers with; 0
  // when there is none in that time.
  int AskForError(std::chrono::milliseconds timeout);

 private:
  UniqueFd fd_;
  int error_ = 0;
  const Transport transport_;
  const std::chrono::milliseconds timeout_;
};

// One connection, or one UDP datagram, and the answer.
Reply Ask(const NetNamespace& from, const std::string& ip, uint16_t port,
          const Attempt& attempt = {});

}  // namespace pointsman::agent::testing

// For tests: a node with pods and a client outside, each a network namespace with real sockets, in
// IPv4 and IPv6. All of it ends with the object.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "kube/net/ip_address.h"
#include "node-agent/testing/net_namespace.h"

namespace pointsman::agent::testing {

// Pod k has 10.244.k.2 and fd00:244:k::2 behind the node's …1; the client outside has 192.168.77.2
// and fd00:77::2 and sees the node as …1, its default route. Every pod and the node itself answer
// on port 8080 (the node also on 8081, on its loopback addresses only), TCP and UDP, with their
// name and the client's address.
class DualStackNetwork {
 public:
  explicit DualStackNetwork(int pods);
  ~DualStackNetwork();

  const NetNamespace& pod(int k) const { return *pods_[static_cast<size_t>(k)]; }
  const NetNamespace& outside() const { return outside_; }
  const NetNamespace& node() const { return node_; }
  static net::IpAddress PodIp(int k, net::Family family);
  // From now on what the client outside sends to pod k goes past the node, and only the answers
  // come through it: routes of which the node sees one direction.
  void AddPathPastNode(int k);

 private:
  class EchoServer;
  NetNamespace node_;
  NetNamespace outside_;
  std::vector<std::unique_ptr<NetNamespace>> pods_;
  std::vector<std::unique_ptr<EchoServer>> servers_;
};

enum class Transport : uint8_t { kTcp, kUdp };

struct Reply {
  Transport transport = Transport::kTcp;
  int error = 0;        // errno of the failed attempt
  std::string server;   // who answered
  std::string peer;     // the source address it saw
  uint32_t resent = 0;  // TCP segments that had to be sent once more
  bool ok() const { return error == 0; }
};

struct Attempt {
  Transport transport = Transport::kTcp;
  std::chrono::milliseconds timeout{3000};
  std::string source;        // "": the kernel's choice
  uint16_t source_port = 0;  // 0: any
};

Reply Ask(const NetNamespace& from, const std::string& address, uint16_t port,
          const Attempt& attempt = {});

// One TCP connection that stays open.
class OpenStream {
 public:
  // Throws std::system_error.
  OpenStream(const NetNamespace& from, const std::string& address, uint16_t port);
  // Sends a byte and waits for its echo.
  bool Echo();
  const std::string& server() const { return server_; }
  const std::string& peer() const { return peer_; }  // the source address that it saw

 private:
  UniqueFd fd_;
  std::string server_;
  std::string peer_;
};

}  // namespace pointsman::agent::testing

// For tests: TCP, SCTP and UDP servers in network namespaces that say who they are.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "node-agent/testing/net_namespace.h"

namespace pointsman::agent::testing {

// One thread for all. Each piece of data is answered with "<name> <client address>\n"; a connection
// stays open until the client closes it. The names' servers can be ended one by one, all end with
// the object. Thread-safe.
class NamedServers {
 public:
  NamedServers();
  ~NamedServers();
  NamedServers(const NamedServers&) = delete;
  NamedServers& operator=(const NamedServers&) = delete;

  // On a TCP and a UDP port. `ip`: one of the namespace's, "0.0.0.0", or "::" for both families.
  // Throws std::system_error.
  void Serve(const NetNamespace& where, const std::string& name, const std::string& ip,
             uint16_t port);
  // The same in SCTP (one-to-one sockets).
  void ServeSctp(const NetNamespace& where, const std::string& name, const std::string& ip,
                 uint16_t port);
  // Its open connections too.
  void Stop(const std::string& name);

 private:
  struct Socket {
    std::string name;
    UniqueFd fd;
    bool stream = false;
    bool listening = false;
  };
  void Bind(const NetNamespace& where, const std::string& name, const std::string& ip,
            uint16_t port, int type, int protocol);
  void Run();
  void Look(int fd);

  std::mutex mutex_;
  std::vector<Socket> sockets_;
  bool stop_ = false;
  UniqueFd wake_;  // eventfd
  std::thread thread_;
};

}  // namespace pointsman::agent::testing

// For tests: a node with pods and an outside client, each a network namespace with real sockets.
// All of it ends with the object.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kube/net/ip_address.h"

namespace pointsman::agent {

// A namespace without a name: it ends with its last file descriptor, thread and socket.
class NetNamespace {
 public:
  NetNamespace();
  ~NetNamespace();
  NetNamespace(const NetNamespace&) = delete;
  NetNamespace& operator=(const NetNamespace&) = delete;
  // Runs `work` in a thread of this namespace and waits for it; what it throws is thrown here.
  void Run(const std::function<void()>& work) const;
  // A path that ip(8) takes as "netns".
  std::string path() const;

 private:
  int fd_ = -1;
};

// ip(8) with these words, in the calling thread's namespace. Throws with its message.
void Ip(const std::string& words);

class Server;

// What a server told of the connection that reached it.
struct Answer {
  std::string server;
  std::string peer;  // the source address it saw
};

// One TCP connection that stays open.
class Stream {
 public:
  explicit Stream(int fd) : fd_(fd) {}
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  // Sends a byte and waits for its echo.
  bool Echo();
  Answer answer;

 private:
  int fd_;
};

// The calling thread is moved into the node's namespace. Pod k has 10.244.k.2 behind the node's
// 10.244.k.1; the client outside has 192.168.77.2 and sees the node as 192.168.77.1, its default
// route. Every pod answers on port 8080, TCP and UDP.
class TestNetwork {
 public:
  explicit TestNetwork(int pods);
  ~TestNetwork();

  const NetNamespace& pod(int k) const { return *pods_[static_cast<size_t>(k)]; }
  const NetNamespace& outside() const { return outside_; }
  const NetNamespace& node() const { return node_; }
  static net::IpAddress PodIp(int k);

  // errno of the failed attempt, or the answer.
  struct Outcome {
    int error = 0;
    Answer answer;
    std::chrono::milliseconds took{0};
  };
  static Outcome Connect(const NetNamespace& from, const std::string& address, uint16_t port,
                         bool udp = false,
                         std::chrono::milliseconds timeout = std::chrono::milliseconds(3000));
  static std::unique_ptr<Stream> Open(const NetNamespace& from, const std::string& address,
                                      uint16_t port);

 private:
  NetNamespace node_;
  NetNamespace outside_;
  std::vector<std::unique_ptr<NetNamespace>> pods_;
  std::vector<std::unique_ptr<Server>> servers_;
};

}  // namespace pointsman::agent

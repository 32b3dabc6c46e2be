// For tests: plain sockets to and from the forwarder.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "kube/testing/eventually.h"
#include "node-agent/userspace/forwarder/address_plan.h"
#include "node-agent/userspace/forwarder/sockets.h"

namespace pointsman::agent::testing {

using forwarder::IpPort;

inline IpPort At(const std::string& ip, uint16_t port) {
  return {net::IpAddress::Parse(ip).value(), port};
}

// Blocking sockets with a time-out of 20 s, so that a hang is a failure and not a hang. Throw
// std::system_error.
UniqueFd ConnectTcp(const IpPort& to, const net::IpAddress* from = nullptr);
UniqueFd ConnectUdp(const IpPort& to);
UniqueFd ListenTcp(const IpPort& at, int backlog = 4096);
UniqueFd BindUdp(const IpPort& at);
uint16_t PortOf(const UniqueFd& socket);
// What comes until the other side closes; with the errno that ended it, 0: end of file.
struct Received {
  std::string bytes;
  int error = 0;
};
Received ReceiveAll(const UniqueFd& socket);
// Exactly `size` bytes, less when it ends before.
std::string Receive(const UniqueFd& socket, size_t size);
void Send(const UniqueFd& socket, std::string_view bytes);
void CloseWriting(const UniqueFd& socket);
// Reproducible bytes that do not repeat within 2^32.
std::string Noise(uint64_t seed, size_t size);

// A TCP server in a thread: answers every connection with `greeting`, then echoes until the client
// closes its half, then closes. Any number of connections.
class EchoServer {
 public:
  EchoServer(const IpPort& at, std::string greeting);
  ~EchoServer();
  EchoServer(const EchoServer&) = delete;
  EchoServer& operator=(const EchoServer&) = delete;
  IpPort place() const { return place_; }
  size_t connections() const { return connections_; }

 private:
  void Serve();
  UniqueFd listener_;
  UniqueFd wake_;
  const IpPort place_;
  const std::string greeting_;
  std::atomic<size_t> connections_{0};
  std::thread thread_;
};

// A UDP server in a thread: answers each datagram with "<name>:" and the datagram, unless silent.
class UdpServer {
 public:
  UdpServer(const IpPort& at, std::string name, bool silent = false);
  ~UdpServer();
  UdpServer(const UdpServer&) = delete;
  UdpServer& operator=(const UdpServer&) = delete;
  IpPort place() const { return place_; }
  size_t received() const { return received_; }

 private:
  void Serve();
  UniqueFd socket_;
  UniqueFd wake_;
  const IpPort place_;
  const std::string name_;
  const bool silent_;
  std::atomic<size_t> received_{0};
  std::thread thread_;
};

// A place that a connection can be made to, and never is: its queue is full.
class BlackHole {
 public:
  explicit BlackHole(const std::string& ip);
  IpPort place() const { return place_; }

 private:
  UniqueFd listener_;
  IpPort place_;
  std::vector<UniqueFd> fill_;
};

}  // namespace pointsman::agent::testing

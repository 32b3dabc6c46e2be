// A small real network for tests: network namespaces as pods and as machines outside, joined to
// this kernel (the node) by veth pairs, with TCP and UDP servers and clients in them.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/unique_fd.h"

namespace pointsman::agent::testing {

class TestNetwork {
 public:
  TestNetwork();
  ~TestNetwork();
  TestNetwork(const TestNetwork&) = delete;
  TestNetwork& operator=(const TestNetwork&) = delete;

  // A namespace with one interface that has `ip` and a default route to the node, which has
  // `gateway` on its side. IPv4 and IPv6.
  void AddHost(const std::string& name, const std::string& ip, const std::string& gateway);
  // A further address of the host, of the other family.
  void AddAddress(const std::string& name, const std::string& ip, const std::string& gateway);

  // How many connections that it has closed a host remembers (tcp_max_tw_buckets). A kernel of
  // little memory has room for so few that tests which connect all the time would use a port again
  // whose server has yet to end the connection before.
  static constexpr int kTimeWaitBuckets = 1'000'000;
  void SetTimeWaitBuckets(const std::string& host, int buckets);

  // A socket of namespace `host`; "" is the node.
  UniqueFd Socket(const std::string& host, int family, int type, int protocol = 0);

  // A TCP and a UDP server that answer each piece of data with "<host> <client address>\n"; a TCP
  // connection stays open until the client closes it. `ip` may be 0.0.0.0.
  void Serve(const std::string& host, const std::string& ip, uint16_t port);
  // The same in SCTP (one-to-one sockets).
  void ServeSctp(const std::string& host, const std::string& ip, uint16_t port);
  void StopServing(const std::string& host);

 private:
  struct Server {
    std::string host;
    UniqueFd fd;
    bool stream = false;
    bool listening = false;
  };
  void Bind(const std::string& host, const std::string& ip, uint16_t port, int type, int protocol);
  void Loop();
  std::vector<std::string> hosts_;
  std::mutex mutex_;
  std::vector<Server> servers_;
  UniqueFd wake_;  // eventfd
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

struct Answer {
  std::string host;    // who answered; empty: nobody
  std::string source;  // the client address it saw
  int error = 0;       // errno: ECONNREFUSED, ETIMEDOUT, …
  bool ok() const { return error == 0; }
};

// A TCP (or SCTP) connection that stays open.
class Stream {
 public:
  Stream(TestNetwork& network, const std::string& host, const std::string& ip, uint16_t port,
         std::chrono::milliseconds timeout = std::chrono::milliseconds(1500), int protocol = 0,
         uint16_t source_port = 0);  // 0: any
  bool connected() const { return error_ == 0; }
  Answer Ask();  // sends a line and waits for the answer
  // IPv4: sends a line and waits for the error that the network (ICMP) or the peer answers with; 0
  // when there is none in that time.
  int AskForError(std::chrono::milliseconds timeout);

 private:
  UniqueFd fd_;
  int error_ = 0;
  std::chrono::milliseconds timeout_;
};

Answer AskTcp(TestNetwork& network, const std::string& host, const std::string& ip, uint16_t port);
// One UDP datagram and its answer; from `source_port` when not 0.
Answer AskUdp(TestNetwork& network, const std::string& host, const std::string& ip, uint16_t port,
              uint16_t source_port = 0);

}  // namespace pointsman::agent::testing

// A small real network for tests: network namespaces as pods and as machines outside, joined to
// this kernel (the node) by veth pairs, with TCP and UDP servers and clients in them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "node-agent/testing/clients.h"
#include "node-agent/testing/named_servers.h"
#include "node-agent/testing/net_namespace.h"

namespace pointsman::agent::testing {

class TestNetwork {
 public:
  TestNetwork() = default;
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

  // "": the node, which is the calling thread's namespace.
  static NetNamespace At(const std::string& host);

  // NamedServers, by the host's name; the node's is "node".
  void Serve(const std::string& host, const std::string& ip, uint16_t port) {
    servers_.Serve(At(host), NameOf(host), ip, port);
  }
  void ServeSctp(const std::string& host, const std::string& ip, uint16_t port) {
    servers_.ServeSctp(At(host), NameOf(host), ip, port);
  }
  void StopServing(const std::string& host) { servers_.Stop(NameOf(host)); }

 private:
  static std::string NameOf(const std::string& host) { return host.empty() ? "node" : host; }

  std::vector<std::string> hosts_;
  NamedServers servers_;
};

Reply AskTcp(const std::string& host, const std::string& ip, uint16_t port);
// One UDP datagram and its answer; from `source_port` when not 0.
Reply AskUdp(const std::string& host, const std::string& ip, uint16_t port,
             uint16_t source_port = 0);

}  // namespace pointsman::agent::testing

// TCP connections that IPVS counts as active, as it does established ones, though nobody has one:
// those of which it has seen one side's SYN alone (a policy, or a dead server, keeps them from an
// answer), and those that another mode carries from a client's port that an ended one had. No
// netlink request tells them apart; they are lines of /proc/net/ip_vs_conn. Format:
// ip_vs_conn_seq_show in net/netfilter/ipvs/ip_vs_conn.c; states: ip_vs_proto_tcp.c.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string_view>
#include <utility>

#include "kube/net/ip_address.h"
#include "node-agent/netlink/ipvs_proc.h"

namespace pointsman::agent::netlink {

// With the virtual server that one is of.
using EachIpvsHalfOpen = std::function<void(const net::IpAddress& address, uint16_t port)>;

// Takes the file's text in pieces. Not thread-safe.
class IpvsHalfOpenParser {
 public:
  explicit IpvsHalfOpenParser(EachIpvsHalfOpen each) : each_(std::move(each)) {}

  // Throws std::runtime_error with the line that is none of that format.
  void Add(std::string_view text);
  void End();

 private:
  void Line(std::string_view line);

  EachIpvsHalfOpen each_;
  Lines lines_;
};

// As ReadIpvsConnections: until all are read (true) or `deadline` is over (false). Throws
// std::system_error when the file cannot be read, and what IpvsHalfOpenParser throws.
bool ReadIpvsHalfOpen(std::chrono::steady_clock::time_point deadline, const EachIpvsHalfOpen& each);

}  // namespace pointsman::agent::netlink

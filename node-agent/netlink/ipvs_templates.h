// Persistence templates: to which destination IPVS sends a client of a virtual server with
// IP_VS_SVC_F_PERSISTENT. No netlink request lists them; they are the lines of /proc/net/ip_vs_conn
// that have no client port. Format: ip_vs_conn_seq_show in net/netfilter/ipvs/ip_vs_conn.c.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string_view>
#include <utility>

#include "kube/net/ip_address.h"
#include "node-agent/netlink/ipvs_proc.h"

namespace pointsman::agent::netlink {

// Of a virtual server on port 21 IPVS knows neither port, whatever the protocol: both are 0
// (ip_vs_sched_persist in ip_vs_core.c).
struct IpvsTemplate {
  uint8_t protocol = 0;  // IPPROTO_…; IPPROTO_IP: of a server by packet mark, `address` is none
  net::IpAddress client;
  net::IpAddress address;  // of the virtual server
  uint16_t port = 0;
  net::IpAddress destination;
  uint16_t destination_port = 0;
  std::chrono::seconds left{0};  // rounded down
};

using EachIpvsTemplate = std::function<void(const IpvsTemplate&)>;

// Takes the file's text in pieces. Not thread-safe.
class IpvsTemplateParser {
 public:
  explicit IpvsTemplateParser(EachIpvsTemplate each) : each_(std::move(each)) {}

  // Throws std::runtime_error with the line that is none of that format.
  void Add(std::string_view text);
  void End();

 private:
  void Line(std::string_view line);

  EachIpvsTemplate each_;
  Lines lines_;
};

// As ReadIpvsConnections: until all are read (true) or `deadline` is over (false).
// Throws std::system_error when the file cannot be read, and what IpvsTemplateParser throws.
bool ReadIpvsTemplates(std::chrono::steady_clock::time_point deadline,
                       const EachIpvsTemplate& each);

}  // namespace pointsman::agent::netlink

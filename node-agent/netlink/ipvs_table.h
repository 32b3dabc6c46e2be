// All virtual servers with their destinations at once, from /proc/net/ip_vs. Over netlink each
// virtual server's destinations are a dump of their own: seconds for 10,000.
// Format: ip_vs_info_seq_show in net/netfilter/ipvs/ip_vs_ctl.c.
#pragma once

#include <functional>
#include <string_view>
#include <utility>
#include <vector>

#include "node-agent/netlink/ipvs.h"
#include "node-agent/netlink/ipvs_proc.h"

namespace pointsman::agent::netlink {

// One virtual server's destinations, in the kernel's order. Of the server only what names it and
// the scheduler is known here (its flags are not in the file), of a destination all but in_packets.
using EachIpvsServer =
    std::function<void(const IpvsServer& server, std::vector<IpvsDestination>& destinations)>;

// Takes the file's text in pieces. Not thread-safe.
class IpvsTableParser {
 public:
  explicit IpvsTableParser(EachIpvsServer each) : each_(std::move(each)) {}

  // Throws std::runtime_error with the line that is none of that format.
  void Add(std::string_view text);
  void End();

 private:
  void Line(std::string_view line);
  void Flush();

  EachIpvsServer each_;
  Lines lines_;
  bool open_ = false;  // server_ is one
  IpvsServer server_;
  std::vector<IpvsDestination> destinations_;
};

// Reads the table of the calling thread's network namespace. A server that comes or goes meanwhile
// may make another one be skipped or come twice: who needs one that is missing asks over netlink.
// Throws std::system_error when the file cannot be read, and what IpvsTableParser throws.
void ReadIpvsTable(const EachIpvsServer& each);

}  // namespace pointsman::agent::netlink

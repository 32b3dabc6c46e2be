// To which of our chains iptables' builtin chains jump, asked of the kernel without a process:
// cheap enough to be looked at again and again. Whoever flushes a table takes these jumps with it.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "kube/net/ip_address.h"
#include "node-agent/xtables/xt_match.h"

namespace pointsman::agent::xtables {

struct KernelJump {
  std::string table;    // "nat", "filter" or "mangle"
  std::string builtin;  // "PREROUTING"
  std::string target;   // "POINTSMAN-IPT-SERVICES"
  auto operator<=>(const KernelJump&) const = default;
};

// Works in the network namespace of the calling thread, always the same. Not thread-safe.
class KernelJumps {
 public:
  KernelJumps(net::Family family, XtablesVariant variant) : family_(family), variant_(variant) {}

  // Those to chains that begin with "POINTSMAN-". Makes no table that is not there. Throws
  // std::system_error.
  //
  // A legacy table is read whole only when the number or the size of its rules is another one than
  // at the last call.
  std::set<KernelJump> Read();

 private:
  struct Seen {
    std::vector<char> info;  // what IPT_SO_GET_INFO said
    std::set<KernelJump> jumps;
  };

  std::set<KernelJump> ReadNft() const;
  template <typename Types>
  void ReadLegacy(const std::string& table, int fd);

  const net::Family family_;
  const XtablesVariant variant_;
  std::map<std::string, Seen> seen_;  // legacy; by table
};

}  // namespace pointsman::agent::xtables

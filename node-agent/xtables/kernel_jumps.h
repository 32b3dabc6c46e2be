// To which of our chains iptables' builtin chains jump, asked of the kernel without a process:
// cheap enough to be looked at again and again. Whoever flushes a table takes these jumps with it.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "kube/net/ip_address.h"
#include "node-agent/xtables/xt_match.h"

namespace pointsman::agent::xtables {

struct KernelJump {
  std::string table;    // "nat", "filter" or "mangle"
  std::string builtin;  // "PREROUTING"
  std::string target;   // "POINTSMAN-IPT-SERVICES"; kAcceptPolicy: no jump, but the chain's policy
  auto operator<=>(const KernelJump&) const = default;

  static constexpr std::string_view kAcceptPolicy = "ACCEPT";
};

// Works in the network namespace of the calling thread, always the same. Not thread-safe.
class KernelJumps {
 public:
  KernelJumps(net::Family family, XtablesVariant variant) : family_(family), variant_(variant) {}

  // Those to chains that begin with "POINTSMAN-", and in table filter which policies are ACCEPT,
  // as that of a chain that is not there: where one changes to DROP, what was accepted without a
  // rule of ours no longer is. Makes no table that is not there. Throws std::system_error.
  //
  // A legacy table is read whole only when the number or the size of its rules is another one than
  // at the last call. A policy changes neither: table filter is read each time while it is small,
  // and a policy of a large one is that of the last reading.
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

#include "node-agent/xtables/legacy_table.h"

#include <fstream>

#include <spdlog/fmt/fmt.h>

#include "base/throw_errno.h"

namespace pointsman::agent::xtables {

std::set<std::string> LegacyTablesInUse(net::Family family) {
  std::ifstream names(fmt::format("/proc/thread-self/net/{}_tables_names",
                                  family == net::Family::kIPv4 ? "ip" : "ip6"));
  std::set<std::string> in_use;
  for (std::string name; std::getline(names, name);)
    in_use.insert(name);
  return in_use;
}

UniqueFd LegacyTableSocket(net::Family family) {
  UniqueFd socket(::socket(family == net::Family::kIPv4 ? AF_INET : AF_INET6,
                           SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW));
  if (!socket) ThrowErrno("open a raw socket");
  return socket;
}

void ThrowTableUnread(int error, const std::string& table) {
  ThrowErrno("read iptables' table " + table, error);
}

}  // namespace pointsman::agent::xtables

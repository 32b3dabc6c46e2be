#include "node-agent/preflight/kernel_probes.h"

#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <linux/if_link.h>
#include <linux/netfilter/ipset/ip_set.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <system_error>

#include <unistd.h>
#include <zlib.h>

#include "base/throw_errno.h"
#include "base/unique_fd.h"
#include "node-agent/netlink/message.h"
#include "node-agent/netlink/nft_probe.h"
#include "node-agent/netlink/socket.h"

namespace pointsman::agent {
namespace {

bool Exists(const char* path) {
  struct stat status {};
  return ::stat(path, &status) == 0;
}

bool HasLine(const char* path, std::string_view wanted) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    if (line == wanted) return true;
  }
  return false;
}

// A legacy table: asking for its size makes the kernel make (and if need be load) it.
bool HasLegacyTable(const char* name) {
  const UniqueFd socket(::socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW));
  if (!socket) ThrowErrno("open raw socket to ask for table " + std::string(name), errno);
  ipt_getinfo info{};
  std::strncpy(info.name, name, sizeof info.name - 1);
  socklen_t length = sizeof info;
  int result = ::getsockopt(socket.get(), IPPROTO_IP, IPT_SO_GET_INFO, &info, &length);
  int error = errno;
  if (result == 0) return true;
  if (error == EPERM) ThrowErrno("ask for table " + std::string(name), error);
  return false;
}

// errno of the kernel's answer, 0 for success or data.
int Ask(int bus, netlink::Message& request, const std::string& what) {
  int error = 0;
  try {
    // The kernel loads the module meanwhile, if it has one.
    error = netlink::Socket(bus, std::chrono::seconds(60)).Execute(request);
  } catch (const std::system_error& thrown) {
    if (thrown.code().value() == EPROTONOSUPPORT) return EPROTONOSUPPORT;  // there is no such bus
    throw std::system_error(thrown.code(), "ask for " + what);
  }
  if (error == EPERM) ThrowErrno("ask for " + what, error);
  return error;
}

struct NetfilterRequest : netlink::Message {
  NetfilterRequest(uint8_t subsystem, uint8_t type, uint8_t family)
      : Message(static_cast<uint16_t>((subsystem << 8) | type), 0, sizeof(nfgenmsg)) {
    header<nfgenmsg>()->nfgen_family = family;
    header<nfgenmsg>()->version = NFNETLINK_V0;
  }
};

// "" asks for ipset itself, else for a type such as "hash:ip,port".
bool HasIpset(std::string_view type) {
  NetfilterRequest request(NFNL_SUBSYS_IPSET, type.empty() ? IPSET_CMD_PROTOCOL : IPSET_CMD_TYPE,
                           AF_INET);
  request.PutU8(IPSET_ATTR_PROTOCOL, 6);
  if (!type.empty()) {
    request.PutString(IPSET_ATTR_TYPENAME, type);
    request.PutU8(IPSET_ATTR_FAMILY, AF_INET);
  }
  return Ask(NETLINK_NETFILTER, request, "ipset") == 0;
}

// Its statistics: a kernel without the module refuses the subsystem's messages.
bool HasConntrackNetlink() {
  NetfilterRequest request(NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET_STATS, AF_UNSPEC);
  return Ask(NETLINK_NETFILTER, request, "conntrack over netlink") == 0;
}

// A request for a new link with an impossible hardware address: a kernel that knows the kind
// refuses the address (EINVAL), one that does not refuses the kind (EOPNOTSUPP).
bool HasDummyLinks() {
  netlink::Message request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof(ifinfomsg));
  request.PutString(IFLA_IFNAME, "pm-probe");
  request.PutU16(IFLA_ADDRESS, 0);
  nlattr* info = request.BeginNested(IFLA_LINKINFO);
  request.PutString(IFLA_INFO_KIND, "dummy");
  request.EndNested(info);
  return Ask(NETLINK_ROUTE, request, "dummy links") == EINVAL;
}

// Schedulers cannot be listed by any interface of the kernel; its own configuration, if it shows
// it, is the only one to ask.
bool ConfigSaysBuiltin(const std::string& symbol) {
  std::unique_ptr<gzFile_s, int (*)(gzFile)> file(gzopen("/proc/config.gz", "rb"), gzclose);
  if (!file) return false;
  const std::string wanted = symbol + "=y\n";
  char line[1024];
  while (gzgets(file.get(), line, sizeof line) != nullptr) {
    if (line == wanted) return true;
  }
  return false;
}

bool HasXtables(std::string_view match_or_target) {
  return HasLine("/proc/net/ip_tables_matches", match_or_target) ||
         HasLine("/proc/net/ip_tables_targets", match_or_target);
}

}  // namespace

std::optional<bool> IpvsHasSctp(const std::vector<std::string>& configurations) {
  for (const std::string& path : configurations) {
    std::unique_ptr<gzFile_s, int (*)(gzFile)> file(gzopen(path.c_str(), "rb"), gzclose);
    if (!file) continue;
    bool knows_ipvs = false;
    char line[1024];
    while (gzgets(file.get(), line, sizeof line) != nullptr) {
      const std::string_view text = line;
      if (text == "CONFIG_IP_VS_PROTO_SCTP=y\n") return true;
      knows_ipvs = knows_ipvs || text.starts_with("CONFIG_IP_VS=");
    }
    if (knows_ipvs) return false;
  }
  // Each protocol's handlers are functions of its file (net/netfilter/ipvs/ip_vs_proto_sctp.c).
  std::ifstream symbols("/proc/kallsyms");
  bool has_tcp = false;
  for (std::string line; std::getline(symbols, line);) {
    if (line.find(" sctp_conn_schedule") != std::string::npos) return true;
    has_tcp = has_tcp || line.find(" tcp_conn_schedule") != std::string::npos;
  }
  return has_tcp ? std::optional(false) : std::nullopt;
}

bool KernelHasFacility(const std::string& module) {
  if (module == "ip_vs") return Exists("/proc/net/ip_vs");
  if (module.starts_with("ip_vs_")) {
    std::string symbol = "CONFIG_IP_VS_" + module.substr(6);
    for (char& c : symbol) {
      if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
    }
    return Exists("/proc/net/ip_vs") && ConfigSaysBuiltin(symbol);
  }
  if (module == "nf_conntrack" || module == "nf_conntrack_ipv4") {
    return Exists("/proc/sys/net/netfilter/nf_conntrack_max");
  }
  if (module == "nf_conntrack_netlink") return HasConntrackNetlink();
  if (module == "dummy") return HasDummyLinks();
  if (module == "ip_set") return HasIpset("");
  if (module == "ip_set_hash_ip") return HasIpset("hash:ip");
  if (module == "ip_set_hash_net") return HasIpset("hash:net");
  if (module == "ip_set_hash_ipport") return HasIpset("hash:ip,port");
  if (module == "ip_set_hash_ipportip") return HasIpset("hash:ip,port,ip");
  if (module == "ip_set_hash_ipportnet") return HasIpset("hash:ip,port,net");
  if (module == "ip_set_hash_netport") return HasIpset("hash:net,port");
  if (module == "ip_tables") return Exists("/proc/net/ip_tables_names");
  if (module == "iptable_nat") return HasLegacyTable("nat");
  if (module == "iptable_filter") return HasLegacyTable("filter");
  if (module == "nf_tables" || module == "nft_chain_nat" || module == "nft_chain_nat_ipv4") {
    return netlink::KernelHasNftNat(net::Family::kIPv4);
  }
  if (module == "nft_compat") return netlink::KernelHasNftExpression("match");
  if (module == "nft_reject_ipv4") return netlink::KernelHasNftExpression("reject");
  if (module == "nft_fib_ipv4") return netlink::KernelHasNftExpression("fib");
  if (module == "nft_reject_ipv6")
    return netlink::KernelHasNftExpression("reject", net::Family::kIPv6);
  if (module == "nft_fib_ipv6") return netlink::KernelHasNftExpression("fib", net::Family::kIPv6);
  if (module.starts_with("nft_")) return netlink::KernelHasNftExpression(module.substr(4).c_str());
  if (module == "xt_tcpudp") return HasXtables("tcp");
  if (module == "xt_nat") return HasXtables("DNAT");
  if (module == "xt_mark") return HasXtables("MARK") && HasXtables("mark");
  if (module.starts_with("xt_")) return HasXtables(module.substr(3));
  if (module.starts_with("ipt_")) return HasXtables(module.substr(4));
  return false;
}

}  // namespace pointsman::agent

#include "node-agent/preflight/kernel_probes.h"

#include <arpa/inet.h>
#include <cerrno>
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

#include <libmnl/libmnl.h>
#include <unistd.h>
#include <zlib.h>

#include "base/throw_errno.h"
#include "base/unique_fd.h"
#include "node-agent/netlink/nft_probe.h"

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

struct SocketCloser {
  void operator()(mnl_socket* socket) const { mnl_socket_close(socket); }
};

// Sends one request and returns the errno of its answer, 0 for success or data.
int Ask(int bus, nlmsghdr* request, const std::string& what) {
  std::unique_ptr<mnl_socket, SocketCloser> socket(mnl_socket_open2(bus, SOCK_CLOEXEC));
  if (!socket) {
    if (errno == EPROTONOSUPPORT) return errno;
    ThrowErrno("open netlink socket to ask for " + what, errno);
  }
  // The kernel loads the module meanwhile, if it has one.
  const timeval limit{60, 0};
  if (mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) < 0 ||
      ::setsockopt(mnl_socket_get_fd(socket.get()), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) <
          0 ||
      mnl_socket_sendto(socket.get(), request, request->nlmsg_len) < 0) {
    ThrowErrno("ask for " + what, errno);
  }
  char reply[8192];
  ssize_t count = mnl_socket_recvfrom(socket.get(), reply, sizeof reply);
  if (count < 0) ThrowErrno("read answer about " + what, errno);
  auto* header = reinterpret_cast<nlmsghdr*>(reply);
  if (!mnl_nlmsg_ok(header, static_cast<int>(count)) || header->nlmsg_type != NLMSG_ERROR) return 0;
  int error = -static_cast<const nlmsgerr*>(mnl_nlmsg_get_payload(header))->error;
  if (error == EPERM) ThrowErrno("ask for " + what, error);
  return error;
}

// "" asks for ipset itself, else for a type such as "hash:ip,port".
bool HasIpset(const char* type) {
  alignas(nlmsghdr) char request[512];
  nlmsghdr* header = mnl_nlmsg_put_header(request);
  header->nlmsg_type = static_cast<uint16_t>((NFNL_SUBSYS_IPSET << 8) |
                                             (*type == '\0' ? IPSET_CMD_PROTOCOL : IPSET_CMD_TYPE));
  header->nlmsg_flags = NLM_F_REQUEST;
  header->nlmsg_seq = 1;
  auto* extra = static_cast<nfgenmsg*>(mnl_nlmsg_put_extra_header(header, sizeof(nfgenmsg)));
  extra->nfgen_family = AF_INET;
  extra->version = NFNETLINK_V0;
  extra->res_id = 0;
  mnl_attr_put_u8(header, IPSET_ATTR_PROTOCOL, 6);
  if (*type != '\0') {
    mnl_attr_put_strz(header, IPSET_ATTR_TYPENAME, type);
    mnl_attr_put_u8(header, IPSET_ATTR_FAMILY, AF_INET);
  }
  return Ask(NETLINK_NETFILTER, header, "ipset") == 0;
}

// Its statistics: a kernel without the module refuses the subsystem's messages.
bool HasConntrackNetlink() {
  alignas(nlmsghdr) char request[256];
  nlmsghdr* header = mnl_nlmsg_put_header(request);
  header->nlmsg_type =
      static_cast<uint16_t>((NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_GET_STATS);
  header->nlmsg_flags = NLM_F_REQUEST;
  header->nlmsg_seq = 1;
  auto* extra = static_cast<nfgenmsg*>(mnl_nlmsg_put_extra_header(header, sizeof(nfgenmsg)));
  extra->nfgen_family = AF_UNSPEC;
  extra->version = NFNETLINK_V0;
  extra->res_id = 0;
  return Ask(NETLINK_NETFILTER, header, "conntrack over netlink") == 0;
}

// A request for a new link with an impossible hardware address: a kernel that knows the kind
// refuses the address (EINVAL), one that does not refuses the kind (EOPNOTSUPP).
bool HasDummyLinks() {
  alignas(nlmsghdr) char request[512];
  nlmsghdr* header = mnl_nlmsg_put_header(request);
  header->nlmsg_type = RTM_NEWLINK;
  header->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
  header->nlmsg_seq = 1;
  mnl_nlmsg_put_extra_header(header, sizeof(ifinfomsg));
  mnl_attr_put_strz(header, IFLA_IFNAME, "pm-probe");
  mnl_attr_put_u16(header, IFLA_ADDRESS, 0);
  nlattr* info = mnl_attr_nest_start(header, IFLA_LINKINFO);
  mnl_attr_put_strz(header, IFLA_INFO_KIND, "dummy");
  mnl_attr_nest_end(header, info);
  return Ask(NETLINK_ROUTE, header, "dummy links") == EINVAL;
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

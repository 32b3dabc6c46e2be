#include "node-agent/iptables/nft_nat_probe.h"

#include <arpa/inet.h>
#include <cerrno>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <sys/socket.h>

#include <libmnl/libmnl.h>

namespace pointsman::agent {
namespace {

constexpr char kTable[] = "pointsman-probe";

nlmsghdr* PutHeader(char* at, uint16_t type, uint16_t flags, uint32_t sequence, uint8_t family,
                    uint16_t resource) {
  nlmsghdr* header = mnl_nlmsg_put_header(at);
  header->nlmsg_type = type;
  header->nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
  header->nlmsg_seq = sequence;
  auto* extra = static_cast<nfgenmsg*>(mnl_nlmsg_put_extra_header(header, sizeof(nfgenmsg)));
  extra->nfgen_family = family;
  extra->version = NFNETLINK_V0;
  extra->res_id = htons(resource);
  return header;
}

struct SocketCloser {
  void operator()(mnl_socket* socket) const { mnl_socket_close(socket); }
};

}  // namespace

bool KernelHasNftNat(net::Family family) {
  std::unique_ptr<mnl_socket, SocketCloser> socket(
      mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC));
  if (!socket || mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) < 0) {
    throw std::system_error(errno, std::generic_category(), "open netfilter netlink socket");
  }
  const uint8_t protocol = family == net::Family::kIPv4 ? NFPROTO_IPV4 : NFPROTO_IPV6;
  constexpr uint32_t kTableSequence = 2;
  constexpr uint32_t kChainSequence = 3;
  char request[2048];
  size_t length = 0;
  auto add = [&](const nlmsghdr* header) { length += MNL_ALIGN(header->nlmsg_len); };

  add(PutHeader(request, NFNL_MSG_BATCH_BEGIN, 0, 1, AF_UNSPEC, NFNL_SUBSYS_NFTABLES));
  constexpr uint16_t kSubsystem = NFNL_SUBSYS_NFTABLES << 8;
  nlmsghdr* table = PutHeader(request + length, kSubsystem | NFT_MSG_NEWTABLE,
                              NLM_F_CREATE | NLM_F_ACK, kTableSequence, protocol, 0);
  mnl_attr_put_strz(table, NFTA_TABLE_NAME, kTable);
  add(table);
  nlmsghdr* chain = PutHeader(request + length, kSubsystem | NFT_MSG_NEWCHAIN,
                              NLM_F_CREATE | NLM_F_ACK, kChainSequence, protocol, 0);
  mnl_attr_put_strz(chain, NFTA_CHAIN_TABLE, kTable);
  mnl_attr_put_strz(chain, NFTA_CHAIN_NAME, "probe");
  mnl_attr_put_strz(chain, NFTA_CHAIN_TYPE, "nat");
  nlattr* hook = mnl_attr_nest_start(chain, NFTA_CHAIN_HOOK);
  mnl_attr_put_u32(chain, NFTA_HOOK_HOOKNUM, htonl(NF_INET_POST_ROUTING));
  mnl_attr_put_u32(chain, NFTA_HOOK_PRIORITY, htonl(100));
  mnl_attr_nest_end(chain, hook);
  add(chain);
  // A batch that has no NFNL_MSG_BATCH_END is checked and acknowledged, then aborted
  // (net/netfilter/nfnetlink.c, nfnetlink_rcv_batch).

  if (mnl_socket_sendto(socket.get(), request, length) < 0) {
    throw std::system_error(errno, std::generic_category(), "probe nf_tables");
  }
  std::vector<char> reply(static_cast<size_t>(MNL_SOCKET_BUFFER_SIZE));
  // The kernel answers within the send call; nothing to read means it ignored the batch (no
  // nf_tables), so this must not wait.
  for (;;) {
    ssize_t count =
        ::recv(mnl_socket_get_fd(socket.get()), reply.data(), reply.size(), MSG_DONTWAIT);
    if (count < 0) {
      if (errno == EAGAIN || errno == EWOULDBLOCK) return false;
      throw std::system_error(errno, std::generic_category(), "read answer to nf_tables probe");
    }
    int left = static_cast<int>(count);
    for (auto* header = reinterpret_cast<nlmsghdr*>(reply.data()); mnl_nlmsg_ok(header, left);
         header = mnl_nlmsg_next(header, &left)) {
      if (header->nlmsg_type != NLMSG_ERROR) continue;
      const auto* error = static_cast<const nlmsgerr*>(mnl_nlmsg_get_payload(header));
      if (error->error == -EPERM || error->error == -EACCES) {
        throw std::system_error(-error->error, std::generic_category(), "probe nf_tables");
      }
      if (error->error != 0) return false;
      if (error->msg.nlmsg_seq == kChainSequence) return true;
    }
  }
}

}  // namespace pointsman::agent

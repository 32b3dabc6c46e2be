#include "node-agent/netlink/nft_probe.h"

#include <arpa/inet.h>
#include <cerrno>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <sys/socket.h>

#include <libmnl/libmnl.h>

namespace pointsman::agent::netlink {
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

// Collects the messages of one transaction and has them checked but not done.
class DryRun {
 public:
  explicit DryRun(net::Family family)
      : protocol_(family == net::Family::kIPv4 ? NFPROTO_IPV4 : NFPROTO_IPV6) {
    Add(PutHeader(request_, NFNL_MSG_BATCH_BEGIN, 0, ++sequence_, AF_UNSPEC, NFNL_SUBSYS_NFTABLES));
  }

  nlmsghdr* Begin(uint8_t message) {
    return PutHeader(request_ + length_,
                     static_cast<uint16_t>((NFNL_SUBSYS_NFTABLES << 8) | message),
                     NLM_F_CREATE | NLM_F_APPEND | NLM_F_ACK, ++sequence_, protocol_, 0);
  }
  void Add(const nlmsghdr* header) { length_ += MNL_ALIGN(header->nlmsg_len); }

  // errno of the first message that was refused, 0 when the last one was accepted, EPROTONOSUPPORT
  // when there is no nf_tables.
  int Run() {
    std::unique_ptr<mnl_socket, SocketCloser> socket(
        mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC));
    if (!socket && errno == EPROTONOSUPPORT) return errno;
    if (!socket || mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) < 0) {
      throw std::system_error(errno, std::generic_category(), "open netfilter netlink socket");
    }
    // A batch that has no NFNL_MSG_BATCH_END is checked and acknowledged, then aborted
    // (net/netfilter/nfnetlink.c, nfnetlink_rcv_batch).
    if (mnl_socket_sendto(socket.get(), request_, length_) < 0) {
      throw std::system_error(errno, std::generic_category(), "probe nf_tables");
    }
    std::vector<char> reply(static_cast<size_t>(MNL_SOCKET_BUFFER_SIZE));
    for (;;) {
      // The kernel answers within the send call: this must not wait.
      ssize_t count =
          ::recv(mnl_socket_get_fd(socket.get()), reply.data(), reply.size(), MSG_DONTWAIT);
      if (count < 0) {
        if (errno == EAGAIN || errno == EWOULDBLOCK) return EPROTONOSUPPORT;
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
        if (error->error != 0) return -error->error;
        if (error->msg.nlmsg_seq == sequence_) return 0;
      }
    }
  }

 private:
  const uint8_t protocol_;
  alignas(nlmsghdr) char request_[2048];
  size_t length_ = 0;
  uint32_t sequence_ = 0;
};

void AddTable(DryRun& run) {
  nlmsghdr* table = run.Begin(NFT_MSG_NEWTABLE);
  mnl_attr_put_strz(table, NFTA_TABLE_NAME, kTable);
  run.Add(table);
}

}  // namespace

bool KernelHasNftNat(net::Family family) {
  DryRun run(family);
  AddTable(run);
  nlmsghdr* chain = run.Begin(NFT_MSG_NEWCHAIN);
  mnl_attr_put_strz(chain, NFTA_CHAIN_TABLE, kTable);
  mnl_attr_put_strz(chain, NFTA_CHAIN_NAME, "probe");
  mnl_attr_put_strz(chain, NFTA_CHAIN_TYPE, "nat");
  nlattr* hook = mnl_attr_nest_start(chain, NFTA_CHAIN_HOOK);
  mnl_attr_put_u32(chain, NFTA_HOOK_HOOKNUM, htonl(NF_INET_POST_ROUTING));
  mnl_attr_put_u32(chain, NFTA_HOOK_PRIORITY, htonl(100));
  mnl_attr_nest_end(chain, hook);
  run.Add(chain);
  return run.Run() == 0;
}

bool KernelHasNftExpression(const char* name, net::Family family) {
  DryRun run(family);
  AddTable(run);
  nlmsghdr* chain = run.Begin(NFT_MSG_NEWCHAIN);
  mnl_attr_put_strz(chain, NFTA_CHAIN_TABLE, kTable);
  mnl_attr_put_strz(chain, NFTA_CHAIN_NAME, "probe");
  run.Add(chain);
  nlmsghdr* rule = run.Begin(NFT_MSG_NEWRULE);
  mnl_attr_put_strz(rule, NFTA_RULE_TABLE, kTable);
  mnl_attr_put_strz(rule, NFTA_RULE_CHAIN, "probe");
  nlattr* expressions = mnl_attr_nest_start(rule, NFTA_RULE_EXPRESSIONS);
  nlattr* expression = mnl_attr_nest_start(rule, NFTA_LIST_ELEM);
  mnl_attr_put_strz(rule, NFTA_EXPR_NAME, name);
  mnl_attr_nest_end(rule, expression);
  mnl_attr_nest_end(rule, expressions);
  run.Add(rule);
  // Without its attributes a known expression is refused as invalid (EINVAL), an unknown one as not
  // there.
  const int error = run.Run();
  return error == 0 || error == EINVAL;
}

}  // namespace pointsman::agent::netlink

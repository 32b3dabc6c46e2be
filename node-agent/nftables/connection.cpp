#include "node-agent/nftables/connection.h"

#include <cerrno>
#include <cstring>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <sys/socket.h>
#include <system_error>

#include <libmnl/libmnl.h>

#include "base/throw_errno.h"

namespace pointsman::agent::nft {
Connection::Connection() : transactions_(NETLINK_NETFILTER), dumps_(NETLINK_NETFILTER) {
  const int on = 1;
  if (setsockopt(transactions_.fd(), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on) < 0 &&
      errno != ENOPROTOOPT)
    ThrowErrno("netlink NETLINK_EXT_ACK");
}

std::vector<Refusal> Connection::Run(Transaction& transaction, bool commit) {
  const uint32_t first = sequence_;
  sequence_ += static_cast<uint32_t>(transaction.size()) + 2;
  const std::string bytes = transaction.Finish(first, commit);
  // The kernel takes a transaction only whole, in one send (nfnetlink_rcv_batch). FORCE needs
  // CAP_NET_ADMIN in the namespace's user namespace, as everything else here does.
  if (bytes.size() > static_cast<size_t>(send_buffer_)) {
    send_buffer_ = static_cast<int>(bytes.size() + bytes.size() / 2 + (64 << 10));
    if (setsockopt(transactions_.fd(), SOL_SOCKET, SO_SNDBUFFORCE, &send_buffer_,
                   sizeof send_buffer_) < 0)
      ThrowErrno("netlink SO_SNDBUFFORCE");
  }
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  ssize_t sent = 0;
  do {
    sent = sendto(transactions_.fd(), bytes.data(), bytes.size(), 0,
                  reinterpret_cast<sockaddr*>(&kernel), sizeof kernel);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) ThrowErrno("send an nf_tables transaction");

  // All answers are there when the send is over.
  std::vector<Refusal> refusals;
  bool finished = false;
  alignas(nlmsghdr) char buffer[16384];
  while (true) {
    ssize_t size = recv(transactions_.fd(), buffer, sizeof buffer, MSG_DONTWAIT);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
    if (size < 0) ThrowErrno("read the answer to an nf_tables transaction");
    int left = static_cast<int>(size);
    for (const auto* header = reinterpret_cast<const nlmsghdr*>(buffer); mnl_nlmsg_ok(header, left);
         header = mnl_nlmsg_next(header, &left)) {
      const uint32_t index = header->nlmsg_seq - first;
      if (header->nlmsg_type != NLMSG_ERROR || index > transaction.size()) continue;
      const auto* error = static_cast<const nlmsgerr*>(mnl_nlmsg_get_payload(header));
      if (error->error == 0) {
        finished = finished || index == transaction.size();
        continue;
      }
      Refusal& refusal = refusals.emplace_back();
      refusal.object = transaction.LabelOf(index);
      refusal.error = -error->error;
      refusal.message = std::generic_category().message(-error->error);
      if ((header->nlmsg_flags & NLM_F_ACK_TLVS) != 0) {
        for (const nlattr* attribute : netlink::Attributes(header, sizeof(nlmsgerr))) {
          if (mnl_attr_get_type(attribute) != NLMSGERR_ATTR_MSG) continue;
          const char* text = mnl_attr_get_str(attribute);
          refusal.message +=
              " (" + std::string(text, strnlen(text, mnl_attr_get_payload_len(attribute))) + ")";
        }
      }
    }
  }
  if (!finished && refusals.empty()) {
    refusals.push_back({transaction.LabelOf(0), EPROTO, "the kernel did not acknowledge it"});
  }
  return refusals;
}

int Connection::Dump(uint8_t message, net::Family family, std::string_view table,
                     uint16_t table_attribute, std::string_view set,
                     const std::function<void()>& restart,
                     const std::function<bool(const nlmsghdr*)>& each) {
  netlink::Message request(static_cast<uint16_t>((NFNL_SUBSYS_NFTABLES << 8) | message), 0,
                           sizeof(nfgenmsg));
  auto* header = request.header<nfgenmsg>();
  header->nfgen_family = family == net::Family::kIPv4 ? NFPROTO_IPV4 : NFPROTO_IPV6;
  header->version = NFNETLINK_V0;
  if (table_attribute != 0) request.PutString(table_attribute, table);
  if (!set.empty()) request.PutString(NFTA_SET_ELEM_LIST_SET, set);
  return dumps_.DumpUntil(request, restart, each);
}

}  // namespace pointsman::agent::nft

#include "node-agent/nf_tables/connection.h"

#include <arpa/inet.h>  // netinet/in.h, which has to come before linux/in.h
#include <cerrno>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <system_error>

#include <fmt/format.h>
#include <spdlog/fmt/fmt.h>

namespace pointsman::agent::nft {

Connection::Connection() : transactions_(NETLINK_NETFILTER), dumps_(NETLINK_NETFILTER) {
  transactions_.EnableExtendedAcks();
}

std::vector<Refusal> Connection::Run(Transaction& transaction, bool commit) {
  const uint32_t first = sequence_;
  sequence_ += static_cast<uint32_t>(transaction.size()) + 2;
  std::vector<Refusal> refusals;
  bool finished = false;
  transactions_.ExecuteWhole(transaction.Finish(first, commit), transaction.size(),
                             [&](const nlmsghdr* answer, int error) {
                               const uint32_t index = answer->nlmsg_seq - first;
                               if (index > transaction.size()) return;
                               if (error == 0) {
                                 finished = finished || index == transaction.size();
                                 return;
                               }
                               Refusal& refusal = refusals.emplace_back();
                               refusal.object = transaction.LabelOf(index);
                               refusal.error = -error;
                               refusal.message = std::generic_category().message(-error);
                               const std::string_view text = netlink::ExtendedAck(answer);
                               if (!text.empty()) refusal.message += fmt::format(" ({})", text);
                             });
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

#include "node-agent/netlink/rule.h"

#include <cerrno>
#include <cstring>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <system_error>

namespace pointsman::agent::netlink {
namespace {

std::string NameOfInterface(const nlattr* attribute) {
  const char* text = mnl_attr_get_str(attribute);
  return {text, strnlen(text, mnl_attr_get_payload_len(attribute))};
}

RoutingRule ParseRule(const nlmsghdr* header) {
  const auto* head = static_cast<const fib_rule_hdr*>(mnl_nlmsg_get_payload(header));
  RoutingRule rule;
  rule.family = head->family == AF_INET ? net::Family::kIPv4 : net::Family::kIPv6;
  rule.table = head->table;
  for (const nlattr* attribute : Attributes(header, sizeof(fib_rule_hdr))) {
    switch (mnl_attr_get_type(attribute)) {
      case FRA_PRIORITY:
        rule.priority = mnl_attr_get_u32(attribute);
        break;
      case FRA_TABLE:
        rule.table = mnl_attr_get_u32(attribute);
        break;
      case FRA_IIFNAME:
        rule.input_interface = NameOfInterface(attribute);
        break;
      case FRA_OIFNAME:
        rule.output_interface = NameOfInterface(attribute);
        break;
      case FRA_L3MDEV:
        rule.l3mdev = mnl_attr_get_u8(attribute) != 0;
        break;
      default:
        break;
    }
  }
  return rule;
}

}  // namespace

void ForEachRoutingRule(Socket& socket, const std::function<void()>& restart,
                        const std::function<void(const RoutingRule&)>& each) {
  Message request(RTM_GETRULE, 0, sizeof(fib_rule_hdr));
  const int error = socket.Dump(request, restart, [&](const nlmsghdr* header) {
    if (header->nlmsg_type != RTM_NEWRULE) return;
    const auto* head = static_cast<const fib_rule_hdr*>(mnl_nlmsg_get_payload(header));
    if (head->family == AF_INET || head->family == AF_INET6) each(ParseRule(header));
  });
  if (error == EOPNOTSUPP || error == EAFNOSUPPORT) return;
  if (error != 0) throw std::system_error(error, std::generic_category(), "list routing rules");
}

}  // namespace pointsman::agent::netlink

#include "node-agent/xtables/xt_match.h"

#include <arpa/inet.h>
#include <cerrno>
#include <linux/netfilter/nf_tables_compat.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <sys/socket.h>
#include <system_error>

#include <fmt/format.h>

#include "base/unique_fd.h"
#include "node-agent/netlink/socket.h"

namespace pointsman::agent::xtables {
namespace {

[[noreturn]] void Throw(int error, std::string_view name) {
  throw std::system_error(error, std::generic_category(),
                          fmt::format("ask the kernel for xtables match {}", name));
}

int AskLegacy(net::Family family, std::string_view name) {
  const bool v4 = family == net::Family::kIPv4;
  const UniqueFd fd(::socket(v4 ? AF_INET : AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW));
  if (!fd) Throw(errno, name);
  xt_get_revision question{};  // revision 0: each match has it, or has had it
  name.copy(question.name, sizeof question.name - 1);
  socklen_t size = sizeof question;
  const int result = ::getsockopt(
      fd.get(), v4 ? IPPROTO_IP : IPPROTO_IPV6,
      v4 ? int{IPT_SO_GET_REVISION_MATCH} : int{IP6T_SO_GET_REVISION_MATCH}, &question, &size);
  return result < 0 ? errno : 0;
}

int AskNft(net::Family family, std::string_view name) {
  netlink::Socket socket(NETLINK_NETFILTER);
  netlink::Message question((NFNL_SUBSYS_NFT_COMPAT << 8) | NFNL_MSG_COMPAT_GET, NLM_F_REQUEST,
                            sizeof(nfgenmsg));
  auto* header = question.header<nfgenmsg>();
  header->nfgen_family = family == net::Family::kIPv4 ? AF_INET : AF_INET6;
  header->version = NFNETLINK_V0;
  question.PutString(NFTA_COMPAT_NAME, name);
  question.PutU32(NFTA_COMPAT_REV, htonl(0));
  question.PutU32(NFTA_COMPAT_TYPE, htonl(0));  // 0: a match, 1: a target
  return socket.Get(question, [](const nlmsghdr*) {});
}

}  // namespace

bool KernelHasXtMatch(net::Family family, XtablesVariant variant, std::string_view name) {
  const int error =
      variant == XtablesVariant::kLegacy ? AskLegacy(family, name) : AskNft(family, name);
  if (error == EPERM || error == EACCES) Throw(error, name);
  // It has the name, but no longer that revision.
  return error == 0 || error == EPROTONOSUPPORT;
}

}  // namespace pointsman::agent::xtables

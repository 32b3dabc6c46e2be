#include "node-agent/neighbours/signs_reader.h"

#include <arpa/inet.h>  // netinet/in.h, which has to come before linux/in.h
#include <cerrno>
#include <exception>
#include <functional>
#include <linux/netfilter.h>
#include <linux/rtnetlink.h>
#include <stdexcept>
#include <string_view>
#include <system_error>

#include <fmt/format.h>
#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include "kube/process/kernel_module.h"
#include "node-agent/neighbours/legacy_chains.h"
#include "node-agent/netlink/address.h"
#include "node-agent/netlink/ipset.h"
#include "node-agent/netlink/ipvs_proc.h"
#include "node-agent/netlink/link.h"
#include "node-agent/netlink/nft_list.h"
#include "node-agent/netlink/rule.h"
#include "node-agent/sysctl/sysctl.h"

namespace pointsman::agent {
namespace {

constexpr std::string_view kFilter = "filter";
constexpr std::string_view kForward = "FORWARD";

bool IsThere(const std::string& path) {
  return ::access(path.c_str(), F_OK) == 0;
}

bool IsLinkLocal(const net::IpAddress& address) {
  static const net::IpPrefix kIpv4 = net::IpPrefix::Parse("169.254.0.0/16").value();
  static const net::IpPrefix kIpv6 = net::IpPrefix::Parse("fe80::/10").value();
  return (address.is_v4() ? kIpv4 : kIpv6).Contains(address);
}

class SignsReader {
 public:
  SignsReader(const std::vector<SignPattern>& patterns, const std::string& modules_root)
      : modules_root_(modules_root), found_(patterns) {}

  Signs Read() {
    Try("network interfaces", [this] { ReadLinks(); });
    Try("addresses of interfaces", [this] { ReadAddresses(); });
    Try("routing rules", [this] { ReadRules(); });
    // Before the legacy chains: a list that begins again forgets what it had found of its kind.
    Try("nf_tables", [this] { ReadNft(); });
    for (const net::Family family : {net::Family::kIPv4, net::Family::kIPv6})
      Try("iptables' legacy tables", [&] { ReadLegacy(family); });
    Try("ipsets", [this] { ReadIpsets(); });
    Try("the virtual servers of IPVS", [this] { ReadIpvs(); });
    return found_.Take();
  }

 private:
  template <typename Look>
  void Try(std::string_view what, const Look& look) {
    try {
      look();
    } catch (const std::exception& error) {
      found_.Unread(fmt::format("{}: {}", what, error.what()));
    }
  }

  template <typename... Kinds>
  std::function<void()> Forgetting(Kinds... kinds) {
    return [this, kinds...] { (found_.Forget(kinds), ...); };
  }

  void ReadLinks() {
    netlink::Socket socket(NETLINK_ROUTE);
    const auto filter = ReadSysctl("net.bridge.bridge-nf-call-iptables");
    for (const netlink::Link& link : netlink::Links(socket)) {
      found_.Offer(SignKind::kLink, link.name);
      found_.Offer(SignKind::kLinkKind, link.kind);
      if (link.kind == "bridge" && filter != "1") {
        found_.Offer(SignKind::kUnfilteredBridge, link.name,
                     filter ? "net.bridge.bridge-nf-call-iptables is " + *filter
                            : "br_netfilter is not loaded");
      }
    }
  }

  void ReadAddresses() {
    if (!found_.Wants(SignKind::kLinkAddress)) return;
    netlink::Socket socket(NETLINK_ROUTE);
    for (const netlink::InterfaceAddress& each : netlink::InterfaceAddresses(socket)) {
      if (IsLinkLocal(each.address)) continue;
      found_.Offer(SignKind::kLinkAddress, each.interface_name, each.address.ToString());
    }
  }

  void ReadRules() {
    netlink::Socket socket(NETLINK_ROUTE);
    netlink::ForEachRoutingRule(
        socket, Forgetting(SignKind::kRuleIif), [this](const netlink::RoutingRule& rule) {
          if (rule.input_interface.empty() || rule.input_interface == "lo") return;
          found_.Offer(SignKind::kRuleIif, rule.input_interface,
                       fmt::format("priority {}, table {}, {}", rule.priority, rule.table,
                                   net::ToString(rule.family)));
        });
  }

  void ReadNft() {
    const auto there = kube::KernelHasModule("nf_tables", modules_root_);
    if (!there)
      throw std::runtime_error(
          "it is not loaded, and /lib/modules, which says what is built in, "
          "has nothing of this kernel");
    if (!*there) return;
    netlink::Socket socket(NETLINK_NETFILTER);
    netlink::ForEachNftTable(
        socket, Forgetting(SignKind::kNftTable), [this](const netlink::NftTableName& table) {
          found_.Offer(SignKind::kNftTable, table.name, netlink::NftFamilyName(table.family));
        });
    netlink::ForEachNftChain(socket, Forgetting(SignKind::kChain, SignKind::kForwardPolicyDrop),
                             [this](const netlink::NftChainHead& chain) { OfferNftChain(chain); });
  }

  void OfferNftChain(const netlink::NftChainHead& chain) {
    const bool ip = chain.family == NFPROTO_IPV4 || chain.family == NFPROTO_IPV6;
    // There may be a hundred thousand: what is of no interest costs no text.
    if (ip && found_.Wants(SignKind::kChain, chain.name)) {
      found_.Offer(SignKind::kChain, chain.name,
                   fmt::format("{} of iptables-nft, {}", chain.table,
                               chain.family == NFPROTO_IPV4 ? "IPv4" : "IPv6"));
    }
    // In iptables' own each mode accepts what it sends on (xtables/forward_accept.h).
    const bool in_iptables = ip && chain.table == kFilter && chain.name == kForward;
    if ((ip || chain.family == NFPROTO_INET) && chain.hook == NF_INET_FORWARD &&
        chain.policy == NF_DROP && !in_iptables) {
      found_.Offer(
          SignKind::kForwardPolicyDrop, chain.name,
          fmt::format("{} of nf_tables, {}", chain.table, netlink::NftFamilyName(chain.family)));
    }
  }

  void ReadLegacy(net::Family family) {
    const auto where = [family](std::string_view table) {
      return fmt::format("{} of iptables-legacy, {}", table, net::ToString(family));
    };
    // Rules come table by table: its description is made once.
    std::string table_name;
    std::string table_where;
    VisitLegacyChains(family, {.chain =
                                   [&](std::string_view table, std::string_view chain) {
                                     if (table != table_name) {
                                       table_name = table;
                                       table_where = where(table);
                                     }
                                     found_.Offer(SignKind::kChain, chain, table_where);
                                   },
                               .forward_policy_drop =
                                   [&](std::string_view table) {
                                     if (table == kFilter) return;  // as for nf_tables'
                                     found_.Offer(SignKind::kForwardPolicyDrop, kForward,
                                                  where(table));
                                   },
                               .unread =
                                   [&](std::string_view table, std::string_view why) {
                                     found_.Unread(fmt::format("table {}: {}", where(table), why));
                                   }});
  }

  void ReadIpsets() {
    if (!IsThere("/sys/module/ip_set")) return;  // it has parameters: also where it is built in
    for (const netlink::SetInfo& set : netlink::Ipset().List())
      found_.Offer(SignKind::kIpset, set.name);
  }

  void ReadIpvs() {
    netlink::Lines lines;
    try {
      netlink::ReadPieces("/proc/thread-self/net/ip_vs", [&](std::string_view text) {
        lines.Add(text, [this](std::string_view line) {
          if (netlink::Word(line) == "FWM")
            found_.Offer(SignKind::kIpvsByMark, netlink::Word(line));
        });
        return true;
      });
    } catch (const std::system_error& error) {
      if (error.code() != std::errc::no_such_file_or_directory) throw;  // not loaded
    }
  }

  const std::string modules_root_;
  SignCollector found_;
};

}  // namespace

Signs ReadSigns(const std::vector<SignPattern>& patterns, const std::string& modules_root) {
  return SignsReader(patterns, modules_root).Read();
}

}  // namespace pointsman::agent

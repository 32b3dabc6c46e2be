#include "node-agent/ipvs/rules.h"

#include <array>
#include <string>

#include <fmt/format.h>
#include <spdlog/fmt/fmt.h>

#include "node-agent/ipvs/internal_addresses.h"
#include "node-agent/ipvs/sets.h"
#include "node-agent/xtables/source_match.h"

namespace pointsman::agent::ipvs {
namespace {

constexpr const char* kComment = R"(-m comment --comment "pointsman ipvs")";
constexpr const char* kEstablished = "-m conntrack --ctstate RELATED,ESTABLISHED ";
constexpr const char* kNew = "-m conntrack --ctstate INVALID,NEW ";
// The first packet of a TCP connection, and its refusal. A client in this kernel (a pod, the node)
// still holds its socket's lock when ICMP comes back, which is then not heard, and connects again
// after a second (net/ipv4/tcp_ipv4.c tcp_v4_err, TcpExtLockDroppedIcmps). No other packet may be
// answered so: it would end a connection that connection tracking has lost sight of. Nor what came
// to another address (external IPs): to a pod on a bridge the reset goes past NAT, from an address
// that the pod does not know (net/ipv4/netfilter/nf_reject_ipv4.c nf_send_reset).
constexpr const char* kConnect =
    "-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -m conntrack --ctstate INVALID,NEW "
    "-m conntrack ! --ctstate DNAT ";
constexpr const char* kReset = " -j REJECT --reject-with tcp-reset";
// Of a connection, as table nat sees it: a later one that kept the mark would be masqueraded again
// where it passes POSTROUTING a second time, in a tunnel (kubernetes#92035).
constexpr const char* kFirst = "-m conntrack --ctstate NEW ! --ctstatus CONFIRMED ";

// The chains of one family. What they share is made once, as iptables-save prints it.
class Rules {
 public:
  Rules(net::Family family, const kube::ProxySettings& settings, const NodeNetwork& node,
        bool random_fully)
      : family_(family), sources_(settings, family), random_fully_(random_fully) {
    const uint32_t bit = 1U << static_cast<unsigned>(settings.iptables.masquerade_bit);
    marked_ = fmt::format("-m mark --mark {0:#x}/{0:#x}", bit);
    mark_ = fmt::format(" -j MARK --set-xmark {0:#x}/{0:#x}", bit);
    refuse_ = fmt::format(" -j REJECT --reject-with {}-port-unreachable", v4() ? "icmp" : "icmp6");
    to_node_ = node.every_address
                   ? fmt::format("-m addrtype --dst-type LOCAL {} ", NoMatch(SetId::kVip, "dst"))
                   : Match(SetId::kNodeAddress, "dst") + " ";
    // What IPVS serves is decided here: rules of others behind this one (kube-proxy's, as long as
    // it runs beside us or was not cleaned up) must not send it elsewhere before IPVS sees it.
    taken_ = Match(SetId::kCluster) + " -j ACCEPT";
    // An external IP that is a cluster IP too stays the latter's.
    closed_ = Match(SetId::kClosed) + " -j ACCEPT";
    map_ = {MapTo(SetId::kMapped, MapPrefix(family)),
            MapTo(SetId::kMappedSpare, SpareMapPrefix(family))};
    near_map_ = {MapTo(SetId::kNear, NearMapPrefix(family)),
                 MapTo(SetId::kNearSpare, NearSpareMapPrefix(family))};
    near_node_port_ = to_node_ + Match(SetId::kNodePortNear);
    to_near_server_ = " -j DNAT --to-destination " + NearNodePortAddress(family).ToString();
    node_ports_jump_ = to_node_ + "-j POINTSMAN-IPVS-NODEPORTS";
  }

  std::vector<Chain> All() const {
    return {Input(),
            Accept(),
            Forward(),
            BeforeNat("PREROUTING"),
            BeforeNat("OUTPUT"),
            Prerouting(),
            Output(),
            NodePorts(),
            Postrouting()};
  }

 private:
  bool v4() const { return family_ == net::Family::kIPv4; }
  // Address and port of where the packet goes, unless `what` says otherwise.
  std::string Match(SetId id, const char* what = "dst,dst") const {
    return fmt::format("-m set --match-set {} {}", SetName(id, family_), what);
  }
  std::string NoMatch(SetId id, const char* what) const {
    return fmt::format("-m set ! --match-set {} {}", SetName(id, family_), what);
  }

  std::string MapTo(SetId id, const net::IpPrefix& prefix) const {
    return fmt::format("{} -j NETMAP --to {}", Match(id), prefix.ToString());
  }

  Chain Input() const;
  Chain Accept() const;
  Chain Forward() const;
  Chain BeforeNat(const char* base) const;
  Chain Prerouting() const;
  Chain Output() const;
  Chain NodePorts() const;
  Chain Postrouting() const;

  const net::Family family_;
  const xtables::SourceMatch sources_;
  const bool random_fully_;
  std::string marked_, mark_, refuse_;
  std::string to_node_;  // an address of this node that answers node ports
  std::string taken_, closed_, near_node_port_, to_near_server_, node_ports_jump_;
  std::array<std::string, 2> map_, near_map_;  // to the internal address, and to the spare one
};

// What Services' traffic must not do. What it may do is left to what others have in INPUT, and then
// to Accept().
Chain Rules::Input() const {
  return {
      "filter",
      "POINTSMAN-IPVS-INPUT",
      "INPUT",
      kComment,
      xtables::JumpPlace::kStays,
      {Match(SetId::kHealth) + " -j RETURN", fmt::format("{}-j RETURN", kEstablished),
       Match(SetId::kDrop) + " -j DROP", Match(SetId::kCluster) + " -j RETURN",
       // The internal addresses are no way in for those who find them out. One that is an
       // external address itself is not changed by NETMAP, and the packet has no DNAT then.
       Match(SetId::kInternal) + " -m conntrack --ctstate DNAT -j RETURN",
       Match(SetId::kMapped) + " -j RETURN", Match(SetId::kMappedSpare) + " -j RETURN",
       Match(SetId::kInternal) + " -j DROP",
       v4() ? "-p icmp -m icmp --icmp-type 8 -j RETURN"
            : "-p ipv6-icmp -m icmp6 --icmpv6-type 128 -j RETURN",
       // A node's own listeners on 0.0.0.0 must not answer on a VIP (kubernetes#72236); and a
       // Service port without endpoints, on any kind of address, is refused.
       kConnect + Match(SetId::kVip, "dst") + kReset, kNew + Match(SetId::kVip, "dst") + refuse_,
       kConnect + Match(SetId::kOwned) + kReset, kNew + Match(SetId::kOwned) + refuse_,
       to_node_ + Match(SetId::kNodePortDrop) + " -j DROP",
       kConnect + to_node_ + Match(SetId::kNodePortReject) + kReset,
       kNew + to_node_ + Match(SetId::kNodePortReject) + refuse_}};
}

// In the other modes traffic to Services is forwarded, and what refuses everything in INPUT, such
// as a policy of DROP, does not concern it.
Chain Rules::Accept() const {
  return {"filter",
          "POINTSMAN-IPVS-ACCEPT",
          "INPUT",
          kComment,
          xtables::JumpPlace::kBehindPolicies,
          {kEstablished + Match(SetId::kVip, "dst") + " -j ACCEPT",
           Match(SetId::kHealth) + " -j ACCEPT", fmt::format("{}-j RETURN", kEstablished),
           Match(SetId::kCluster) + " -j ACCEPT",
           Match(SetId::kInternal) + " -m conntrack --ctstate DNAT -j ACCEPT",
           Match(SetId::kMapped) + " -j ACCEPT", Match(SetId::kMappedSpare) + " -j ACCEPT"}};
}

// Answers of backends pass FORWARD; a default policy of DROP must not stop them.
Chain Rules::Forward() const {
  return {"filter",
          "POINTSMAN-IPVS-FORWARD",
          "FORWARD",
          kComment,
          xtables::JumpPlace::kBehindPolicies,
          {marked_ + " -j ACCEPT", fmt::format("{}-j ACCEPT", kEstablished)}};
}

// Source ranges are looked at before table nat may send a packet on to another address. What comes
// in for a cluster IP is also marked here: where the search for a translation ends before table nat
// (nat_guard.h), its rules are not called.
Chain Rules::BeforeNat(const char* base) const {
  Chain chain{
      "mangle",
      fmt::format("{}{}", kChainPrefix, base),
      base,
      fmt::format("{} -m conntrack --ctstate NEW", kComment),
      xtables::JumpPlace::kStays,
      {Match(SetId::kGuarded) + " " + NoMatch(SetId::kSources, "dst,dst,src") + " -j DROP"}};
  // What the node itself sends meets IPVS before any filter, and IPVS refuses what it has no
  // backend for, while it keeps the virtual server for the connections of a backend that left.
  // And marked in Output(), since a mark that is there before table nat is the forwarder's there
  // (POINTSMAN-USP-OWN), while userspace mode drains.
  if (chain.base == "OUTPUT") {
    chain.rules.push_back(Match(SetId::kDrop) + " -j DROP");
    return chain;
  }
  if (sources_.off_cluster)
    chain.rules.push_back(*sources_.off_cluster + " " + kFirst + Match(SetId::kCluster) + mark_);
  chain.rules.push_back(kFirst + Match(SetId::kMarked) + mark_);
  return chain;
}

Chain Rules::Prerouting() const {
  Chain chain{"nat",    "POINTSMAN-IPVS-PREROUTING",        "PREROUTING",
              kComment, xtables::JumpPlace::kBeforeProxies, {}};
  const std::string from_pods =
      sources_.from_cluster.value_or("").empty() ? "" : *sources_.from_cluster + " ";
  if (sources_.from_cluster) {
    for (const std::string& rule : near_map_)
      chain.rules.push_back(from_pods + rule);
  }
  chain.rules.push_back(taken_);
  chain.rules.push_back(closed_);
  chain.rules.insert(chain.rules.end(), map_.begin(), map_.end());
  if (sources_.from_cluster) chain.rules.push_back(from_pods + near_node_port_ + to_near_server_);
  chain.rules.push_back(node_ports_jump_);
  return chain;
}

// What the node itself sends to a VIP has that VIP as its source address (it is local), which no
// backend elsewhere could answer. To an address that is not bound it has one of the node's.
Chain Rules::Output() const {
  return {"nat",
          "POINTSMAN-IPVS-OUTPUT",
          "OUTPUT",
          kComment,
          xtables::JumpPlace::kBeforeProxies,
          {Match(SetId::kOwned) + mark_, taken_, closed_, Match(SetId::kMapped) + mark_,
           Match(SetId::kMappedSpare) + mark_, near_map_[0], near_map_[1], map_[0], map_[1],
           v4() ? "-d 127.0.0.0/8 -j RETURN" : "-d ::1/128 -j RETURN", near_node_port_ + mark_,
           near_node_port_ + to_near_server_, node_ports_jump_}};
}

Chain Rules::NodePorts() const {
  const std::string to_server = " -j DNAT --to-destination " + NodePortAddress(family_).ToString();
  return {"nat",
          "POINTSMAN-IPVS-NODEPORTS",
          "",
          "",
          {},
          {Match(SetId::kNodePortExternal) + mark_, Match(SetId::kNodePortExternal) + to_server,
           Match(SetId::kNodePortLocal) + to_server}};
}

// A pod that reaches itself through its Service would see its own address as the client's and
// answer past us.
Chain Rules::Postrouting() const {
  return {"nat",
          "POINTSMAN-IPVS-POSTROUTING",
          "POSTROUTING",
          kComment,
          xtables::JumpPlace::kStays,
          {fmt::format("{} -j MASQUERADE{}", Match(SetId::kHairpin, "dst,dst,src"),
                       random_fully_ ? " --random-fully" : "")}};
}

}  // namespace

std::vector<Chain> DesiredChains(net::Family family, const kube::ProxySettings& settings,
                                 const NodeNetwork& node, bool random_fully) {
  return Rules(family, settings, node, random_fully).All();
}

}  // namespace pointsman::agent::ipvs

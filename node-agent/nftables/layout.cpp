#include "node-agent/nftables/layout.h"

#include <algorithm>
#include <arpa/inet.h>  // netinet/in.h, which has to come before linux/in.h
#include <functional>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_tables.h>
#include <stdexcept>

#include <fmt/format.h>
#include <spdlog/fmt/fmt.h>

#include "node-agent/model/reply_sources.h"

namespace pointsman::agent::nft {
namespace {

// Before iptables' and kube-proxy's (-100): as soon as our rules are there, new connections are
// ours. Chains of type nat are all called from one hook, in the order of these numbers, and a
// connection that one of them has translated does not meet the next.
constexpr int32_t kDstnat = -110;
// Before iptables' (100): what we have marked is masqueraded by us, and by nobody twice.
constexpr int32_t kSrcnat = 90;
constexpr int32_t kFilter = -10;
constexpr int32_t kRefuse = -90;  // soon after the translation

// Bounds what clients with forged addresses can take of the node's memory (about 100 bytes each).
// With the map full, new clients are served without affinity.
constexpr uint32_t kMostAffineClients = 1U << 20;

// nft(8)'s numbers of data types (nftables, include/datatype.h).
enum DataType : uint32_t {
  kIpv4Address = 7,
  kIpv6Address = 8,
  kInetProtocol = 12,
  kInetService = 13,
  kMarkType = 19,  // for the numbers that we made: any 32 bits
};

uint32_t Concatenation(std::initializer_list<uint32_t> types) {
  uint32_t all = 0;
  for (const uint32_t type : types)
    all = all << 6 | type;
  return all;
}

std::vector<SetDefinition> MakeSets(net::Family family) {
  const bool v4 = family == net::Family::kIPv4;
  const uint32_t address = v4 ? kIpv4Address : kIpv6Address;
  const uint32_t size = v4 ? 4 : 16;
  const uint32_t route = Concatenation({kMarkType, kMarkType, kMarkType, kMarkType, kMarkType});
  const uint32_t endpoint = Concatenation({address, kInetService});
  std::vector<SetDefinition> sets(kSets);
  const auto set = [&](SetId id) -> SetDefinition& { return sets[static_cast<size_t>(id)]; };
  set(SetId::kServices) = {
      "services", NFT_SET_MAP, Concatenation({address, kInetProtocol, kInetService}),
      size + 8,   route,       20};
  set(SetId::kNodePorts) = {
      "node-ports", NFT_SET_MAP, Concatenation({kInetProtocol, kInetService}), 8, route, 20};
  set(SetId::kFromNode) = {
      "from-node", NFT_SET_MAP, Concatenation({kMarkType, kMarkType, kMarkType}), 12, route, 20};
  set(SetId::kRefused) = {"refused", 0, Concatenation({address, kInetProtocol, kInetService}),
                          size + 8};
  set(SetId::kRefusedPorts) = {"refused-ports", 0, Concatenation({kInetProtocol, kInetService}), 8};
  set(SetId::kEndpoints) = {
      "endpoints", NFT_SET_MAP, Concatenation({kMarkType, kMarkType, kMarkType}),
      12,          endpoint,    size + 4};
  set(SetId::kAffinityEndpoints) = {"affinity-endpoints", 0,
                                    Concatenation({kMarkType, kMarkType, address, kInetService}),
                                    8 + size + 4};
  set(SetId::kSourceRanges) = {"source-ranges",
                               NFT_SET_INTERVAL | NFT_SET_CONCAT,
                               Concatenation({kMarkType, kMarkType, address}),
                               8 + size,
                               0,
                               0,
                               0,
                               {4, 4, size}};
  set(SetId::kNodeAddresses) = {"node-addresses", 0, address, size};
  set(SetId::kHairpin) = {"hairpin", 0, Concatenation({address, address}), size * 2};
  set(SetId::kClusterIps) = {"cluster-ips", 0, address, size};
  set(SetId::kReplySources) = {"reply-sources", 0,
                               Concatenation({address, kInetProtocol, kInetService}), size + 8};
  set(SetId::kClasses) = {"classes", NFT_SET_MAP, Concatenation({kMarkType, kMarkType}), 8,
                          kVerdictType};
  set(SetId::kClassesFromNode) = set(SetId::kClasses);
  set(SetId::kClassesFromNode).name = "classes-from-node";
  set(SetId::kAffinity) = {"affinity",
                           NFT_SET_MAP | NFT_SET_TIMEOUT | NFT_SET_EVAL,
                           Concatenation({kMarkType, kMarkType, address}),
                           8 + size,
                           endpoint,
                           size + 4,
                           kMostAffineClients};
  return sets;
}

std::string_view NameOf(SetId id) {
  // The names are the same in both families.
  return SetsOf(net::Family::kIPv4)[static_cast<size_t>(id)].name;
}

constexpr uint32_t StateBit(int state) {
  return 1U << (state % IP_CT_IS_REPLY + 1);  // NF_CT_STATE_BIT
}

// Registers 8 and on: the Service (2), then its class (2).
constexpr unsigned kOwner = 8;
constexpr unsigned kClass = 10;

// Looks the packet's Service up: into register `to` and the one after it the Service, into the next
// two its class. Uses registers 0 to 5 and the one before `to`, which gets the value's first word.
// That is nothing but a place: nft(8) 1.0.6 (Debian 12) remembers what a map gives by its first
// register only, without its size, and aborts when a key begins there, whatever it was asked to
// list.
RuleBuilder& FindService(RuleBuilder& rule, uint32_t policy, unsigned to) {
  const unsigned value = to - 1;
  if ((policy & TrafficClass::kByNodePort) != 0) {
    rule.LoadProtocol(0).LoadDestinationPort(1).Map(NameOf(SetId::kNodePorts), 0, value);
  } else {
    const unsigned address = rule.address_words();
    rule.LoadDestination(0)
        .LoadProtocol(address)
        .LoadDestinationPort(address + 1)
        .Map(NameOf(SetId::kServices), 0, value);
  }
  if ((policy & TrafficClass::kByFromNode) != 0) rule.Map(NameOf(SetId::kFromNode), to, value);
  return rule;
}

RuleBuilder& GoToClass(RuleBuilder& rule, SetId map = SetId::kClasses) {
  return rule.VerdictMap(NameOf(map), kClass);
}

// Matches what comes from the cluster (or what does not); false: nothing says what that is.
bool FromCluster(RuleBuilder& rule, const LocalDetector& local, Match match) {
  switch (local.kind) {
    case LocalDetector::Kind::kUnknown:
      return false;
    case LocalDetector::Kind::kEverything:
      return match == Match::kEqual;
    case LocalDetector::Kind::kPrefix:
      rule.SourceIn(local.prefix, match);
      return true;
    case LocalDetector::Kind::kInterface:
    case LocalDetector::Kind::kInterfacePrefix:
      rule.InputInterface(local.interface, local.kind == LocalDetector::Kind::kInterfacePrefix,
                          match);
      return true;
  }
  return false;
}

// Calls `begin`, adds to the rule what makes it match the node's own addresses only, and `end`s it;
// once for each rule that this takes.
void OnNodeAddresses(const LayoutSettings& settings, const NodeNetwork& node,
                     const std::function<RuleBuilder()>& begin,
                     const std::function<void(RuleBuilder&)>& end) {
  const bool v4 = settings.family == net::Family::kIPv4;
  const net::IpPrefix loopback = net::IpPrefix::Parse(v4 ? "127.0.0.0/8" : "::1/128").value();
  // IPv6 has nothing like route_localnet: answers to ::1 could not come back. Better that the
  // client is refused at once.
  const bool localhost = v4 && node.localhost_node_ports;
  RuleBuilder rule = begin();
  if (node.every_address) {
    // Every address of the node, also those that come later.
    if (!localhost) rule.DestinationIn(loopback, Match::kNotEqual);
    end(rule.DestinationIsLocal());
    return;
  }
  end(rule.LoadDestination(0).InSet(NameOf(SetId::kNodeAddresses), 0));
  if (localhost) {
    RuleBuilder local = begin();
    end(local.DestinationIn(loopback, Match::kEqual));
  }
}

Chain ServicesChain(const LayoutSettings& settings, const NodeNetwork& node) {
  Chain chain{.name = std::string(kServicesChain)};
  // All of it twice: before Linux 6.17 a look-up that meets the commit of a transaction can miss an
  // element that is being replaced (net/netfilter/nf_tables_api.c switches the generation, then
  // unlinks). conntrack would remember the connection as one without translation for good.
  for (int look = 0; look < 2; ++look) {
    RuleBuilder services(settings.family);
    FindService(services, 0, kOwner);
    chain.rules.push_back(GoToClass(services).Build());
    OnNodeAddresses(
        settings, node,
        [&] {
          RuleBuilder rule(settings.family);
          FindService(rule, TrafficClass::kByNodePort, kOwner);
          return rule;
        },
        [&](RuleBuilder& rule) { chain.rules.push_back(GoToClass(rule).Build()); });
  }
  return chain;
}

// What has been translated has another destination by now and does not meet these. TCP gets a
// reset: an ICMP error that comes while its socket is being worked on is not heeded.
Chain RefuseChain(const LayoutSettings& settings, const NodeNetwork& node) {
  Chain chain{.name = std::string(kRefuseChain)};
  for (const bool tcp : {true, false}) {
    const auto refuse = [&](RuleBuilder& rule) {
      chain.rules.push_back((tcp ? rule.ResetTcp() : rule.Reject()).Build());
    };
    RuleBuilder addresses(settings.family);
    const unsigned words = addresses.address_words();
    refuse(addresses.LoadDestination(0).LoadProtocol(words).LoadDestinationPort(words + 1).InSet(
        NameOf(SetId::kRefused), 0));
    OnNodeAddresses(
        settings, node,
        [&] {
          RuleBuilder rule(settings.family);
          rule.LoadProtocol(0).LoadDestinationPort(1).InSet(NameOf(SetId::kRefusedPorts), 0);
          return rule;
        },
        refuse);
  }
  RuleBuilder cluster_ips(settings.family);
  chain.rules.push_back(cluster_ips.LoadDestination(0)
                            .InSet(NameOf(SetId::kClusterIps), 0)
                            .Jump(kUnusedPortsChain)
                            .Build());
  return chain;
}

// For packets to a cluster IP that nothing has translated. Nobody serves that port: without an
// answer they would follow the default route, perhaps in a loop (KEP-3866; kube-proxy's nftables
// mode does this in its chain cluster-ips-check).
Chain UnusedPortsChain(const LayoutSettings& settings) {
  Chain chain{.name = std::string(kUnusedPortsChain)};
  const auto add = [&](RuleBuilder& rule) { chain.rules.push_back(rule.Build()); };
  // Something on this node has the address: NodeLocal DNSCache, or ipvs mode that is being drained.
  RuleBuilder local(settings.family);
  add(local.DestinationIsLocal().Return());
  // The port is a Service's. The packet is of a flow that began before our rules and that another
  // mode still carries, or it met the rules of before and the elements of after a change.
  RuleBuilder served(settings.family);
  add(FindService(served, 0, kOwner).Return());
  RuleBuilder tcp(settings.family);
  add(tcp.ResetTcp());
  RuleBuilder other(settings.family);
  add(other.Reject());
  return chain;
}

// A packet that conntrack finds invalid would go out without its NAT undone, and the client would
// reset the connection (kubernetes#74839). That concerns answers of Services' endpoints. Other
// traffic may be invalid and right: that of which this node sees one direction only
// (kubernetes#94861).
Chain ForwardChain(const LayoutSettings& settings) {
  Chain chain{"forward", Hook{"filter", NF_INET_FORWARD, kFilter}, {}};
  RuleBuilder rule(settings.family);
  const unsigned words = rule.address_words();
  rule.CtState(1 /* NF_CT_STATE_INVALID_BIT */)
      .LoadSourceBlock(ReplyBlockLength(settings.family))
      .LoadProtocol(words)
      .LoadSourcePort(words + 1)
      .InSet(NameOf(SetId::kReplySources), 0);
  chain.rules.push_back(rule.Drop().Build("pointsman: would not be translated back"));
  return chain;
}

Chain PostroutingChain(const LayoutSettings& settings) {
  Chain chain{std::string(kPostrouting), Hook{"nat", NF_INET_POST_ROUTING, kSrcnat}, {}};
  // Unmarked before it goes on: the packet may pass this hook a second time (IPsec, tunnels), where
  // it must not be masqueraded again.
  chain.rules.push_back(RuleBuilder(settings.family)
                            .Mark(settings.mark)
                            .ClearMark(settings.mark)
                            .Masquerade()
                            .Build("pointsman: masquerade"));
  // An endpoint that reached itself through its Service would answer past us. Not on lo: there the
  // node talks to itself, which works as it is. The set has no endpoints that are known to be on
  // other nodes: a cluster has many, and none of them comes from here.
  // (Linux 6.13 and later can compare the two addresses without a set, but an nft(8) that does not
  // know that expression aborts as soon as it reads the rule, also for everybody else's tables.)
  RuleBuilder hairpin(settings.family);
  hairpin.OutputInterface("lo", Match::kNotEqual)
      .CtStatus(IPS_DST_NAT)
      .LoadSource(0)
      .LoadDestination(hairpin.address_words())
      .InSet(NameOf(SetId::kHairpin), 0);
  chain.rules.push_back(hairpin.Masquerade().Build("pointsman: hairpin"));
  return chain;
}

// For 127.0.0.0/8 from outside, only what a node port's DNAT has turned around.
Chain GuardChain(std::string_view comment) {
  const net::IpPrefix loopback = net::IpPrefix::Parse("127.0.0.0/8").value();
  const auto rule = [&] {
    RuleBuilder builder(net::Family::kIPv4);
    builder.DestinationIn(loopback, Match::kEqual).SourceIn(loopback, Match::kNotEqual);
    return builder;
  };
  Chain chain{"input", Hook{"filter", NF_INET_LOCAL_IN, kFilter}, {}};
  chain.rules.push_back(
      rule().CtState(StateBit(IP_CT_ESTABLISHED) | StateBit(IP_CT_RELATED)).Accept().Build());
  chain.rules.push_back(rule().CtStatus(IPS_DST_NAT).Accept().Build());
  chain.rules.push_back(rule().Drop().Build(std::string(comment)));
  return chain;
}

void AppendChoice(Chain& chain, const LayoutSettings& settings, const TrafficClass& traffic_class) {
  const unsigned address = settings.family == net::Family::kIPv4 ? 1 : 4;
  constexpr unsigned kClient = kOwner + 2;    // after the Service: the key of `affinity`
  constexpr unsigned kEndpoint = kOwner + 2;  // after the Service: the key of `affinity-endpoints`
  const std::chrono::seconds timeout(traffic_class.affinity);
  // The key of `affinity` once more, in other registers; what is in 8 and on stays.
  constexpr unsigned kAgain = 1;
  const auto client = [&](RuleBuilder& rule) {
    FindService(rule, traffic_class.policy, kAgain);
    return rule.LoadSource(kAgain + 2);
  };
  const auto choose = [&](RuleBuilder& rule, uint32_t among) {
    FindService(rule, traffic_class.policy, kOwner);
    rule.LoadRandom(among, kOwner + 2).Map(NameOf(SetId::kEndpoints), kOwner, kEndpoint);
  };
  if (traffic_class.affinity != 0) {
    // A client that has been here goes where it went, if that is still one of the backends.
    RuleBuilder again(settings.family);
    FindService(again, traffic_class.policy, kOwner);
    again.LoadSource(kClient)
        .Map(NameOf(SetId::kAffinity), kOwner, kEndpoint)
        .InSet(NameOf(SetId::kAffinityEndpoints), kOwner);
    client(again);
    again.Update(NameOf(SetId::kAffinity), kAgain, kEndpoint, timeout)
        .Dnat(kEndpoint, kEndpoint + address);
    chain.rules.push_back(again.Build());
    // What is left has no entry, or one that leads to a backend that is gone.
    RuleBuilder forget(settings.family);
    FindService(forget, traffic_class.policy, kOwner);
    forget.LoadSource(kClient).Delete(NameOf(SetId::kAffinity), kOwner, kOwner);
    chain.rules.push_back(forget.Build());
    RuleBuilder remember(settings.family);
    choose(remember, traffic_class.backends);
    client(remember);
    remember.Update(NameOf(SetId::kAffinity), kAgain, kEndpoint, timeout)
        .Dnat(kEndpoint, kEndpoint + address);
    chain.rules.push_back(remember.Build());
    // The map is full: better without affinity than not at all.
  }
  RuleBuilder rule(settings.family);
  choose(rule, traffic_class.backends);
  chain.rules.push_back(rule.Dnat(kEndpoint, kEndpoint + address).Build());
  // The packet met a change that made the backends fewer: number 0 is there as long as any is.
  RuleBuilder first(settings.family);
  choose(first, 1);
  chain.rules.push_back(first.Dnat(kEndpoint, kEndpoint + address).Build());
  // Not reached while the table is whole. Better that the client tries again than that conntrack
  // remembers the connection as one without translation.
  chain.rules.push_back(RuleBuilder(settings.family).Drop().Build());
}

}  // namespace

const std::vector<SetDefinition>& SetsOf(net::Family family) {
  static const std::vector<SetDefinition> v4 = MakeSets(net::Family::kIPv4);
  static const std::vector<SetDefinition> v6 = MakeSets(net::Family::kIPv6);
  return family == net::Family::kIPv4 ? v4 : v6;
}

std::string ClassChainName(const TrafficClass& traffic_class) {
  static constexpr std::pair<uint32_t, std::string_view> kWords[] = {
      {TrafficClass::kByNodePort, "-np"},
      {TrafficClass::kByFromNode, "-here"},
      {TrafficClass::kSourceRanges, "-ranges"},
      {TrafficClass::kShortcut, "-local"},
      {TrafficClass::kMasqueradeOffCluster, "-int"},
      {TrafficClass::kMasquerade, "-masq"},
      {TrafficClass::kReject, "-reject"},
      {TrafficClass::kDrop, "-drop"}};
  std::string name = "class";
  for (const auto& [bit, word] : kWords) {
    if ((traffic_class.policy & bit) != 0) name += word;
  }
  if (traffic_class.backends != 0) name += fmt::format("-{}", traffic_class.backends);
  if (traffic_class.affinity != 0) name += fmt::format("-sticky-{}", traffic_class.affinity);
  return name;
}

LayoutSettings::LayoutSettings(const kube::ProxySettings& settings, net::Family rule_family)
    : family(rule_family),
      drop_invalid(!settings.conntrack.tcp_be_liberal),
      local(settings, rule_family) {
  const int bit = settings.nftables.masquerade_bit;
  if (bit < 0 || bit > 31) {
    throw std::invalid_argument(fmt::format("nftables.masqueradeBit: {} is not within 0..31", bit));
  }
  mark = 1U << static_cast<unsigned>(bit);
}

std::vector<Chain> StaticChains(const LayoutSettings& settings, const NodeNetwork& node,
                                std::string_view guard) {
  std::vector<Chain> chains;
  chains.push_back(ServicesChain(settings, node));
  const auto entrance = [&](std::string_view name, uint32_t hook) {
    chains.push_back({std::string(name),
                      Hook{"nat", hook, kDstnat},
                      {RuleBuilder(settings.family)
                           .Jump(kServicesChain)
                           .Build("pointsman: new connections to Services")}});
  };
  entrance(kPrerouting, NF_INET_PRE_ROUTING);
  entrance(kOutput, NF_INET_LOCAL_OUT);
  chains.push_back(UnusedPortsChain(settings));
  chains.push_back(RefuseChain(settings, node));
  const auto refusal = [&](std::string_view name, uint32_t hook) {
    chains.push_back({std::string(name),
                      Hook{"filter", hook, kRefuse},
                      {RuleBuilder(settings.family)
                           .CtState(StateBit(IP_CT_NEW))
                           .Jump(kRefuseChain)
                           .Build("pointsman: what no Service answers")}});
  };
  refusal(kRefusePrerouting, NF_INET_PRE_ROUTING);
  refusal(kRefuseOutput, NF_INET_LOCAL_OUT);
  chains.push_back(PostroutingChain(settings));
  if (settings.drop_invalid) chains.push_back(ForwardChain(settings));
  if (!guard.empty()) chains.push_back(GuardChain(guard));
  return chains;
}

Chain ClassChain(const LayoutSettings& settings, const TrafficClass& traffic_class) {
  Chain chain{.name = ClassChainName(traffic_class)};
  const uint32_t policy = traffic_class.policy;
  const auto has = [policy](TrafficClass::Policy bit) { return (policy & bit) != 0; };
  const auto add = [&](RuleBuilder& rule) { chain.rules.push_back(rule.Build()); };
  const net::Family family = settings.family;

  if (has(TrafficClass::kSourceRanges)) {
    RuleBuilder rule(family);
    FindService(rule, policy, kOwner);
    rule.LoadSource(kOwner + 2).NotInSet(NameOf(SetId::kSourceRanges), kOwner).Drop();
    add(rule);
  }
  if (has(TrafficClass::kShortcut)) {
    // This node and its pods are served as by the Cluster policy (kube-proxy: "short-circuit").
    const auto shortcut = [&](RuleBuilder& rule) {
      FindService(rule, policy | TrafficClass::kByFromNode, kOwner);
      add(GoToClass(rule, SetId::kClassesFromNode));
    };
    RuleBuilder pods(family);
    if (FromCluster(pods, settings.local, Match::kEqual)) shortcut(pods);
    RuleBuilder mark(family);
    add(mark.SourceIsLocal().SetMark(settings.mark));
    RuleBuilder node(family);
    shortcut(node.SourceIsLocal());
  }
  if (has(TrafficClass::kMasquerade)) {
    RuleBuilder rule(family);
    add(rule.SetMark(settings.mark));
  } else if (has(TrafficClass::kMasqueradeOffCluster)) {
    RuleBuilder rule(family);
    if (FromCluster(rule, settings.local, Match::kNotEqual)) add(rule.SetMark(settings.mark));
  }
  if (has(TrafficClass::kDrop)) {
    RuleBuilder rule(family);
    add(rule.Drop());
  } else if (!has(TrafficClass::kReject)) {
    AppendChoice(chain, settings, traffic_class);
  }
  return chain;
}

}  // namespace pointsman::agent::nft

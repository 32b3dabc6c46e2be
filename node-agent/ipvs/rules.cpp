#include "node-agent/ipvs/rules.h"

#include <array>
#include <map>
#include <netinet/in.h>
#include <set>

#include <fmt/format.h>
#include <spdlog/fmt/fmt.h>

#include "node-agent/iptables/chain_jump.h"
#include "node-agent/iptables/jump_order.h"
#include "node-agent/iptables/service_rules.h"
#include "node-agent/ipvs/internal_addresses.h"
#include "node-agent/ipvs/sets.h"

namespace pointsman::agent::ipvs {
namespace {

constexpr std::array kTables{"filter", "mangle", "nat"};

std::string Match(SetId id, net::Family family, const char* direction) {
  return "-m set --match-set " + SetName(id, family) + " " + direction;
}

std::string NoMatch(SetId id, net::Family family, const char* direction) {
  return "-m set ! --match-set " + SetName(id, family) + " " + direction;
}

struct SavedTable {
  std::set<std::string> chains;
  std::vector<std::string> rules;  // "-A CHAIN …" lines of our chains, and jumps to them
  // Of the rules above, the jumps before which only such rules stand as may.
  std::set<std::string> first;
  // Builtin chain → how many rules at its top may stand before our jump.
  std::map<std::string, size_t> leading;
};

using SavedTables = std::map<std::string, SavedTable, std::less<>>;

// One process for all of kTables: a start of one takes longer than what it does.
SavedTables Read(IptablesTool& tool) {
  SavedTables tables;
  for (const char* table : kTables)
    tables[table];
  SavedTable ignored;
  SavedTable* saved = &ignored;
  std::set<std::string> blocked;
  tool.SaveLines("", [&](std::string_view line) {
    while (line.ends_with(' '))
      line.remove_suffix(1);
    if (line.starts_with('*')) {
      const auto found = tables.find(line.substr(1));
      saved = found != tables.end() ? &found->second : &ignored;
      blocked.clear();
      return;
    }
    if (line.starts_with(':')) {
      const std::string_view name = line.substr(1, line.find(' ') - 1);
      if (name.starts_with(kChainPrefix)) saved->chains.emplace(name);
      return;
    }
    if (!line.starts_with("-A ")) return;
    const bool ours =
        line.substr(3).starts_with(kChainPrefix) || ChainJumpedTo(line).starts_with(kChainPrefix);
    if (ours) saved->rules.emplace_back(line);
    if (line.starts_with("-A POINTSMAN-")) return;
    // The order of the lines is the order of the rules in their chain.
    std::string base(line.substr(3, line.find(' ', 3) - 3));
    if (blocked.contains(base)) return;
    if (!MayPrecedeOurJump(line)) {
      blocked.insert(std::move(base));
      return;
    }
    ++saved->leading[base];
    if (ours) saved->first.emplace(line);
  });
  return tables;
}

std::string RuleLine(const Chain& chain, const std::string& rule) {
  return "-A " + chain.name + " " + rule;
}

std::string JumpLine(const Chain& chain) {
  return "-A " + chain.base + " " + (chain.jump.empty() ? "" : chain.jump + " ") + "-j " +
         chain.name;
}

// What of `chain` differs in `saved`; "" when nothing.
std::string Difference(const SavedTable& saved, const Chain& chain) {
  if (!saved.chains.contains(chain.name)) return "chain is missing";
  const std::string start = "-A " + chain.name + " ";
  size_t at = 0;
  size_t jumps = 0;
  for (const std::string& line : saved.rules) {
    if (line == JumpLine(chain)) ++jumps;
    if (!line.starts_with(start)) continue;
    if (at >= chain.rules.size() || line != RuleLine(chain, chain.rules[at]))
      return "unexpected rule: " + line;
    ++at;
  }
  if (at != chain.rules.size()) return "rule is missing: " + RuleLine(chain, chain.rules[at]);
  if (chain.base.empty()) return "";
  if (jumps == 0) return "jump is missing: " + JumpLine(chain);
  if (!saved.first.contains(JumpLine(chain)))
    return "rules of others stand before the jump: " + JumpLine(chain);
  return "";
}

}  // namespace

std::vector<Chain> DesiredChains(net::Family family, const kube::ProxySettings& settings,
                                 bool random_fully) {
  const bool v4 = family == net::Family::kIPv4;
  const RuleSettings sources(settings, family);
  const uint32_t bit = 1U << static_cast<unsigned>(settings.iptables.masquerade_bit);
  const std::string marked = fmt::format("-m mark --mark {0:#x}/{0:#x}", bit);
  const std::string mark = fmt::format(" -j MARK --set-xmark {0:#x}/{0:#x}", bit);
  const std::string reject = v4 ? " -j REJECT --reject-with icmp-port-unreachable"
                                : " -j REJECT --reject-with icmp6-port-unreachable";
  const std::string comment = R"(-m comment --comment "pointsman ipvs")";
  const std::string fresh = "-m conntrack --ctstate INVALID,NEW ";
  const std::string node_port_server = NodePortAddress(family).ToString();
  const std::string near_server = NearNodePortAddress(family).ToString();
  // An address of this node that answers node ports.
  const bool any_address = settings.node_port_addresses.empty() && !settings.node_port_primary;
  const std::string to_node =
      any_address ? "-m addrtype --dst-type LOCAL " + NoMatch(SetId::kVip, family, "dst") + " "
                  : Match(SetId::kNodeAddress, family, "dst") + " ";

  std::vector<Chain> chains;
  Chain input{"filter", "POINTSMAN-IPVS-INPUT", "INPUT", comment, {}};
  // In the other modes traffic to Services is forwarded, and what is in INPUT, such as a policy of
  // DROP, does not concern it.
  input.rules.push_back("-m conntrack --ctstate RELATED,ESTABLISHED " +
                        Match(SetId::kVip, family, "dst") + " -j ACCEPT");
  input.rules.push_back(Match(SetId::kHealth, family, "dst,dst") + " -j ACCEPT");
  input.rules.emplace_back("-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN");
  input.rules.push_back(Match(SetId::kDrop, family, "dst,dst") + " -j DROP");
  input.rules.push_back(Match(SetId::kCluster, family, "dst,dst") + " -j ACCEPT");
  // The internal addresses are no way in for those who find them out. One that is an external
  // address itself is not changed by NETMAP, and the packet has no DNAT then.
  input.rules.push_back(Match(SetId::kInternal, family, "dst,dst") +
                        " -m conntrack --ctstate DNAT -j ACCEPT");
  for (const SetId id : {SetId::kMapped, SetId::kMappedSpare})
    input.rules.push_back(Match(id, family, "dst,dst") + " -j ACCEPT");
  input.rules.push_back(Match(SetId::kInternal, family, "dst,dst") + " -j DROP");
  input.rules.push_back(v4 ? "-p icmp -m icmp --icmp-type 8 -j RETURN"
                           : "-p ipv6-icmp -m icmp6 --icmpv6-type 128 -j RETURN");
  // A node's own listeners on 0.0.0.0 must not answer on a VIP (kubernetes#72236); and a Service
  // port without endpoints, on any kind of address, is refused.
  input.rules.push_back(fresh + Match(SetId::kVip, family, "dst") + reject);
  input.rules.push_back(fresh + Match(SetId::kOwned, family, "dst,dst") + reject);
  input.rules.push_back(to_node + Match(SetId::kNodePortDrop, family, "dst,dst") + " -j DROP");
  input.rules.push_back(fresh + to_node + Match(SetId::kNodePortReject, family, "dst,dst") +
                        reject);
  chains.push_back(std::move(input));

  // Answers of backends pass FORWARD; a default policy of DROP must not stop them.
  chains.push_back(
      {"filter",
       "POINTSMAN-IPVS-FORWARD",
       "FORWARD",
       comment,
       {marked + " -j ACCEPT", "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"}});

  // Source ranges are looked at before table nat may send a packet on to another address.
  for (const std::string base : {"PREROUTING", "OUTPUT"}) {
    Chain early{"mangle",
                std::string(kChainPrefix) + base,
                base,
                comment + " -m conntrack --ctstate NEW",
                {}};
    early.rules.push_back(Match(SetId::kGuarded, family, "dst,dst") + " " +
                          NoMatch(SetId::kSources, family, "dst,dst,src") + " -j DROP");
    // What the node itself sends meets IPVS before any filter, and IPVS refuses what it has no
    // backend for, while it keeps the virtual server for the connections of a backend that left.
    if (base == "OUTPUT")
      early.rules.push_back(Match(SetId::kDrop, family, "dst,dst") + " -j DROP");
    chains.push_back(std::move(early));
  }

  // What IPVS serves is decided here: rules of others behind this one (kube-proxy's, as long as it
  // runs beside us or was not cleaned up) must not send it elsewhere before IPVS sees it.
  const std::string taken = Match(SetId::kCluster, family, "dst,dst") + " -j ACCEPT";
  // An external IP that is a cluster IP too stays the latter's.
  const std::string closed = Match(SetId::kClosed, family, "dst,dst") + " -j ACCEPT";
  const std::string near_node_port = to_node + Match(SetId::kNodePortNear, family, "dst,dst");
  const std::string to_near_server = " -j DNAT --to-destination " + near_server;
  const auto map_to = [&](SetId id, const net::IpPrefix& prefix) {
    return Match(id, family, "dst,dst") + " -j NETMAP --to " + prefix.ToString();
  };
  const std::array near_map{map_to(SetId::kNear, NearMapPrefix(family)),
                            map_to(SetId::kNearSpare, NearSpareMapPrefix(family))};
  const std::array map{map_to(SetId::kMapped, MapPrefix(family)),
                       map_to(SetId::kMappedSpare, SpareMapPrefix(family))};
  const std::string node_ports_jump = to_node + "-j POINTSMAN-IPVS-NODEPORTS";

  Chain prerouting{"nat", "POINTSMAN-IPVS-PREROUTING", "PREROUTING", comment, {}};
  const std::string from_pods = sources.from_cluster.empty() ? "" : sources.from_cluster + " ";
  if (!from_pods.empty()) {
    for (const std::string& rule : near_map)
      prerouting.rules.push_back(from_pods + rule);
  }
  if (settings.iptables.masquerade_all) {
    prerouting.rules.push_back(Match(SetId::kCluster, family, "dst,dst") + mark);
  } else if (!sources.off_cluster.empty()) {
    prerouting.rules.push_back(sources.off_cluster + " " +
                               Match(SetId::kCluster, family, "dst,dst") + mark);
  }
  prerouting.rules.push_back(taken);
  prerouting.rules.push_back(closed);
  prerouting.rules.push_back(Match(SetId::kMarked, family, "dst,dst") + mark);
  prerouting.rules.insert(prerouting.rules.end(), map.begin(), map.end());
  if (!from_pods.empty()) prerouting.rules.push_back(from_pods + near_node_port + to_near_server);
  prerouting.rules.push_back(node_ports_jump);
  chains.push_back(std::move(prerouting));

  // What the node itself sends to a VIP has that VIP as its source address (it is local), which no
  // backend elsewhere could answer. To an address that is not bound it has one of the node's.
  chains.push_back({"nat",
                    "POINTSMAN-IPVS-OUTPUT",
                    "OUTPUT",
                    comment,
                    {Match(SetId::kOwned, family, "dst,dst") + mark, taken, closed,
                     Match(SetId::kMapped, family, "dst,dst") + mark,
                     Match(SetId::kMappedSpare, family, "dst,dst") + mark, near_map[0], near_map[1],
                     map[0], map[1], v4 ? "-d 127.0.0.0/8 -j RETURN" : "-d ::1/128 -j RETURN",
                     near_node_port + mark, near_node_port + to_near_server, node_ports_jump}});

  const std::string to_server = " -j DNAT --to-destination " + node_port_server;
  chains.push_back({"nat",
                    "POINTSMAN-IPVS-NODEPORTS",
                    "",
                    "",
                    {Match(SetId::kNodePortExternal, family, "dst,dst") + mark,
                     Match(SetId::kNodePortExternal, family, "dst,dst") + to_server,
                     Match(SetId::kNodePortLocal, family, "dst,dst") + to_server}});

  // A pod that reaches itself through its Service would see its own address as the client's and
  // answer past us.
  chains.push_back({"nat",
                    "POINTSMAN-IPVS-POSTROUTING",
                    "POSTROUTING",
                    comment,
                    {Match(SetId::kHairpin, family, "dst,dst,src") + " -j MASQUERADE" +
                     (random_fully ? " --random-fully" : "")}});
  return chains;
}

size_t EnsureChains(IptablesTool& tool, const std::vector<Chain>& chains) {
  size_t written = 0;
  std::string text;
  for (const auto& [table, saved] : Read(tool)) {
    std::string declarations;
    std::string rules;
    for (const Chain& chain : chains) {
      if (chain.table != table || Difference(saved, chain).empty()) continue;
      declarations += ":" + chain.name + " - [0:0]\n";  // makes the chain, or empties it
      for (const std::string& rule : chain.rules)
        rules += RuleLine(chain, rule) + "\n";
      written += chain.rules.size();
      if (chain.base.empty() || saved.first.contains(JumpLine(chain))) continue;
      for (const std::string& line : saved.rules) {
        if (line == JumpLine(chain)) rules += "-D" + line.substr(2) + "\n";
      }
      // Behind the jumps of iptables mode: while both are there, that one has the new connections.
      const auto leading = saved.leading.find(chain.base);
      const size_t position = 1 + (leading != saved.leading.end() ? leading->second : 0);
      rules += fmt::format("-I {} {}{}\n", chain.base, position,
                           JumpLine(chain).substr(3 + chain.base.size()));
      ++written;
    }
    if (!declarations.empty()) text += fmt::format("*{}\n{}{}COMMIT\n", table, declarations, rules);
  }
  if (!text.empty()) tool.Restore(text);
  return written;
}

void StopTaking(IptablesTool& tool) {
  std::string text;
  for (const auto& [table, saved] : Read(tool)) {
    std::string jumps;
    for (const std::string& line : saved.rules) {
      const bool takes = line.starts_with("-A PREROUTING ") || line.starts_with("-A OUTPUT ");
      if (takes) jumps += "-D" + line.substr(2) + "\n";
    }
    if (!jumps.empty()) text += fmt::format("*{}\n{}COMMIT\n", table, jumps);
  }
  if (!text.empty()) tool.Restore(text);
}

std::vector<std::string> CheckChains(IptablesTool& tool, const std::vector<Chain>& chains) {
  std::vector<std::string> differences;
  for (const auto& [table, saved] : Read(tool)) {
    for (const Chain& chain : chains) {
      if (chain.table != table) continue;
      const std::string difference = Difference(saved, chain);
      if (!difference.empty())
        differences.push_back(fmt::format("{} {}: {}", table, chain.name, difference));
    }
  }
  return differences;
}

size_t RemoveChains(IptablesTool& tool) {
  size_t removed = 0;
  std::string text;
  for (const auto& [table, saved] : Read(tool)) {
    if (saved.chains.empty()) continue;
    text += fmt::format("*{}\n", table);
    for (const std::string& chain : saved.chains)
      text += ":" + chain + " - [0:0]\n";
    for (const std::string& line : saved.rules) {
      if (!line.starts_with("-A " + std::string(kChainPrefix)))
        text += "-D" + line.substr(2) + "\n";
    }
    for (const std::string& chain : saved.chains)
      text += "-X " + chain + "\n";
    text += "COMMIT\n";
    removed += saved.chains.size();
  }
  if (!text.empty()) tool.Restore(text);
  return removed;
}

bool AnyChain(IptablesTool& tool) {
  const SavedTables tables = Read(tool);
  return std::any_of(tables.begin(), tables.end(),
                     [](const auto& table) { return !table.second.chains.empty(); });
}

}  // namespace pointsman::agent::ipvs

// What the modes make of the same Services, without a kernel: who may come, where it may go, and
// whether it goes there with an address of this node. Each mode's rules, elements or sets are
// followed as the kernel does it, and must do what the model says. Userspace mode has iptables
// mode's rules, with the forwarder's slots for backends.
#include <map>
#include <netinet/in.h>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <spdlog/fmt/fmt.h>

#include "node-agent/iptables/iptables_family.h"
#include "node-agent/ipvs/frontend.h"
#include "node-agent/ipvs/internal_addresses.h"
#include "node-agent/ipvs/sets.h"
#include "node-agent/model/ip_protocol.h"
#include "node-agent/model/local_detector.h"
#include "node-agent/model/service_hash.h"
#include "node-agent/nftables/elements.h"
#include "node-agent/testing/random_model.h"
#include "node-agent/xtables/chain_names.h"
#include "node-agent/xtables/service_rules.h"

namespace pointsman::agent::testing {
namespace {

struct Packet {
  net::IpAddress destination;
  uint16_t port = 0;
  bool to_node_port = false;
  net::IpAddress source;
  bool from_node = false;  // this node itself sends it
};

struct Outcome {
  enum class Verdict : uint8_t { kGoes, kRejected, kDropped, kUntouched };
  Verdict verdict = Verdict::kUntouched;
  std::set<std::string> to;  // one of these
  bool masquerade = false;
  bool operator==(const Outcome&) const = default;
  std::string ToString() const {
    static constexpr const char* kWords[] = {"goes", "rejected", "dropped", "untouched"};
    return fmt::format("{}{} {}", kWords[static_cast<size_t>(verdict)],
                       masquerade ? " masqueraded" : "", fmt::join(to, " "));
  }
};
using Verdict = Outcome::Verdict;

std::string Text(const net::IpAddress& ip, uint16_t port) {
  return ip.ToString() + " " + std::to_string(port);
}

Outcome To(const BackendChoice& choice, bool masquerade) {
  if (choice.backends.empty()) {
    return {choice.when_empty == BackendChoice::WhenEmpty::kDrop ? Verdict::kDropped
                                                                 : Verdict::kRejected,
            {},
            false};
  }
  Outcome outcome{Verdict::kGoes, {}, masquerade};
  for (const Backend& backend : choice.backends)
    outcome.to.insert(Text(backend.ip, backend.port));
  return outcome;
}

// What the settings say of a packet, for all Services alike.
class Cluster {
 public:
  Cluster(const kube::ProxySettings& all_settings, net::Family of_family)
      : settings(all_settings), family(of_family), local_(all_settings, of_family) {}
  // Known to come from this node or its pods?
  bool IsNear(const Packet& packet) const {
    return packet.from_node || local_.kind == LocalDetector::Kind::kEverything ||
           (local_.kind == LocalDetector::Kind::kPrefix && local_.prefix.Contains(packet.source));
  }
  bool Masquerades(Masquerade decision, const Packet& packet) const {
    return decision == Masquerade::kAlways ||
           (decision == Masquerade::kOffCluster && local_.kind == LocalDetector::Kind::kPrefix &&
            !local_.prefix.Contains(packet.source));
  }

  const kube::ProxySettings& settings;
  const net::Family family;

 private:
  const LocalDetector local_;
};

bool Contains(const std::vector<net::IpAddress>& all, const net::IpAddress& one) {
  return std::find(all.begin(), all.end(), one) != all.end();
}

// As the model says.
Outcome Decided(const ServicePortEntry& entry, const Cluster& cluster, const Packet& packet) {
  if (!packet.to_node_port && packet.destination == entry.cluster_ip)
    return To(entry.internal, cluster.Masquerades(entry.internal_masquerade, packet));
  if (!packet.to_node_port && Contains(entry.load_balancer_ips, packet.destination) &&
      entry.HasSourceRanges() && entry.HasExternalBackends()) {
    const bool in_ranges =
        std::any_of(entry.source_ranges.begin(), entry.source_ranges.end(),
                    [&](const net::IpPrefix& range) { return range.Contains(packet.source); });
    const bool as_the_node = entry.node_in_source_ranges && packet.source == packet.destination;
    if (!in_ranges && !as_the_node) return {Verdict::kDropped, {}, false};
  }
  if (entry.external_local && cluster.IsNear(packet) && !entry.external_from_node.backends.empty())
    return To(entry.external_from_node, false);
  return To(entry.external, cluster.Masquerades(entry.ExternalMasquerade(), packet));
}

// --- iptables ---------------------------------------------------------------------------------

class IptablesRules {
 public:
  IptablesRules(const ServicePortEntry& entry, const Cluster& cluster)
      : entry_(entry), dispatches_(xtables::DispatchesOf(entry)) {
    xtables::RuleSettings settings(cluster.settings, cluster.family, {.prefix = prefix_});
    settings.keeps_affinity = true;
    xtables::ForEachServiceChain(entry, settings,
                                 [&](std::string_view name, std::string_view rules) {
                                   std::vector<Rule>& chain = chains_[std::string(name)];
                                   std::istringstream lines{std::string(rules)};
                                   for (std::string line; std::getline(lines, line);)
                                     chain.push_back(Words(line));
                                 });
  }

  Outcome Follow(const Packet& packet) const {
    Outcome outcome;
    const auto dispatched = [&](const xtables::Dispatch& dispatch, xtables::DispatchTable address,
                                xtables::DispatchTable port) {
      return packet.to_node_port
                 ? dispatch.table == port
                 : dispatch.table == address && dispatch.key.address == packet.destination;
    };
    for (const xtables::Dispatch& dispatch : dispatches_) {
      if (!dispatched(dispatch, xtables::DispatchTable::kNatAddress,
                      xtables::DispatchTable::kNatPort))
        continue;
      const char kind = dispatch.action == xtables::DispatchAction::kService    ? 'S'
                        : dispatch.action == xtables::DispatchAction::kExternal ? 'E'
                                                                                : 'F';
      Run(xtables::ServiceChain(prefix_, kind, ServiceHash(entry_.id)), packet, outcome);
    }
    if (!outcome.to.empty()) {
      outcome.verdict = Verdict::kGoes;
      return outcome;
    }
    outcome.masquerade = false;
    for (const xtables::Dispatch& dispatch : dispatches_) {
      if (!dispatched(dispatch, xtables::DispatchTable::kFilterAddress,
                      xtables::DispatchTable::kFilterPort))
        continue;
      outcome.verdict = dispatch.action == xtables::DispatchAction::kDrop ? Verdict::kDropped
                                                                          : Verdict::kRejected;
    }
    return outcome;
  }

 private:
  using Rule = std::vector<std::string>;

  static Rule Words(const std::string& line) {
    std::istringstream words(line);
    return {std::istream_iterator<std::string>(words), {}};
  }
  static bool Has(const Rule& rule, const std::string& word) {
    return std::find(rule.begin(), rule.end(), word) != rule.end();
  }
  static std::string After(const Rule& rule, const std::string& word) {
    const auto at = std::find(rule.begin(), rule.end(), word);
    return at == rule.end() ? "" : *(at + 1);
  }
  static bool Matches(const Rule& rule, const Packet& packet) {
    if (Has(rule, "--src-type") && !packet.from_node) return false;
    const std::string source = After(rule, "-s");
    if (source.empty()) return true;
    const bool negated = *(std::find(rule.begin(), rule.end(), "-s") - 1) == "!";
    return net::IpPrefix::Parse(source).value().Contains(packet.source) != negated;
  }

  // Returns whether a rule has decided for certain.
  bool Run(const std::string& name, const Packet& packet, Outcome& outcome) const {
    for (const Rule& rule : chains_.at(name)) {
      if (!Matches(rule, packet)) continue;
      const std::string target = After(rule, "-j");
      if (target == "POINTSMAN-MARK-MASQ") {
        outcome.masquerade = true;
      } else if (target == "DNAT") {
        const std::string to = After(rule, "--to-destination");
        const size_t colon = to.rfind(':');
        std::string ip = to.substr(0, colon);
        if (ip.starts_with('[')) ip = ip.substr(1, ip.size() - 2);
        outcome.to.insert(ip + " " + to.substr(colon + 1));
        if (!Has(rule, "statistic") && !Has(rule, "--update")) return true;
      } else if (Run(target, packet, outcome)) {
        return true;
      }
    }
    return false;
  }

  const ServicePortEntry& entry_;
  const std::vector<xtables::Dispatch> dispatches_;
  const std::string prefix_{IptablesFamily::kChainPrefix};
  std::map<std::string, std::vector<Rule>> chains_;
};

// --- nftables ---------------------------------------------------------------------------------

class NftablesElements {
 public:
  NftablesElements(const ServicePortEntry& entry, const Cluster& cluster)
      : entry_(entry), cluster_(cluster) {
    nft::AppendElements(entry, elements_);
  }

  Outcome Follow(const Packet& packet) const {
    std::string key =
        nft::FrontendKey(packet.destination, IpProtocol(entry_.id.protocol), packet.port);
    if (packet.to_node_port) key.erase(0, packet.destination.size());
    const nft::Element* route =
        Find(packet.to_node_port ? nft::SetId::kNodePorts : nft::SetId::kServices, key);
    return route == nullptr ? Outcome{} : Run(*route, packet);
  }

 private:
  using Class = nft::TrafficClass;
  static constexpr size_t kOwnerSize = 8;

  static std::string Bytes(const auto& array, size_t from, size_t size) {
    return {reinterpret_cast<const char*>(array.data()) + from, size};
  }
  static std::string OwnerOf(const nft::Element& route) { return Bytes(route.data, 4, kOwnerSize); }

  const nft::Element* Find(nft::SetId set, const std::string& key) const {
    const auto found = std::find_if(elements_.begin(), elements_.end(), [&](const auto& element) {
      return element.set == set && Bytes(element.key, 0, key.size()) == key;
    });
    return found == elements_.end() ? nullptr : &*found;
  }
  bool InSourceRanges(const std::string& owner, const net::IpAddress& source) const {
    const std::string ip(reinterpret_cast<const char*>(source.data()), source.size());
    return std::any_of(elements_.begin(), elements_.end(), [&](const nft::Element& element) {
      return element.set == nft::SetId::kSourceRanges &&
             Bytes(element.key, 0, kOwnerSize) == owner &&
             Bytes(element.key, kOwnerSize, ip.size()) <= ip &&
             ip <= Bytes(element.data, kOwnerSize, ip.size());
    });
  }

  // As the rules of ClassChain (nftables/layout.h).
  Outcome Run(const nft::Element& route, const Packet& packet) const {
    Class traffic_class;
    EXPECT_TRUE(nft::ClassOf(route, traffic_class));
    const auto has = [&](Class::Policy bit) { return (traffic_class.policy & bit) != 0; };
    if (has(Class::kSourceRanges) && !InSourceRanges(OwnerOf(route), packet.source))
      return {Verdict::kDropped, {}, false};
    if (has(Class::kShortcut) && cluster_.IsNear(packet)) {
      const nft::Element* here = Find(nft::SetId::kFromNode, Bytes(route.data, 4, kOwnerSize + 4));
      return here == nullptr ? Outcome{} : Run(*here, packet);
    }
    if (has(Class::kDrop)) return {Verdict::kDropped, {}, false};
    if (has(Class::kReject)) return {Verdict::kRejected, {}, false};
    Outcome outcome{
        Verdict::kGoes,
        {},
        cluster_.Masquerades(has(Class::kMasquerade)             ? Masquerade::kAlways
                             : has(Class::kMasqueradeOffCluster) ? Masquerade::kOffCluster
                                                                 : Masquerade::kNever,
                             packet)};
    for (uint32_t number = 0; number < traffic_class.backends; ++number) {
      const nft::Element* endpoint =
          Find(nft::SetId::kEndpoints,
               OwnerOf(route) + std::string(reinterpret_cast<const char*>(&number), 4));
      if (endpoint == nullptr) return {};
      const size_t size = packet.destination.size();
      const net::IpAddress ip = net::IpAddress::FromBytes(endpoint->data.data(), size);
      outcome.to.insert(
          Text(ip, static_cast<uint16_t>(endpoint->data[size] << 8 | endpoint->data[size + 1])));
    }
    return outcome;
  }

  const ServicePortEntry& entry_;
  const Cluster& cluster_;
  std::vector<nft::Element> elements_;
};

// --- ipvs -------------------------------------------------------------------------------------

// As the rules of DesiredChains (ipvs/rules.h).
class IpvsSets {
 public:
  IpvsSets(const ServicePortEntry& entry, const Cluster& cluster)
      : entry_(entry), cluster_(cluster) {
    ipvs::ForEachFrontend(entry, [&](const ipvs::FrontendClaim& claim) {
      servers_[claim.key] = &ipvs::ChoiceOf(entry, claim.source);
      ipvs::ForEachOwnElement(claim, entry, [&](const ipvs::SetEntry& element) {
        sets_[element.set].push_back(element.element);
      });
    });
  }

  Outcome Follow(const Packet& packet) const {
    using ipvs::SetId;
    const net::IpAddress& ip = packet.destination;
    const bool near = cluster_.IsNear(packet);
    if (packet.to_node_port) {
      if (near && HasPort(SetId::kNodePortNear, packet.port))
        return At(ipvs::NearNodePortAddress(ip.family()), packet.port, false);
      if (HasPort(SetId::kNodePortExternal, packet.port))
        return At(ipvs::NodePortAddress(ip.family()), packet.port, true);
      if (HasPort(SetId::kNodePortLocal, packet.port))
        return At(ipvs::NodePortAddress(ip.family()), packet.port, false);
      if (HasPort(SetId::kNodePortDrop, packet.port)) return {Verdict::kDropped, {}, false};
      if (HasPort(SetId::kNodePortReject, packet.port)) return {Verdict::kRejected, {}, false};
      return {};
    }
    if (Has(SetId::kGuarded, ip, packet.port) && !MayCome(packet))
      return {Verdict::kDropped, {}, false};
    if (near && Has(SetId::kNear, ip, packet.port))
      return At(ipvs::NearMappedAddress(ip), packet.port, false);
    if (Has(SetId::kCluster, ip, packet.port))
      return At(ip, packet.port,
                Has(SetId::kMarked, ip, packet.port) ||
                    cluster_.Masquerades(Masquerade::kOffCluster, packet));
    if (Has(SetId::kClosed, ip, packet.port)) return Refused(ip, packet.port);
    if (Has(SetId::kMapped, ip, packet.port))
      return At(ipvs::MappedAddress(ip), packet.port, Has(SetId::kMarked, ip, packet.port));
    return {};
  }

 private:
  bool Has(ipvs::SetId set, const net::IpAddress& ip, uint16_t port) const {
    const auto found = sets_.find(set);
    return found != sets_.end() &&
           std::any_of(found->second.begin(), found->second.end(), [&](const auto& element) {
             return element.ip == ip && element.port == port;
           });
  }
  bool HasPort(ipvs::SetId set, uint16_t port) const {
    const auto found = sets_.find(set);
    return found != sets_.end() && found->second.size() == 2 && found->second[0].port == port;
  }
  bool MayCome(const Packet& packet) const {
    const auto sources = sets_.find(ipvs::SetId::kSources);
    return sources != sets_.end() &&
           std::any_of(sources->second.begin(), sources->second.end(), [&](const auto& element) {
             return element.ip == packet.destination && element.port == packet.port &&
                    net::IpPrefix(element.ip2, element.prefix_length).Contains(packet.source);
           });
  }
  Outcome Refused(const net::IpAddress& server, uint16_t port) const {
    return {
        Has(ipvs::SetId::kDrop, server, port) ? Verdict::kDropped : Verdict::kRejected, {}, false};
  }
  // What is sent on to a virtual server.
  Outcome At(const net::IpAddress& server, uint16_t port, bool masquerade) const {
    const bool open =
        Has(ipvs::SetId::kInternal, server, port) || Has(ipvs::SetId::kCluster, server, port);
    if (!open) return Refused(server, port);
    return To(*servers_.at({server, port, IpProtocol(entry_.id.protocol)}), masquerade);
  }

  const ServicePortEntry& entry_;
  const Cluster& cluster_;
  std::map<ipvs::FrontendKey, const BackendChoice*> servers_;
  std::map<ipvs::SetId, std::vector<netlink::SetElement>> sets_;
};

// ----------------------------------------------------------------------------------------------

std::vector<Packet> PacketsTo(const ServicePortEntry& entry) {
  const bool v4 = entry.id.family == net::Family::kIPv4;
  std::vector<Packet> to;
  const auto add = [&](const net::IpAddress& ip, uint16_t port, bool to_node_port) {
    to.push_back({.destination = ip, .port = port, .to_node_port = to_node_port});
  };
  add(entry.cluster_ip, entry.port, false);
  for (const auto* ips : {&entry.external_ips, &entry.load_balancer_ips}) {
    for (const net::IpAddress& ip : *ips)
      add(ip, entry.port, false);
  }
  const net::IpAddress node = Ip(v4 ? "192.168.7.1" : "fd00:7::1");
  if (entry.node_port != 0) add(node, entry.node_port, true);

  std::vector<Packet> packets;
  for (const Packet& packet : to) {
    // A pod; others, some of them within the source ranges of a RandomModel, at their ends too.
    for (const char* source : {"10.244.1.9", "192.161.0.0", "192.161.0.255", "192.161.255.255",
                               "192.162.0.7", "203.0.113.200", "fd00:244::9",
                               "fd00:161::", "fd00:161:ff00::1", "fd00:162::7", "2001:db8:9::1"}) {
      if (Ip(source).is_v4() != v4) continue;
      packets.push_back(packet);
      packets.back().source = Ip(source);
    }
    // The node by an address of its own, and where the destination is bound on it.
    for (const net::IpAddress& source : {node, packet.destination}) {
      packets.push_back(packet);
      packets.back().source = source;
      packets.back().from_node = true;
    }
  }
  return packets;
}

TEST(ModesAgreeTest, EachDoesWhatTheModelSays) {
  std::map<Verdict, size_t> seen;
  size_t masqueraded = 0;
  for (const char* cidr : {"", "10.244.0.0/16,fd00:244::/32", "0.0.0.0/0,::/0"}) {
    kube::ProxySettings settings;
    std::istringstream cidrs(cidr);
    for (std::string one; std::getline(cidrs, one, ',');)
      settings.cluster_cidrs.push_back(net::IpPrefix::Parse(one).value());
    const Cluster v4(settings, net::Family::kIPv4);
    const Cluster v6(settings, net::Family::kIPv6);
    RandomModel random(20261129);
    ModelMaker maker;
    for (int step = 0; step < 120; ++step) {
      for (const EntryChange& change : random.Step(maker).changes) {
        if (change.after == nullptr) continue;
        const ServicePortEntry& entry = *change.after;
        const Cluster& cluster = entry.id.family == net::Family::kIPv4 ? v4 : v6;
        const IptablesRules iptables(entry, cluster);
        const NftablesElements nftables(entry, cluster);
        const IpvsSets ipvs(entry, cluster);
        for (const Packet& packet : PacketsTo(entry)) {
          const Outcome decided = Decided(entry, cluster, packet);
          ++seen[decided.verdict];
          masqueraded += decided.masquerade ? 1 : 0;
          for (auto [mode, outcome] : {std::pair{"iptables", iptables.Follow(packet)},
                                       {"nftables", nftables.Follow(packet)},
                                       {"ipvs", ipvs.Follow(packet)}}) {
            // What the node sends has the source that the kernel chose for it, or in ipvs mode
            // another (docs/ipvs.md).
            if (packet.from_node) outcome.masquerade = decided.masquerade;
            ASSERT_EQ(outcome.ToString(), decided.ToString())
                << mode << ", " << entry.id.ToString() << ", from " << packet.source.ToString()
                << (packet.from_node ? " (this node)" : "") << " to "
                << packet.destination.ToString() << ":" << packet.port << ", clusterCIDR \"" << cidr
                << "\", step " << step;
          }
        }
      }
    }
  }
  for (const Verdict verdict : {Verdict::kGoes, Verdict::kRejected, Verdict::kDropped})
    EXPECT_GT(seen[verdict], 500U) << static_cast<int>(verdict);
  EXPECT_GT(masqueraded, 500U);
}

}  // namespace
}  // namespace pointsman::agent::testing

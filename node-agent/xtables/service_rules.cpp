#include "node-agent/xtables/service_rules.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "kube/text/text.h"
#include "node-agent/model/service_hash.h"
#include "node-agent/xtables/chain_names.h"
#include "node-agent/xtables/source_match.h"

namespace pointsman::agent::xtables {
namespace {

using Text = std::back_insert_iterator<std::string>;

bool HasExternal(const ServicePortEntry& entry) {
  return entry.node_port != 0 || !entry.external_ips.empty() || !entry.load_balancer_ips.empty();
}

// Is there anything for traffic from outside to be sent to, from wherever it comes?
bool HasExternalChain(const ServicePortEntry& entry) {
  return HasExternal(entry) && entry.HasExternalBackends();
}

DispatchAction WhenEmpty(const BackendChoice& choice) {
  return choice.when_empty == BackendChoice::WhenEmpty::kDrop ? DispatchAction::kDrop
                                                              : DispatchAction::kReject;
}

// Of a name in a comment: 3 of them and what stands between fit in xt_comment's 255 bytes.
constexpr size_t kMostOfName = 63;

// One chain's text: everything goes in front of a name known to the caller.
class RuleWriter {
 public:
  RuleWriter(std::string& text, std::string_view chain, const ServicePortEntry& entry,
             const RuleSettings& settings)
      : text_(text),
        chain_(chain),
        entry_(entry),
        settings_(settings),
        affinity_(settings.keeps_affinity && entry.affinity_timeout.count() > 0) {
    text_.clear();
  }

  // "-A chain <match> [comment] -j <target>": the chain's first rule says whose it is. A comment
  // costs 288 bytes in the kernel, so the others do without.
  void Rule(std::string_view match, std::string_view target) {
    Begin(match);
    fmt::format_to(Text(text_), " -j {}\n", target);
  }

  void Mark(Masquerade masquerade) {
    if (!settings_.flavour.sends_on) return;
    if (masquerade == Masquerade::kAlways) {
      Rule("", "POINTSMAN-MARK-MASQ");
    } else if (masquerade == Masquerade::kOffCluster && settings_.off_cluster) {
      Rule(*settings_.off_cluster, "POINTSMAN-MARK-MASQ");
    }
  }

  void Backends(const BackendChoice& choice) {
    const size_t count = choice.backends.size();
    const std::string protocol = fmt::format("-p {}", ProtocolName(entry_.id.protocol));
    std::vector<std::string> lists;
    if (affinity_) {
      for (const Backend& backend : choice.backends) {
        lists.push_back(AffinityList(entry_.id, backend));
        // --update also renews the time, as kube-proxy's --set does.
        Begin(protocol);
        fmt::format_to(Text(text_), " -m recent --update --seconds {} --reap --name {}",
                       entry_.affinity_timeout.count(), lists.back());
        Mask();
        Dnat(backend);
      }
    }
    for (size_t i = 0; i < count; ++i) {
      Begin(protocol);
      if (i + 1 < count) {
        // In the kernel's own steps of 2^-31, so that what is read back is what was written.
        const double step = 1.0 / 0x80000000U;
        const double probability = 1.0 / static_cast<double>(count - i);
        fmt::format_to(Text(text_), " -m statistic --mode random --probability {:.11f}",
                       static_cast<double>(std::lround(probability / step)) * step);
      }
      if (affinity_) {
        fmt::format_to(Text(text_), " -m recent --set --name {}", lists[i]);
        Mask();
      }
      Dnat(choice.backends[i]);
    }
  }

 private:
  void Begin(std::string_view match) {
    fmt::format_to(Text(text_), "-A {}{}{}", chain_, match.empty() ? "" : " ", match);
    if (!commented_) {
      commented_ = true;
      text_ += " -m comment --comment \"pointsman ";
      Name(entry_.id.ns);
      text_ += '/';
      Name(entry_.id.name);
      text_ += ':';
      Name(entry_.id.port_name);
      text_ += '"';
    }
  }
  // Kubernetes allows in names nothing that would need escaping here. Should one come that has it,
  // its Service is served nevertheless, and no part of the name becomes a rule.
  void Name(std::string_view name) {
    const size_t begin = text_.size();
    text_ += text::Cut(name, kMostOfName);
    std::replace_if(
        text_.begin() + static_cast<ptrdiff_t>(begin), text_.end(),
        [](char c) {
          return !((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-');
        },
        '_');
  }
  void Mask() {
    fmt::format_to(Text(text_), " --mask {} --rsource",
                   entry_.id.family == net::Family::kIPv4
                       ? "255.255.255.255"
                       : "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
  }
  void Dnat(const Backend& backend) {
    const bool v4 = backend.ip.is_v4();
    fmt::format_to(Text(text_), " -j DNAT --to-destination {}{}{}:{}\n", v4 ? "" : "[",
                   backend.ip.ToString(), v4 ? "" : "]", backend.port);
  }

  std::string& text_;
  const std::string_view chain_;
  const ServicePortEntry& entry_;
  const RuleSettings& settings_;
  const bool affinity_;
  bool commented_ = false;
};

}  // namespace

std::string AffinityList(const ServicePortId& service, const Backend& backend) {
  return "PM-" + HashText(NameHash(fmt::format("{} {}:{}", ServiceHash(service),
                                               backend.ip.ToString(), backend.port)));
}

RuleSettings::RuleSettings(const kube::ProxySettings& settings, net::Family rule_family,
                           const RuleFlavour& rule_flavour)
    : flavour(rule_flavour), family(rule_family) {
  SourceMatch match(settings, family);
  from_cluster = std::move(match.from_cluster);
  off_cluster = std::move(match.off_cluster);
}

std::vector<Dispatch> DispatchesOf(const ServicePortEntry& entry) {
  std::vector<Dispatch> dispatches;
  const uint64_t service = ServiceHash(entry.id);
  const Protocol protocol = entry.id.protocol;
  auto address = [&](DispatchTable table, const net::IpAddress& ip, DispatchAction action) {
    dispatches.push_back(
        {table, DispatchTree::AddressKey(ip, protocol, entry.port, service), action});
  };
  auto port = [&](DispatchTable table, DispatchAction action) {
    dispatches.push_back(
        {table, DispatchTree::PortKey(protocol, entry.node_port, service), action});
  };

  if (entry.internal.backends.empty()) {
    address(DispatchTable::kFilterAddress, entry.cluster_ip, WhenEmpty(entry.internal));
  } else {
    address(DispatchTable::kNatAddress, entry.cluster_ip, DispatchAction::kService);
  }
  if (HasExternalChain(entry)) {
    for (const net::IpAddress& ip : entry.external_ips) {
      address(DispatchTable::kNatAddress, ip, DispatchAction::kExternal);
    }
    for (const net::IpAddress& ip : entry.load_balancer_ips) {
      address(DispatchTable::kNatAddress, ip,
              entry.HasSourceRanges() ? DispatchAction::kFirewall : DispatchAction::kExternal);
    }
    if (entry.node_port != 0) port(DispatchTable::kNatPort, DispatchAction::kExternal);
  }
  // What table nat has sent on has another destination by now and does not meet these.
  if (entry.external.backends.empty()) {
    for (const net::IpAddress& ip : entry.external_ips) {
      address(DispatchTable::kFilterAddress, ip, WhenEmpty(entry.external));
    }
    if (entry.node_port != 0) port(DispatchTable::kFilterPort, WhenEmpty(entry.external));
  }
  for (const net::IpAddress& ip : entry.load_balancer_ips) {
    // A source that is not allowed must not reach whatever else answers on that address.
    if (HasExternalChain(entry) && entry.HasSourceRanges()) {
      address(DispatchTable::kFilterAddress, ip, DispatchAction::kDrop);
    } else if (entry.external.backends.empty()) {
      address(DispatchTable::kFilterAddress, ip, WhenEmpty(entry.external));
    }
  }
  std::stable_sort(dispatches.begin(), dispatches.end(), [](const Dispatch& a, const Dispatch& b) {
    return std::tie(a.table, a.key) < std::tie(b.table, b.key);
  });
  // An external IP that is also a load balancer IP of the same Service: the first stands.
  dispatches.erase(std::unique(dispatches.begin(), dispatches.end(),
                               [](const Dispatch& a, const Dispatch& b) {
                                 return a.table == b.table && a.key == b.key;
                               }),
                   dispatches.end());
  return dispatches;
}

void ForEachServiceChain(const ServicePortEntry& entry, const RuleSettings& settings,
                         const std::function<void(std::string_view, std::string_view)>& each) {
  const uint64_t service = ServiceHash(entry.id);
  std::string text;
  if (!entry.internal.backends.empty()) {
    const std::string chain = ServiceChain(settings.flavour.prefix, 'S', service);
    RuleWriter rules(text, chain, entry, settings);
    rules.Mark(entry.internal_masquerade);
    rules.Backends(entry.internal);
    each(chain, text);
  }
  if (!HasExternalChain(entry)) return;

  const std::string external = ServiceChain(settings.flavour.prefix, 'E', service);
  if (!entry.external_local) {
    RuleWriter rules(text, external, entry, settings);
    rules.Mark(entry.ExternalMasquerade());
    if (entry.external.backends == entry.internal.backends) {
      rules.Rule("", ServiceChain(settings.flavour.prefix, 'S', service));
    } else {
      rules.Backends(entry.external);
    }
    each(external, text);
  } else {
    // This node and its pods are served as by the Cluster policy (kube-proxy: "short-circuit").
    std::string from_node;
    if (!entry.external_from_node.backends.empty()) {
      // Chain S masquerades with masqueradeAll, which is about cluster IPs (as kube-proxy's rule
      // there, which names the cluster IP).
      if (entry.external_from_node.backends == entry.internal.backends &&
          entry.internal_masquerade != Masquerade::kAlways) {
        from_node = ServiceChain(settings.flavour.prefix, 'S', service);
      } else {
        from_node = ServiceChain(settings.flavour.prefix, 'X', service);
        RuleWriter rules(text, from_node, entry, settings);
        rules.Backends(entry.external_from_node);
        each(from_node, text);
      }
    }
    RuleWriter rules(text, external, entry, settings);
    if (!from_node.empty()) {
      if (settings.from_cluster) rules.Rule(*settings.from_cluster, from_node);
      if (settings.flavour.sends_on) {
        rules.Rule("-m addrtype --src-type LOCAL", "POINTSMAN-MARK-MASQ");
      }
      rules.Rule("-m addrtype --src-type LOCAL", from_node);
    }
    rules.Backends(entry.external);
    each(external, text);
  }

  if (entry.load_balancer_ips.empty() || !entry.HasSourceRanges()) return;
  const std::string firewall = ServiceChain(settings.flavour.prefix, 'F', service);
  RuleWriter rules(text, firewall, entry, settings);
  // A match of everything is printed as no match.
  for (const net::IpPrefix& range : entry.source_ranges)
    rules.Rule(range.length() == 0 ? "" : "-s " + range.ToString(), external);
  if (entry.node_in_source_ranges) {
    for (const net::IpAddress& ip : entry.load_balancer_ips) {
      rules.Rule(fmt::format("-s {}/{}", ip.ToString(), ip.size() * 8), external);
    }
  }
  each(firewall, text);
}

}  // namespace pointsman::agent::xtables

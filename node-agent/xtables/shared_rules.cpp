#include "node-agent/xtables/shared_rules.h"

#include <iterator>

#include <fmt/format.h>

#include "node-agent/xtables/chain_names.h"

namespace pointsman::agent::xtables {
namespace {

using Text = std::back_insert_iterator<std::string>;

// A packet in state INVALID is compared with one rule after the other. With more than that many,
// ports are left out, which leaves about one rule a node.
constexpr size_t kMostReplySources = 1024;

}  // namespace

void SharedRules::Add(const ServicePortEntry& entry, int64_t by) {
  if (entry.health_check_node_port != 0) health_ports_.Add(entry.health_check_node_port, by);
  if (need_.invalid) {
    ForEachReplySource(entry, [&](const ReplySource& source) { reply_sources_.Add(source, by); });
  }
  if (need_.hairpin_addresses) {
    for (const BackendChoice* choice :
         {&entry.internal, &entry.external, &entry.external_from_node}) {
      for (const Backend& backend : choice->backends) {
        if (backend.MayBeHere()) hairpin_.Add(backend.ip, by);
      }
    }
  }
  if (need_.affinity_warnings && entry.affinity_timeout.count() > 0)
    affine_services_.Add({entry.id.ns, entry.id.name}, by);
}

SharedRules::Changed SharedRules::Apply(const SharedRules& delta) {
  affine_services_.Apply(delta.affine_services_);
  return {.invalid = !reply_sources_.Apply(delta.reply_sources_).empty(),
          .hairpin = !hairpin_.Apply(delta.hairpin_).empty(),
          .health = !health_ports_.Apply(delta.health_ports_).empty()};
}

void SharedRules::RenderInvalid(std::string_view chain, std::string& text) const {
  const bool ports = reply_sources_.size() <= kMostReplySources;
  const net::IpPrefix* last = nullptr;
  for (const auto& [source, uses] : reply_sources_) {
    if (ports) {
      const std::string_view protocol = ProtocolName(source.protocol);
      fmt::format_to(Text(text), "-A {} -s {} -p {} -m {} --sport {} -j DROP\n", chain,
                     source.block.ToString(), protocol, protocol, source.port);
    } else if (last == nullptr || *last != source.block) {
      fmt::format_to(Text(text), "-A {} -s {} -j DROP\n", chain, source.block.ToString());
    }
    last = &source.block;
  }
}

void SharedRules::RenderHairpin(std::string_view chain, std::string_view masquerade,
                                std::string& text) const {
  fmt::format_to(Text(text),
                 "-A {} -o lo -j RETURN\n-A {} -m conntrack ! --ctstate DNAT -j RETURN\n", chain,
                 chain);
  for (const auto& [ip, uses] : hairpin_) {
    fmt::format_to(Text(text), "-A {0} -s {1}/{2} -d {1}/{2} -j {3}\n", chain, ip.ToString(),
                   ip.size() * 8, masquerade);
  }
}

void SharedRules::RenderHealth(std::string_view chain, std::string& text) const {
  for (const auto& [port, uses] : health_ports_)
    fmt::format_to(Text(text), "-A {} -p tcp -m tcp --dport {} -j ACCEPT\n", chain, port);
}

std::vector<ServiceWarning> SharedRules::AffinityWarnings() const {
  std::vector<ServiceWarning> warnings;
  for (const auto& [service, uses] : affine_services_) {
    warnings.push_back({service.first, service.second,
                        "sessionAffinity: ClientIP is not kept on this node: its kernel has no "
                        "xt_recent (CONFIG_NETFILTER_XT_MATCH_RECENT), which mode iptables needs "
                        "for it; connections are spread as without sessionAffinity"});
  }
  return warnings;
}

}  // namespace pointsman::agent::xtables

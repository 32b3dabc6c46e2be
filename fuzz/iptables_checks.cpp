#include <fmt/format.h>
#include <fmt/ranges.h>

#include "fuzz/checks.h"
#include "fuzz/pieces.h"
#include "node-agent/iptables/recent_line.h"
#include "node-agent/xtables/kernel_rules.h"
#include "node-agent/xtables/save_reader.h"
#include "node-agent/xtables/saved_rule.h"

namespace pointsman::fuzz {
namespace {

constexpr std::string_view kPrefix = "PM-";

// Throws when what is found is not what it is said to be.
std::string Describe(const agent::xtables::KernelRules& found) {
  std::map<std::string, uint32_t> chains;
  for (const auto& [name, hash] : found.chains) {
    if (!name.starts_with(kPrefix)) throw std::logic_error("'" + name + "' is not ours");
    chains[name] = hash.rules();
  }
  std::string text = fmt::format("{} {}\n", found.has_base, found.owns_route_localnet);
  for (const auto& [name, rules] : chains)
    text += fmt::format("{} {}\n", name, rules);
  for (const auto& [name, rules] : found.builtin.OurJumps()) {
    for (const std::string& rule : rules) {
      if (!agent::xtables::TakeApart(rule).target.starts_with(kPrefix))
        throw std::logic_error("'" + rule + "' is not ours");
    }
    text += fmt::format("{}: {}\n", name, fmt::join(rules, "\n"));
  }
  using Place = agent::xtables::JumpPlace;
  for (const char* name : {"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}) {
    for (const Place place : {Place::kBeforeProxies, Place::kStays, Place::kBehindPolicies})
      found.builtin.Place(name, {{.rule = "-j PM-A", .place = place}}).Render(name, text);
  }
  return text;
}

}  // namespace

void CheckIptablesSave(std::string_view input) {
  CheckPieces(input, [](const auto& for_each_piece) {
    agent::xtables::KernelRulesReader rules(kPrefix);
    const std::function<void(std::string_view)> on_line = [&](std::string_view line) {
      rules.AddLine(line);
    };
    agent::xtables::SaveReader reader("/sbin/iptables-nft-save -t nat", on_line);
    std::string error;
    try {
      for_each_piece([&](std::string_view piece) { reader.Add(piece); });
    } catch (const std::runtime_error& refused) {
      error = refused.what();
    }
    return Describe(rules.Take()) + error;
  });
}

void CheckRecentList(std::string_view input) {
  while (!input.empty()) {
    const std::string_view line = input.substr(0, input.find('\n'));
    input.remove_prefix(std::min(line.size() + 1, input.size()));
    const auto client = agent::ParseRecentLine(line);
    if (!client) continue;
    // As the kernel writes it.
    const std::string written =
        fmt::format("src={} ttl: 0 last_seen: {} oldest_pkt: 1 {}", client->ip.ToString(),
                    client->last_seen, client->last_seen);
    if (agent::ParseRecentLine(written) != client)
      throw std::logic_error(fmt::format("'{}' is not read as '{}'", line, written));
  }
}

}  // namespace pointsman::fuzz

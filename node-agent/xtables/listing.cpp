#include "node-agent/xtables/listing.h"

#include <algorithm>

#include "node-agent/xtables/rule_words.h"
#include "node-agent/xtables/save_reader.h"

namespace pointsman::agent::xtables {
namespace {

constexpr std::string_view kCommentPrefix = "pointsman ";
constexpr size_t kHashSize = 12;

std::string UpperCase(std::string_view text) {
  std::string upper(text);
  std::transform(upper.begin(), upper.end(), upper.begin(), [](char c) {
    return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  });
  return upper;
}

std::string_view NextWord(std::string_view& rule) {
  return NextRuleWord(rule).text;
}

std::optional<ListedBackend> ParseBackend(std::string_view text) {
  const auto destination = ParseDestination(text);
  if (!destination) return std::nullopt;
  ListedBackend backend;
  backend.ip = destination->ip;
  backend.port = destination->port;
  return backend;
}

}  // namespace

struct ListingReader::Rule {
  explicit Rule(std::string_view text) {
    while (!text.empty()) {
      const std::string_view word = NextWord(text);
      if (word == "-d") {
        destination = NextWord(text);
      } else if (word == "-p") {
        protocol = NextWord(text);
      } else if (word == "--dport") {
        port = ParseRulePort(NextWord(text));  // not of a range
      } else if (word == "-j") {
        target = NextWord(text);
      } else if (word == "--comment") {
        comment = NextWord(text);
      } else if (word == "--to-destination") {
        to = NextWord(text);
      }
    }
  }
  std::string_view destination, protocol, target, comment, to;
  std::optional<uint16_t> port;
};

bool ListingReader::IsServiceChain(std::string_view chain) const {
  return chain.size() == prefix_.size() + 1 + kHashSize && chain.starts_with(prefix_) &&
         std::string_view("SEFX").find(chain[prefix_.size()]) != std::string_view::npos;
}

// Of the dispatch tree (dispatch_tree.h): other rules with a port are not about Services.
bool ListingReader::IsDispatchChain(std::string_view chain) const {
  const std::string_view name = chain.substr(prefix_.size());
  return name.starts_with("V") || name.starts_with("P-");
}

void ListingReader::AddLine(std::string_view line) {
  const SavedLine saved = ParseSavedLine(line);
  if (saved.kind != SavedLine::Kind::kRule || !saved.name.starts_with(prefix_)) return;
  const Rule rule(saved.rule);
  if (IsServiceChain(saved.name)) {
    AddToChain(saved.name, rule);
  } else if (rule.port && !rule.protocol.empty() && IsDispatchChain(saved.name)) {
    AddWay(rule);
  }
}

void ListingReader::AddToChain(std::string_view name, const Rule& rule) {
  Chain& chain = chains_[std::string(name)];
  if (rule.comment.starts_with(kCommentPrefix))
    chain.service = rule.comment.substr(kCommentPrefix.size());
  if (IsServiceChain(rule.target)) chain.next.emplace_back(rule.target);
  if (rule.target != "DNAT") return;
  // With affinity a backend has two rules.
  const auto backend = ParseBackend(rule.to);
  if (backend &&
      std::find(chain.backends.begin(), chain.backends.end(), *backend) == chain.backends.end())
    chain.backends.push_back(*backend);
}

void ListingReader::AddWay(const Rule& rule) {
  Way way;
  way.listed.protocol = UpperCase(rule.protocol);
  way.listed.family = family_;
  way.listed.port = *rule.port;
  if (!rule.destination.empty()) {
    way.listed.address =
        net::IpAddress::Parse(std::string(rule.destination.substr(0, rule.destination.find('/'))));
    if (!way.listed.address) return;
  }
  if (IsServiceChain(rule.target)) {
    way.chain = rule.target;
  } else if (rule.target == "REJECT" || rule.target == "DROP") {
    way.listed.refused = rule.target == "DROP" ? "dropped" : "rejected";
  } else {
    return;
  }
  ways_.push_back(std::move(way));
}

void ListingReader::Collect(const std::string& name, std::set<std::string>& seen,
                            ListedService& into) const {
  const auto chain = chains_.find(name);
  if (chain == chains_.end() || !seen.insert(name).second) return;
  if (into.service.empty()) into.service = chain->second.service;
  for (const ListedBackend& backend : chain->second.backends) {
    if (std::find(into.backends.begin(), into.backends.end(), backend) == into.backends.end())
      into.backends.push_back(backend);
  }
  for (const std::string& next : chain->second.next)
    Collect(next, seen, into);
}

std::vector<ListedService> ListingReader::Take() {
  std::vector<ListedService> services;
  for (const Way& way : ways_) {
    ListedService listed = way.listed;
    std::set<std::string> seen;
    if (!way.chain.empty()) Collect(way.chain, seen, listed);
    services.push_back(std::move(listed));
  }
  // What is sent on in table nat does not meet the refusal of other sources in table filter.
  std::stable_sort(services.begin(), services.end(), [](const auto& a, const auto& b) {
    const auto key = [](const ListedService& s) {
      return std::make_tuple(!s.address, s.address.value_or(net::IpAddress()), s.port, s.protocol,
                             !s.refused.empty());
    };
    return key(a) < key(b);
  });
  services.erase(std::unique(services.begin(), services.end(),
                             [](const auto& a, const auto& b) {
                               return a.address == b.address && a.port == b.port &&
                                      a.protocol == b.protocol;
                             }),
                 services.end());
  return services;
}

std::vector<ListedService> ListServices(IptablesTool& tool, std::string_view prefix) {
  ListingReader reader(prefix, tool.family());
  // All tables that there are: to ask for one by name makes it.
  tool.SaveLines("", [&](std::string_view line) { reader.AddLine(line); });
  return reader.Take();
}

}  // namespace pointsman::agent::xtables

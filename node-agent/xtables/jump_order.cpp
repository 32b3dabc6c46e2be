#include "node-agent/xtables/jump_order.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <optional>

#include <fmt/format.h>

#include "node-agent/xtables/chain_names.h"
#include "node-agent/xtables/saved_rule.h"

namespace pointsman::agent::xtables {
namespace {

// kube-proxy 1.36 (pkg/proxy/iptables/proxier.go, pkg/proxy/ipvs/proxier.go), and its userspace
// mode of up to 1.25. Not KUBE-FIREWALL, which is the kubelet's, KUBE-ROUTER-… and KUBE-NWPLCY-…,
// which are kube-router's, or KUBE-HOSTPORTS, which is CRI-O's.
constexpr std::array<std::string_view, 17> kKubeProxyChains{"KUBE-SERVICES",
                                                            "KUBE-EXTERNAL-SERVICES",
                                                            "KUBE-NODEPORTS",
                                                            "KUBE-POSTROUTING",
                                                            "KUBE-FORWARD",
                                                            "KUBE-PROXY-FIREWALL",
                                                            "KUBE-NODE-PORT",
                                                            "KUBE-LOAD-BALANCER",
                                                            "KUBE-IPVS-FILTER",
                                                            "KUBE-IPVS-OUT-FILTER",
                                                            "KUBE-SOURCE-RANGES-FIREWALL",
                                                            "KUBE-PORTALS-CONTAINER",
                                                            "KUBE-PORTALS-HOST",
                                                            "KUBE-NODEPORT-CONTAINER",
                                                            "KUBE-NODEPORT-HOST",
                                                            "KUBE-NODEPORT-NON-LOCAL",
                                                            "KUBE-PROXY-CANARY"};
constexpr std::array<std::string_view, 5> kBuiltinChains{"PREROUTING", "INPUT", "FORWARD", "OUTPUT",
                                                         "POSTROUTING"};

bool IsBuiltin(std::string_view chain) {
  return std::find(kBuiltinChains.begin(), kBuiltinChains.end(), chain) != kBuiltinChains.end();
}

bool Refuses(std::string_view target) {
  return target == "DROP" || target == "REJECT";
}

// docs/kernel-names.md
bool OnlyAccepts(std::string_view chain_of_ours) {
  return chain_of_ours.ends_with("-FORWARD") || chain_of_ours.ends_with("-HEALTH") ||
         chain_of_ours.ends_with("-ACCEPT");
}

bool MatchesLocal(std::string_view match) {
  constexpr std::string_view kLocal = "--dst-type LOCAL";
  const size_t at = match.find(kLocal);
  return at != std::string_view::npos && !match.substr(0, at).ends_with("! ");
}

}  // namespace

bool IsKubeProxyChain(std::string_view chain) {
  return std::find(kKubeProxyChains.begin(), kKubeProxyChains.end(), chain) !=
         kKubeProxyChains.end();
}

void KnownKeepers::Add(std::string_view builtin, const std::string& chain) {
  keepers_.emplace(builtin, chain);
  if (chain.size() > builtin.size() && chain.ends_with(builtin))
    stems_.insert(chain.substr(0, chain.size() - builtin.size()));
}

bool KnownKeepers::Has(std::string_view builtin, std::string_view chain) const {
  if (keepers_.contains({std::string(builtin), std::string(chain)})) return true;
  return chain.ends_with(builtin) &&
         stems_.contains(std::string(chain.substr(0, chain.size() - builtin.size())));
}

void LastKeepers::Learn(std::string_view builtin, const std::vector<std::string>& in_front,
                        const std::vector<std::string>& behind) {
  std::set<std::string>& before = in_front_[std::string(builtin)];
  for (const std::string& chain : behind) {
    if (before.contains(chain)) known_->Add(builtin, chain);
  }
  before = {in_front.begin(), in_front.end()};
}

void JumpChanges::Render(std::string_view builtin, std::string& text) const {
  for (const std::string& rule : removed)
    fmt::format_to(std::back_inserter(text), "-D {} {}\n", builtin, rule);
  for (const auto& [position, rule] : inserted)
    fmt::format_to(std::back_inserter(text), "-I {} {} {}\n", builtin, position, rule);
}

void BuiltinChains::Add(const SavedLine& line) {
  switch (line.kind) {
    case SavedLine::Kind::kTable:
      is_filter_ = line.name == "filter";
      break;
    case SavedLine::Kind::kChain:
      if (IsBuiltin(line.name))
        builtins_[std::string(line.name)].policy_drops = line.rule.starts_with("DROP");
      else if (!line.name.starts_with(kOurs))
        chains_.emplace(line.name);
      break;
    case SavedLine::Kind::kRule:
      if (IsBuiltin(line.name)) {
        Builtin& builtin = builtins_[std::string(line.name)];
        builtin.rules.push_back(Classify(line.rule, builtin));
      } else if (is_filter_ && !line.name.starts_with(kOurs)) {
        AddStep(line);
      }
      break;
    case SavedLine::Kind::kOther:
      break;
  }
}

BuiltinChains::Rule BuiltinChains::Classify(std::string_view text, Builtin& builtin) const {
  const SavedRule parts = TakeApart(text);
  Rule rule{.every = parts.every(), .goes = parts.goes, .to_local = MatchesLocal(parts.match)};
  if (parts.target.starts_with(prefix_)) {
    rule.kind = Rule::Kind::kOurs;
    rule.text = text;
  } else if (parts.target.starts_with(kOurs)) {
    rule.kind = Rule::Kind::kOtherMode;
    rule.accepts = OnlyAccepts(parts.target);
  } else if (IsKubeProxyChain(parts.target)) {
    rule.kind = Rule::Kind::kProxy;
  } else if (chains_.contains(std::string(parts.target))) {
    rule.kind = Rule::Kind::kChain;
    rule.text = parts.target;
    if (!rule.every) builtin.matches.insert(parts.match);
  } else if (Refuses(parts.target)) {
    rule.kind = Rule::Kind::kRefuse;
    rule.policy_end = builtin.matches.contains(parts.match);
  } else if (parts.target == "RETURN") {
    rule.kind = Rule::Kind::kReturn;
  }
  return rule;
}

void BuiltinChains::AddStep(const SavedLine& line) {
  const auto ends = [](const Step& step) {
    return step.kind == Step::Kind::kReturn ||
           (step.every && (step.kind != Step::Kind::kChain || step.goes));
  };
  std::vector<Step>& steps = steps_[std::string(line.name)];
  if (!steps.empty() && ends(steps.back())) return;
  const SavedRule parts = TakeApart(line.rule);
  const bool every = parts.every();
  if (parts.target == "RETURN") {
    steps.push_back({Step::Kind::kReturn, every, false, {}});
  } else if (every && parts.target == "ACCEPT") {
    steps.push_back({Step::Kind::kAccept, every, false, {}});
  } else if (every && Refuses(parts.target)) {
    steps.push_back({Step::Kind::kRefuse, every, false, {}});
  } else if ((every || parts.goes) && chains_.contains(std::string(parts.target))) {
    steps.push_back({Step::Kind::kChain, every, parts.goes, std::string(parts.target)});
  }
}

BuiltinChains::Outcome BuiltinChains::OutcomeOf(const std::string& chain, Outcomes& known,
                                                size_t depth) const {
  // nf_tables allows 16 (NFT_JUMP_STACK_SIZE).
  constexpr size_t kDeepest = 64;
  if (depth > kDeepest) return Outcome::kReturned;
  // The kernel has no loops, but a text may have one: what is being looked at returns.
  const auto [place, is_new] = known.try_emplace(chain, Outcome::kReturned);
  const auto steps = steps_.find(chain);
  if (!is_new || steps == steps_.end()) return place->second;
  for (const Step& step : steps->second) {
    switch (step.kind) {
      case Step::Kind::kReturn:
        return Outcome::kReturned;
      case Step::Kind::kAccept:
        return place->second = Outcome::kAccepted;
      case Step::Kind::kRefuse:
        return place->second = Outcome::kRefused;
      case Step::Kind::kChain: {
        const Outcome outcome = OutcomeOf(step.chain, known, depth + 1);
        if (outcome == Outcome::kReturned && step.goes) return outcome;
        if (outcome != Outcome::kReturned && step.every) return place->second = outcome;
      }
    }
  }
  return Outcome::kReturned;
}

bool BuiltinChains::RefusesEverything(const Rule& rule, bool policy_drops, Outcomes& known) const {
  if (!rule.every) return false;
  switch (rule.kind) {
    case Rule::Kind::kRefuse:
      return true;
    case Rule::Kind::kReturn:
      return policy_drops;
    case Rule::Kind::kChain: {
      const Outcome outcome = OutcomeOf(rule.text, known);
      return outcome == Outcome::kRefused ||
             (outcome == Outcome::kReturned && rule.goes && policy_drops);
    }
    default:
      return false;
  }
}

BuiltinChains::Window BuiltinChains::WindowOf(const Jump& jump, const Builtin& builtin,
                                              const Others& others) const {
  using Kind = Rule::Kind;
  Window window{.least = 0, .most = others.size(), .best = 0};
  switch (jump.place) {
    case JumpPlace::kStays:
      break;
    case JumpPlace::kBeforeProxies: {
      const auto first = std::find_if(others.begin(), others.end(), [](const Rule* rule) {
        return rule->kind == Kind::kProxy || (rule->to_local && rule->kind != Kind::kOtherMode);
      });
      window.most = static_cast<size_t>(first - others.begin());
      const auto leads = [&](const Rule* rule) {
        return (rule->kind == Kind::kChain && rule->every) ||
               (rule->kind == Kind::kOtherMode && jump.yields);
      };
      window.best =
          static_cast<size_t>(std::find_if_not(others.begin(), first, leads) - others.begin());
      break;
    }
    case JumpPlace::kBehindPolicies: {
      Outcomes known;
      for (size_t i = 0; i < others.size(); ++i) {
        if (RefusesEverything(*others[i], builtin.policy_drops, known)) {
          window.most = i;
          break;
        }
        if (others[i]->kind == Kind::kChain || others[i]->policy_end) window.least = i + 1;
      }
      window.best = jump.late ? window.most : window.least;
      for (size_t i = window.least; i < window.most; ++i) {
        if (others[i]->accepts) window.best = i + 1;
      }
      break;
    }
  }
  return window;
}

std::map<std::string, std::vector<std::string>, std::less<>> BuiltinChains::OurJumps() const {
  std::map<std::string, std::vector<std::string>, std::less<>> jumps;
  for (const auto& [name, builtin] : builtins_) {
    for (const Rule& rule : builtin.rules) {
      if (rule.kind == Rule::Kind::kOurs) jumps[name].push_back(rule.text);
    }
  }
  return jumps;
}

void BuiltinChains::Teach(std::string_view name, const std::vector<Jump>& wanted,
                          LastKeepers& keepers) const {
  const auto builtin = builtins_.find(name);
  const auto accepting = std::find_if(wanted.begin(), wanted.end(), [](const Jump& jump) {
    return jump.place == JumpPlace::kBehindPolicies;
  });
  if (builtin == builtins_.end() || accepting == wanted.end()) return;
  Others others;
  bool passed = false;
  std::vector<std::string> in_front;
  std::vector<std::string> behind;
  for (const Rule& rule : builtin->second.rules) {
    passed = passed || (rule.kind == Rule::Kind::kOurs && rule.text == accepting->rule);
    if (rule.kind == Rule::Kind::kOurs) continue;
    others.push_back(&rule);
    if (passed && rule.kind == Rule::Kind::kChain) behind.push_back(rule.text);
  }
  // When Place() is done.
  others.resize(WindowOf(*accepting, builtin->second, others).least);
  for (const Rule* rule : others) {
    if (rule->kind == Rule::Kind::kChain) in_front.push_back(rule->text);
  }
  keepers.Learn(name, in_front, behind);
}

bool BuiltinChains::IsOfNoUse(std::string_view name, const Window& window, const Others& others,
                              const LastKeepers& keepers) const {
  using Kind = Rule::Kind;
  const auto kept_last = [&](const Rule* rule) {
    return rule->kind == Kind::kChain && keepers.Has(name, rule->text);
  };
  const auto refuses = [](const Rule* rule) {
    return rule->kind == Kind::kRefuse || rule->kind == Kind::kChain;
  };
  return std::any_of(others.begin(), others.end(), kept_last) &&
         std::none_of(others.begin() + static_cast<ptrdiff_t>(window.best), others.end(), refuses);
}

bool BuiltinChains::IsRight(const std::vector<Window>& windows, const Order& order) {
  std::vector<size_t> jumps;
  size_t before = 0;
  for (const size_t jump : order) {
    if (jump == kOther) {
      ++before;
      continue;
    }
    if (before < windows[jump].least || before > windows[jump].most) return false;
    jumps.push_back(jump);
  }
  return std::is_sorted(jumps.begin(), jumps.end());
}

void BuiltinChains::InsertMissing(const std::vector<Window>& windows, Order& order) {
  for (size_t jump = 0; jump < windows.size(); ++jump) {
    if (std::find(order.begin(), order.end(), jump) != order.end()) continue;
    auto at = order.begin();
    for (size_t before = 0; before < windows[jump].best; ++at)
      before += *at == kOther ? 1 : 0;
    // Behind those that come earlier.
    for (auto other = at; other != order.end(); ++other) {
      if (*other != kOther && *other < jump) at = other + 1;
    }
    order.insert(at, jump);
  }
}

bool BuiltinChains::HasJumpOfOtherMode(std::string_view builtin) const {
  const auto found = builtins_.find(builtin);
  return found != builtins_.end() &&
         std::any_of(found->second.rules.begin(), found->second.rules.end(),
                     [](const Rule& rule) { return rule.kind == Rule::Kind::kOtherMode; });
}

JumpChanges BuiltinChains::Place(std::string_view name, std::vector<Jump> wanted,
                                 const LastKeepers& keepers) const {
  // What accepts comes behind what refuses: the latter would not be reached.
  std::stable_partition(wanted.begin(), wanted.end(),
                        [](const Jump& jump) { return jump.place != JumpPlace::kBehindPolicies; });
  const auto found = builtins_.find(name);
  const Builtin none;
  const Builtin& builtin = found != builtins_.end() ? found->second : none;
  Others others;
  for (const Rule& rule : builtin.rules) {
    if (rule.kind != Rule::Kind::kOurs) others.push_back(&rule);
  }
  std::erase_if(wanted, [&](const Jump& jump) {
    return jump.place == JumpPlace::kBehindPolicies && !builtin.policy_drops &&
           IsOfNoUse(name, WindowOf(jump, builtin, others), others, keepers);
  });
  const auto place_of = [&](const std::string& rule) -> size_t {
    const auto jump = std::find_if(wanted.begin(), wanted.end(),
                                   [&](const Jump& candidate) { return candidate.rule == rule; });
    return jump != wanted.end() ? static_cast<size_t>(jump - wanted.begin()) : kOther;
  };
  std::vector<std::string> ours;
  std::vector<size_t> copies(wanted.size());
  for (const Rule& rule : builtin.rules) {
    if (rule.kind != Rule::Kind::kOurs) continue;
    ours.push_back(rule.text);
    if (const size_t index = place_of(rule.text); index != kOther) ++copies[index];
  }
  std::vector<Window> windows;
  windows.reserve(wanted.size());
  for (const Jump& jump : wanted)
    windows.push_back(WindowOf(jump, builtin, others));
  // First with as few moves as possible: what has its place keeps it.
  Order order;
  std::vector<bool> kept(wanted.size());
  size_t before = 0;
  for (const Rule& rule : builtin.rules) {
    if (rule.kind != Rule::Kind::kOurs) {
      order.push_back(kOther);
      ++before;
      continue;
    }
    const size_t index = place_of(rule.text);
    // Of two alike "-D" would remove the first, which may be the right one.
    if (index == kOther || copies[index] > 1) continue;
    kept[index] = before >= windows[index].least && before <= windows[index].most;
    if (kept[index]) order.push_back(index);
  }
  InsertMissing(windows, order);
  if (!IsRight(windows, order)) {
    std::fill(kept.begin(), kept.end(), false);
    order.assign(others.size(), kOther);
    InsertMissing(windows, order);
  }

  JumpChanges changes{.had_none = ours.empty()};
  for (std::string& rule : ours) {
    const size_t index = place_of(rule);
    if (index == kOther || !kept[index]) changes.removed.push_back(std::move(rule));
  }
  for (size_t i = 0; i < order.size(); ++i) {
    if (order[i] != kOther && !kept[order[i]])
      changes.inserted.emplace_back(i + 1, wanted[order[i]].rule);
  }
  return changes;
}

}  // namespace pointsman::agent::xtables

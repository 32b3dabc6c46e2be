#include "node-agent/neighbours/survey.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>
#include <spdlog/fmt/fmt.h>

#include "kube/text/text.h"
#include "node-agent/dataplane/mode_traits.h"

namespace pointsman::agent {
namespace {

constexpr Verdict kFineVerdict;
constexpr int kDefaultMasqueradeBit = 14;

bool CountsHere(const Neighbour& neighbour, kube::Mode mode, const kube::ProxySettings& settings) {
  switch (neighbour.counts_with) {
    case CountsWith::kAll:
      return true;
    case CountsWith::kStrictArp:
      return settings.ipvs.strict_arp;
    case CountsWith::kOtherMasqueradeMark:
      return (mode == kube::Mode::kNftables ? settings.nftables : settings.iptables)
                 .masquerade_bit != kDefaultMasqueradeBit;
  }
  return true;
}

// A name from the kernel may hold any bytes.
std::string Shown(std::string_view name) {
  return text::Shorten(text::Escape(name), 64);
}

// What a pattern of many stands for says the pattern: single ones come and go.
std::string NameOf(const Finding& finding, const char* one, const char* many) {
  const std::string_view pattern = finding.pattern.name;
  if (pattern.size() > 1 && pattern.ends_with('*'))
    return fmt::format("{} {}…", many, pattern.substr(0, pattern.size() - 1));
  return fmt::format("{} {}", one, Shown(finding.sign.name));
}

std::optional<Finding> FindIn(const Signs& signs, const Neighbour& neighbour) {
  for (const SignPattern& pattern : neighbour.signs) {
    for (const Sign& sign : signs.found) {
      if (Matches(pattern, sign)) return Finding{&neighbour, sign, pattern};
    }
  }
  return std::nullopt;
}

std::string Sentence(const Finding& finding, kube::Mode mode, const Verdict& verdict) {
  return fmt::format("{} ({}, found by {}) and mode {}: {}; to mend it: {}",
                     finding.neighbour->name, finding.neighbour->title, Describe(finding),
                     kube::ToString(mode), verdict.reason, verdict.remedy);
}

std::string_view LevelWord(Level level, bool accepted) {
  switch (level) {
    case Level::kFine:
      return "Fine";
    case Level::kWarning:
      return "Warning";
    case Level::kRefused:
      return accepted ? "Accepted" : "Refused";
  }
  return "";
}

kube::NeighbourStatus StatusOf(const Finding& finding, const kube::ProxySettings& settings) {
  kube::NeighbourStatus status;
  status.name = finding.neighbour->name;
  status.kind = ToString(finding.neighbour->kind);
  status.message = fmt::format("{}, found by {}", finding.neighbour->title, Describe(finding));
  std::string_view told;
  for (const ModeTraits& traits : AllModes()) {
    const Verdict& verdict = VerdictOf(finding, traits.mode, settings);
    status.modes[std::string(kube::ToString(traits.mode))] =
        LevelWord(verdict.level, IsAccepted(finding, settings));
    // Verdicts on several modes are often the same one.
    if (verdict.level == Level::kFine || verdict.reason == told) continue;
    told = verdict.reason;
    status.message += fmt::format(". {}: {}", kube::ToString(traits.mode), verdict.reason);
  }
  return status;
}

}  // namespace

std::vector<Finding> Survey(const Signs& signs, std::span<const Neighbour> neighbours) {
  std::vector<Finding> findings;
  for (const Neighbour& neighbour : neighbours) {
    if (auto finding = FindIn(signs, neighbour)) findings.push_back(*std::move(finding));
  }
  return findings;
}

const Verdict& VerdictOf(const Finding& finding, kube::Mode mode,
                         const kube::ProxySettings& settings) {
  const Neighbour& neighbour = *finding.neighbour;
  return CountsHere(neighbour, mode, settings) ? neighbour.Of(mode) : kFineVerdict;
}

bool IsAccepted(const Finding& finding, const kube::ProxySettings& settings) {
  const auto& accept = settings.neighbours.accept;
  return std::find(accept.begin(), accept.end(), finding.neighbour->name) != accept.end();
}

std::string Describe(const Finding& finding) {
  const Sign& sign = finding.sign;
  switch (sign.kind) {
    case SignKind::kLink:
      return NameOf(finding, "interface", "interfaces");
    case SignKind::kLinkKind:
      return fmt::format("an interface of kind {}", Shown(sign.name));
    case SignKind::kLinkAddress:
      return fmt::format("{} with address {}", NameOf(finding, "interface", "interfaces"),
                         Shown(sign.where));
    case SignKind::kChain:
      return fmt::format("{} in table {}", NameOf(finding, "chain", "chains"), Shown(sign.where));
    case SignKind::kNftTable:
      return fmt::format("table {} {} of nf_tables", Shown(sign.where), Shown(sign.name));
    case SignKind::kIpset:
      return NameOf(finding, "ipset", "ipsets");
    case SignKind::kForwardPolicyDrop:
      return fmt::format("policy drop of chain {} in table {}", Shown(sign.name),
                         Shown(sign.where));
    case SignKind::kRuleIif:
      return fmt::format("routing rule iif {} ({})", Shown(sign.name), Shown(sign.where));
    case SignKind::kUnfilteredBridge:
      return fmt::format("bridge {}, where {}", Shown(sign.name), Shown(sign.where));
    case SignKind::kIpvsByMark:
      return fmt::format("virtual server of packet mark 0x{}", Shown(sign.name));
  }
  return "";
}

NeighbourReport ReportOn(kube::Mode mode, const kube::ProxySettings& settings,
                         const std::vector<Finding>& findings) {
  NeighbourReport report;
  for (const Finding& finding : findings) {
    const Verdict& verdict = VerdictOf(finding, mode, settings);
    if (verdict.level == Level::kFine) continue;
    std::string sentence = Sentence(finding, mode, verdict);
    if (verdict.level == Level::kWarning) {
      report.warnings.push_back(std::move(sentence));
    } else if (IsAccepted(finding, settings)) {
      report.warnings.push_back(sentence + " (accepted)");
    } else {
      report.refusals.push_back(fmt::format("{}; to run it nevertheless: {} in neighbours.accept",
                                            sentence, finding.neighbour->name));
    }
  }
  return report;
}

NeighbourView ViewOf(const std::vector<Finding>& findings, const kube::ProxySettings& settings,
                     std::optional<kube::Mode> active) {
  NeighbourView view{.known = true};
  for (const Finding& finding : findings)
    view.neighbours.push_back(StatusOf(finding, settings));
  if (active) view.refusals = ReportOn(*active, settings, findings).refusals;
  return view;
}

}  // namespace pointsman::agent

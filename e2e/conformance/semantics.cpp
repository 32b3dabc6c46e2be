#include "e2e/conformance/semantics.h"

#include <algorithm>
#include <fstream>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "kube/config/yaml_json.h"
#include "node-agent/neighbours/neighbour_table.h"
#include "node-agent/testing/neighbours/catalogue.h"

namespace pointsman::e2e {
namespace {

constexpr kube::Mode kModes[] = {kube::Mode::kIptables, kube::Mode::kIpvs, kube::Mode::kNftables,
                                 kube::Mode::kUserspace};

constexpr net::Family kFamilies[] = {net::Family::kIPv4, net::Family::kIPv6};

bool Proves(const Case& one, const Semantic& semantic) {
  return std::find(one.semantics.begin(), one.semantics.end(), semantic.id) != one.semantics.end();
}

// Those of the case's neighbours beside which the agent's own table refuses the mode.
std::vector<std::string> RefusedBeside(const Case& one, kube::Mode mode) {
  std::vector<std::string> refused;
  for (const std::string& name : one.neighbours) {
    const std::string_view row = agent::testing::FindNeighbour(name)->row;
    for (const agent::Neighbour& neighbour : agent::Neighbours()) {
      if (neighbour.name == row && neighbour.Of(mode).level == agent::Level::kRefused)
        refused.push_back(name);
    }
  }
  return refused;
}

// What the cases of one semantic say of one mode.
std::string Cell(const Semantic& semantic, const std::vector<Case>& cases, kube::Mode mode) {
  std::set<net::Family> passes;
  std::set<net::Family> fails;
  bool left_out = false;
  for (const Case& one : cases) {
    if (!Proves(one, semantic)) continue;
    left_out = left_out || one.not_in.contains(mode);
    // It runs beside none of them there.
    if (!one.neighbours.empty() && RefusedBeside(one, mode).size() == one.neighbours.size()) {
      left_out = true;
      continue;
    }
    for (const net::Family family : kFamilies) {
      if (!one.AppliesTo(mode, family)) continue;
      (one.KnownFailure(mode, family).empty() ? passes : fails).insert(family);
    }
  }
  if (passes.empty() && fails.empty()) return left_out ? "–" : "";
  std::string text = fails.empty() ? "✔" : passes.empty() ? "✗" : "✔ ✗";
  if (left_out) text += " –";
  passes.merge(fails);
  if (passes.size() == 1) text += " " + std::string(FamilyName(*passes.begin()));
  return text;
}

// "`name`", and the one family that the case is for, if it is not for both.
std::string Named(const Case& one) {
  std::string text = "`" + one.name + "`";
  if (one.families.size() == 1) text += " (" + std::string(FamilyName(*one.families.begin())) + ")";
  if (!one.neighbours.empty()) text += fmt::format(" (beside {})", fmt::join(one.neighbours, ", "));
  return text;
}

}  // namespace

std::vector<Semantic> LoadSemantics(const std::filesystem::path& file) {
  std::ifstream stream(file);
  const std::string text{std::istreambuf_iterator<char>(stream), {}};
  if (!stream) throw std::system_error(errno, std::generic_category(), "read " + file.string());
  const Json root = kube::ParseYaml(text).value;
  if (!root.is_object() || !root.contains("semantics") || !root["semantics"].is_array())
    throw std::invalid_argument(file.string() + ": needs a list \"semantics\"");
  std::vector<Semantic> semantics;
  std::set<std::string> ids;
  for (const Json& item : root["semantics"]) {
    const bool good = item.is_object() && item.size() == 2 && item.contains("id") &&
                      item["id"].is_string() && item.contains("title") && item["title"].is_string();
    if (!good)
      throw std::invalid_argument(file.string() + ": must be {id: …, title: …}: " + item.dump());
    semantics.push_back({item["id"], item["title"]});
    if (!ids.insert(semantics.back().id).second)
      throw std::invalid_argument(file.string() + ": " + semantics.back().id + " is listed twice");
  }
  return semantics;
}

std::string SemanticsDocument(const std::vector<Semantic>& semantics,
                              const std::vector<Case>& cases) {
  for (const Case& one : cases) {
    for (const std::string& id : one.semantics) {
      const bool known = std::any_of(semantics.begin(), semantics.end(),
                                     [&](const Semantic& semantic) { return semantic.id == id; });
      if (!known)
        throw std::invalid_argument(
            fmt::format("{}: line {}: case {}: semantics: \"{}\" is not in the list of semantics",
                        one.file.filename().string(), one.line, one.name, id));
    }
  }
  std::string text = R"(# Service semantics and the cases that prove them

| sign | meaning |
|---|---|
| ✔ | conformance cases prove it in this mode, with real traffic through real kernels, over IPv4 and IPv6 (or the one that is named) |
| ✔ ✗ | most of it is proven; a case is [known to fail](#known-to-fail) |
| ✗ | its cases are [known to fail](#known-to-fail) |
| – | the mode does not have it, or (after ✔) not all of it: [why](#cases-that-a-mode-is-left-out-of) |
| | no case proves it |

This page is written by `pointsman-conformance --document docs/semantics.md`, and a test compares it
with the case files (`e2e/conformance/cases/`).

| semantic | iptables | ipvs | nftables | userspace |
|---|---|---|---|---|
)";
  std::string proofs;
  for (const Semantic& semantic : semantics) {
    text += "| " + semantic.title;
    for (const kube::Mode mode : kModes)
      text += " | " + Cell(semantic, cases, mode);
    text += " |\n";
    std::vector<std::string> names;
    for (const Case& one : cases)
      if (Proves(one, semantic)) names.push_back(Named(one));
    proofs += fmt::format("* **{}**: {}\n", semantic.title,
                          names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", ")));
  }
  text += "\n## The cases of each semantic\n\n" + proofs;
  std::string known;
  std::string left_out;
  for (const Case& one : cases) {
    for (const auto& [where, reason] : one.known_failures)
      known += fmt::format("| {} | {} | {} |\n", one.name, where, reason);
    for (const auto& [mode, reason] : one.not_in)
      left_out += fmt::format("| {} | {} | {} |\n", one.name, kube::ToString(mode), reason);
    for (const kube::Mode mode : kModes) {
      const std::vector<std::string> refused = RefusedBeside(one, mode);
      if (refused.empty() || one.not_in.contains(mode)) continue;
      left_out += fmt::format("| {} | {} | beside {}: [refused there](neighbours.md) |\n", one.name,
                              kube::ToString(mode), fmt::join(refused, ", "));
    }
  }
  if (!known.empty())
    text += "\n## Known to fail\n\n| case | where | why |\n|---|---|---|\n" + known;
  if (!left_out.empty())
    text += "\n## Cases that a mode is left out of\n\n| case | mode | why |\n|---|---|---|\n" +
            left_out;
  return text;
}

}  // namespace pointsman::e2e

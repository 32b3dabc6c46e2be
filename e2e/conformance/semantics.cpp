#include "e2e/conformance/semantics.h"

#include <algorithm>
#include <fstream>
#include <set>

#include <fmt/format.h>

#include "kube/config/yaml_json.h"

namespace pointsman::e2e {
namespace {

constexpr kube::Mode kModes[] = {kube::Mode::kIptables, kube::Mode::kIpvs, kube::Mode::kNftables,
                                 kube::Mode::kUserspace};

// "" when the case does not run in that mode.
std::string CellEntry(const Case& one, kube::Mode mode) {
  std::vector<std::string> runs;
  std::vector<std::string> fails;
  for (const auto family : {net::Family::kIPv4, net::Family::kIPv6}) {
    if (!one.AppliesTo(mode, family)) continue;
    const std::string name(FamilyName(family));
    runs.push_back(name);
    if (!one.KnownFailure(mode, family).empty()) fails.push_back(name);
  }
  if (runs.empty()) return "";
  std::string text = one.name;
  if (runs.size() == 1) text += " (" + runs.front() + ")";
  if (!fails.empty()) {
    text = "✗ " + text + " **fails";
    if (fails.size() < runs.size()) text += " in " + fails.front();
    text += "**";
  }
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
      throw std::invalid_argument(file.string() + ": " + semantics.back().id + " is there twice");
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

Each cell names the conformance cases (`e2e/conformance/cases/`) that prove the semantic in that mode,
over IPv4 and IPv6 unless it says otherwise, with real traffic through real kernels. A case marked ✗ is
known to fail there: the reason is in the table below. An empty cell is not proven by a case.

This page is written by `pointsman-conformance --document docs/semantics.md`, and a test compares it
with the case files. A mode's column says what the suite asks of it; `e2e/conformance/CMakeLists.txt`
says in which modes the suite is run.

| semantic | iptables | ipvs | nftables | userspace |
|---|---|---|---|---|
)";
  for (const Semantic& semantic : semantics) {
    text += "| " + semantic.title;
    for (const kube::Mode mode : kModes) {
      std::string cell;
      for (const Case& one : cases) {
        if (std::find(one.semantics.begin(), one.semantics.end(), semantic.id) ==
            one.semantics.end())
          continue;
        const std::string entry = CellEntry(one, mode);
        if (!entry.empty()) cell += (cell.empty() ? "" : "<br>") + entry;
      }
      text += " | " + cell;
    }
    text += " |\n";
  }
  std::string known;
  std::string left_out;
  for (const Case& one : cases) {
    for (const auto& [where, reason] : one.known_failures)
      known += fmt::format("| {} | {} | {} |\n", one.name, where, reason);
    for (const auto& [mode, reason] : one.not_in)
      left_out += fmt::format("| {} | {} | {} |\n", one.name, kube::ToString(mode), reason);
  }
  if (!known.empty())
    text += "\n## Known to fail\n\n| case | where | why |\n|---|---|---|\n" + known;
  if (!left_out.empty())
    text += "\n## Cases that a mode is left out of\n\n| case | mode | why |\n|---|---|---|\n" +
            left_out;
  return text;
}

}  // namespace pointsman::e2e

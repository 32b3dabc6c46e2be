// docs/neighbours.md and the table that the agent goes by say the same, row by row.
#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <spdlog/fmt/fmt.h>

#include "node-agent/config/doc_table.h"
#include "node-agent/dataplane/mode_traits.h"
#include "node-agent/neighbours/neighbour_table.h"

namespace pointsman::agent {
namespace {

std::string WordOf(Level level) {
  switch (level) {
    case Level::kFine:
      return "fine";
    case Level::kWarning:
      return "warning";
    case Level::kRefused:
      return "refused";
  }
  return "";
}

std::string LookedFor(const SignPattern& pattern) {
  const std::string_view name = pattern.name;
  const bool any = name == "*";
  switch (pattern.kind) {
    case SignKind::kLink:
      return fmt::format("interface {}", name);
    case SignKind::kLinkKind:
      return fmt::format("interface of kind {}", name);
    case SignKind::kLinkAddress:
      return fmt::format("interface {} with an address that is not link-local", name);
    case SignKind::kChain:
      return fmt::format("chain {} in table {}", name, pattern.table);
    case SignKind::kNftTable:
      return fmt::format("nf_tables' table {}", name);
    case SignKind::kIpset:
      return fmt::format("ipset {}", name);
    case SignKind::kForwardPolicyDrop:
      return any ? "a chain of hook forward with policy drop, but iptables' FORWARD in table "
                   "filter"
                 : "";
    case SignKind::kRuleIif:
      return any ? "ip rule with iif other than lo" : "";
    case SignKind::kUnfilteredBridge:
      return fmt::format("bridge {} while net.bridge.bridge-nf-call-iptables is not 1", name);
    case SignKind::kIpvsByMark:
      return any ? "IPVS virtual server by packet mark" : "";
  }
  return "";
}

constexpr const char* kOverview =
    "| Name | Who | Kind | Looked for | userspace | iptables | ipvs | nftables |";
constexpr const char* kReasons = "| Name | Modes | | Why | What to do |";
constexpr const char* kSources = "| Name | Read in |";

std::vector<DocRow> Overview() {
  std::vector<DocRow> rows;
  for (const Neighbour& each : Neighbours()) {
    std::vector<std::string> signs;
    for (const SignPattern& pattern : each.signs)
      signs.push_back(LookedFor(pattern));
    rows.push_back({std::string(each.name), std::string(each.title),
                    std::string(ToString(each.kind)), fmt::format("{}", fmt::join(signs, "; ")),
                    WordOf(each.userspace.level), WordOf(each.iptables.level),
                    WordOf(each.ipvs.level), WordOf(each.nftables.level)});
  }
  return rows;
}

std::vector<DocRow> Reasons() {
  std::vector<DocRow> rows;
  for (const Neighbour& each : Neighbours()) {
    const size_t first = rows.size();
    for (const ModeTraits& traits : AllModes()) {
      const Verdict& verdict = each.Of(traits.mode);
      if (verdict.level == Level::kFine) continue;
      const std::string mode(kube::ToString(traits.mode));
      const auto same = std::find_if(rows.begin() + static_cast<ptrdiff_t>(first), rows.end(),
                                     [&](const DocRow& row) { return row[3] == verdict.reason; });
      if (same != rows.end()) {
        (*same)[1] += ", " + mode;
      } else {
        rows.push_back({std::string(each.name), mode, WordOf(verdict.level),
                        std::string(verdict.reason), std::string(verdict.remedy)});
      }
    }
  }
  return rows;
}

std::vector<DocRow> Sources() {
  std::vector<DocRow> rows;
  for (const Neighbour& each : Neighbours())
    rows.push_back({std::string(each.name), std::string(each.source)});
  return rows;
}

// As the page has to have it, to be copied there.
std::string Written(const std::vector<DocRow>& rows) {
  std::string text;
  for (const DocRow& row : rows)
    text += fmt::format("| `{}` | {} |\n", row[0], fmt::join(row.begin() + 1, row.end(), " | "));
  return text;
}

class NeighbourDocumentTest : public ::testing::Test {
 protected:
  static std::vector<DocRow> Page(const char* header) {
    return ReadDocTable(std::string(POINTSMAN_SOURCE_DIR) + "/docs/neighbours.md", header);
  }
};

TEST_F(NeighbourDocumentTest, SaysWhoIsLookedForAndHowEachModeGetsAlong) {
  EXPECT_EQ(Page(kOverview), Overview()) << "the page should have:\n" << Written(Overview());
}

TEST_F(NeighbourDocumentTest, SaysWhyAndWhatToDo) {
  EXPECT_EQ(Page(kReasons), Reasons()) << "the page should have:\n" << Written(Reasons());
}

TEST_F(NeighbourDocumentTest, SaysWhereItWasRead) {
  EXPECT_EQ(Page(kSources), Sources()) << "the page should have:\n" << Written(Sources());
}

}  // namespace
}  // namespace pointsman::agent

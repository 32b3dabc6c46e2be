#include "e2e/conformance/semantics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pointsman::e2e {
namespace {

using testing::HasSubstr;

std::vector<Case> Cases(const std::string& semantic) {
  return ParseCases("cases:\n- name: one\n  source: KEP-1\n  semantics: [" + semantic + R"(]
  known_failure: {ipvs/IPv6: a reason}
  not_in: {userspace: another}
  steps: [{run: {on: node-1, argv: ["true"]}}]
)",
                    "c.yaml");
}

TEST(SemanticsTest, EachModeHasASign) {
  const std::string text = SemanticsDocument({{"x", "Some rule"}, {"y", "Other"}}, Cases("x"));
  EXPECT_THAT(text, HasSubstr("| Some rule | ✔ | ✔ ✗ | ✔ | – |\n"));
  EXPECT_THAT(text, HasSubstr("* **Some rule**: `one`\n"));
  EXPECT_THAT(text, HasSubstr("* **Other**: none\n"));
  EXPECT_THAT(text, HasSubstr("| Other |  |  |  |  |\n"));
  EXPECT_THAT(text, HasSubstr("| one | ipvs/IPv6 | a reason |\n"));
  EXPECT_THAT(text, HasSubstr("| one | userspace | another |\n"));
}

// By the agent's own table.
TEST(SemanticsTest, AModeThatIsRefusedBesideAllNeighboursOfACaseIsNotProven) {
  const auto document = [](const std::string& neighbours) {
    return SemanticsDocument(
        {{"x", "Some rule"}},
        ParseCases("cases:\n- name: one\n  source: KEP-1\n  semantics: [x]\n"
                   "  neighbours: [" +
                       neighbours + "]\n  steps: [{run: {on: node-1, argv: [\"true\"]}}]\n",
                   "c.yaml"));
  };
  const std::string weave = document("weave");
  EXPECT_THAT(weave, HasSubstr("| Some rule | ✔ | – | ✔ | – |\n"));
  EXPECT_THAT(weave, HasSubstr("* **Some rule**: `one` (beside weave)\n"));
  EXPECT_THAT(weave, HasSubstr("| one | ipvs | beside weave: [refused there](neighbours.md) |\n"));
  EXPECT_THAT(document("weave, kube-router"), HasSubstr("| Some rule | ✔ | ✔ | ✔ | – |\n"));
  EXPECT_THAT(document("portmap"), HasSubstr("| Some rule | ✔ | ✔ | ✔ | ✔ |\n"));
}

TEST(SemanticsTest, ACaseCannotProveWhatIsNotListed) {
  EXPECT_THROW(SemanticsDocument({{"x", "Some rule"}}, Cases("z")), std::invalid_argument);
}

}  // namespace
}  // namespace pointsman::e2e

#include "kube/config/yaml_edit.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kube/config/yaml_json.h"

namespace pointsman::kube {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

std::string Edited(std::string_view text, const char* changes) {
  return EditYaml(text, json::parse(changes));
}

std::string Refusal(std::string_view text, const char* changes) {
  try {
    return "accepted: " + Edited(text, changes);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
}

TEST(YamlEdit, OverwritesTheValueAndNothingElse) {
  EXPECT_EQ(
      Edited("# ü\nkind: K  # what\nmode:   ipvs   # old\n\nz: 1\n", R"({"mode": "nftables"})"),
      "# ü\nkind: K  # what\nmode:   nftables   # old\n\nz: 1\n");
  EXPECT_EQ(Edited("mode: \"\"\n", R"({"mode": "ipvs"})"), "mode: \"ipvs\"\n");
  EXPECT_EQ(Edited("mode: 'it''s'\n", R"({"mode": "ipvs"})"), "mode: 'ipvs'\n");
  EXPECT_EQ(Edited("mode: \"a\\\"b\" # c\n", R"({"mode": "ipvs"})"), "mode: \"ipvs\" # c\n");
  EXPECT_EQ(Edited("mode:\nnext: 1\n", R"({"mode": "ipvs"})"), "mode: ipvs\nnext: 1\n");
  EXPECT_EQ(Edited("mode: # none\nnext: 1\n", R"({"mode": "ipvs"})"),
            "mode: ipvs # none\nnext: 1\n");
  EXPECT_EQ(Edited("mode: null\n", R"({"mode": "ipvs"})"), "mode: ipvs\n");
  EXPECT_EQ(Edited("mode: ~", R"({"mode": "ipvs"})"), "mode: ipvs");
  EXPECT_EQ(Edited("\"mode\" : ipvs\r\nx: 1\r\n", R"({"mode": "lc"})"),
            "\"mode\" : lc\r\nx: 1\r\n");
}

TEST(YamlEdit, WhatIsInABlock) {
  EXPECT_EQ(Edited("ipvs:\n  # why\n  scheduler: rr\n  strictARP: false # yet\nmode: ipvs\n",
                   R"({"ipvs": {"strictARP": true, "scheduler": "lc"}})"),
            "ipvs:\n  # why\n  scheduler: lc\n  strictARP: true # yet\nmode: ipvs\n");
  EXPECT_EQ(
      Edited("ipvs: {excludeCIDRs: null, scheduler: \"\", syncPeriod: 30s}\n",
             R"({"ipvs": {"excludeCIDRs": ["10.0.0.0/8", "fd00::/8"], "syncPeriod": "1m0s"}})"),
      "ipvs: {excludeCIDRs: [\"10.0.0.0/8\", \"fd00::/8\"], scheduler: \"\", syncPeriod: 1m0s}\n");
  EXPECT_EQ(Edited("a: [1, \"]\", '#'] # c\n", R"({"a": []})"), "a: [] # c\n");
  EXPECT_EQ(Edited("conntrack:\n  min: null\n", R"({"conntrack": {"min": 0}})"),
            "conntrack:\n  min: 0\n");
}

TEST(YamlEdit, AddsWhatIsNotThere) {
  EXPECT_EQ(Edited("kind: K\n# last\n", R"({"mode": "ipvs", "ipvs": {"scheduler": "lc"}})"),
            "kind: K\n# last\nipvs: {scheduler: lc}\nmode: ipvs\n");
  EXPECT_EQ(Edited("kind: K", R"({"mode": "ipvs"})"), "kind: K\nmode: ipvs\n");
  EXPECT_EQ(Edited("kind: K\n---\nother: 1\n", R"({"mode": "ipvs"})"),
            "kind: K\nmode: ipvs\n---\nother: 1\n");
  EXPECT_EQ(Edited("---\nkind: K\n...\n", R"({"mode": "ipvs"})"),
            "---\nkind: K\nmode: ipvs\n...\n");
  EXPECT_EQ(Edited("ipvs:\n    # why\n    syncPeriod: 30s\n", R"({"ipvs": {"scheduler": "lc"}})"),
            "ipvs:\n    # why\n    scheduler: lc\n    syncPeriod: 30s\n");
  EXPECT_EQ(Edited("ipvs: {syncPeriod: 30s}\n", R"({"ipvs": {"scheduler": "lc"}})"),
            "ipvs: {scheduler: lc, syncPeriod: 30s}\n");
  EXPECT_EQ(Edited("ipvs: {}\n", R"({"ipvs": {"scheduler": "lc"}})"), "ipvs: {scheduler: lc}\n");
  EXPECT_EQ(Edited("ipvs:\nmode: x\n", R"({"ipvs": {"scheduler": "lc"}})"),
            "ipvs: {scheduler: lc}\nmode: x\n");
  EXPECT_EQ(Edited("ipvs: null\n", R"({"ipvs": {"scheduler": "lc", "strictARP": true}})"),
            "ipvs: {scheduler: lc, strictARP: true}\n");
  EXPECT_EQ(Edited("kind: K\r\n", R"({"mode": "ipvs"})"), "kind: K\r\nmode: ipvs\r\n");
}

TEST(YamlEdit, Json) {
  EXPECT_EQ(Edited("{\n\t\"mode\": \"ipvs\",\n\t\"a\": \"b\\/c\"\n}\n",
                   R"({"mode": "nftables", "nftables": {"masqueradeAll": true}})"),
            "{\"nftables\": {\"masqueradeAll\":true}, \n\t\"mode\": \"nftables\",\n\t\"a\": "
            "\"b\\/c\"\n}\n");
}

TEST(YamlEdit, WordsThatWouldBeSomethingElseAreQuoted) {
  for (const char* word :
       {"no", "y", "null", "12", "1e3", "0x1f", "", "a b", "a: b", "#", "10.0.0.0/8"}) {
    const std::string text = EditYaml("name: x\n", json{{"name", word}});
    EXPECT_EQ(ParseYaml(text).value["name"], word) << text;
  }
  EXPECT_EQ(EditYaml("a: x\n", json{{"a", "30s"}}), "a: 30s\n");
}

TEST(YamlEdit, OfAKeyThatIsThereTwiceTheLastCounts) {
  EXPECT_EQ(Edited("mode: iptables\nx: 1\nmode: ipvs\n", R"({"mode": "nftables"})"),
            "mode: iptables\nx: 1\nmode: nftables\n");
}

TEST(YamlEdit, RefusesWhatIsNotOnOneLine) {
  EXPECT_THAT(Refusal("a: 1\nipvs:\n  excludeCIDRs:\n  - 10.0.0.0/8\n",
                      R"({"ipvs": {"excludeCIDRs": []}})"),
              AllOf(HasSubstr("line 3: ipvs.excludeCIDRs: "), HasSubstr("write it so")));
  EXPECT_THAT(Refusal("a: [1,\n 2]\n", R"({"a": []})"), HasSubstr("line 1: a: "));
  EXPECT_THAT(Refusal("a: one\n  two\n", R"({"a": "x"})"), HasSubstr("line 1: a: "));
  EXPECT_THAT(Refusal("a: \"one\n  two\"\n", R"({"a": "x"})"), HasSubstr("line 1: a: "));
  EXPECT_THAT(Refusal("a: |\n  two\n", R"({"a": "x"})"), HasSubstr("line 1: a: "));
  EXPECT_THAT(Refusal("a:\n  two\n", R"({"a": "x"})"), HasSubstr("line 1: a: "));
  EXPECT_THAT(Refusal("? a\n: two\n", R"({"a": "x"})"), HasSubstr("line 1: a: "));
}

TEST(YamlEdit, RefusesAliasesAnchorsAndTags) {
  const char* anchors =
      "periods: &periods {syncPeriod: 1m}\niptables: {<<: *periods, masqueradeBit: 15}\n"
      "ipvs: *periods\nmode: ipvs\nbit: &bit 1\nother: *bit\nword: !!str 1\n";
  EXPECT_THAT(Refusal(anchors, R"({"ipvs": {"syncPeriod": "2m"}})"), HasSubstr("line 3: ipvs: "));
  EXPECT_THAT(Refusal(anchors, R"({"periods": {"syncPeriod": "2m"}})"),
              HasSubstr("line 1: periods: "));
  EXPECT_THAT(Refusal(anchors, R"({"bit": 2})"), HasSubstr("line 5: bit: "));
  EXPECT_THAT(Refusal(anchors, R"({"other": 2})"), HasSubstr("line 6: other: "));
  EXPECT_THAT(Refusal(anchors, R"({"word": "x"})"), HasSubstr("line 7: word: "));
  // Kubernetes reads in order: what is merged behind a key goes before it.
  EXPECT_THAT(Refusal(anchors, R"({"iptables": {"syncPeriod": "2m"}})"),
              HasSubstr("other values would differ"));
}

TEST(YamlEdit, RefusesOtherTexts) {
  EXPECT_THAT(Refusal("- 1\n", R"({"a": 1})"), HasSubstr("no mapping"));
  EXPECT_THAT(Refusal("ipvs: 1\n", R"({"ipvs": {"a": 1}})"),
              HasSubstr("line 1: ipvs: is no mapping"));
  EXPECT_THAT(Refusal("\xef\xbb\xbf"
                      "a: 1\n",
                      R"({"a": 2})"),
              HasSubstr("byte order mark"));
  EXPECT_THAT(Refusal("a: [", R"({"a": 2})"), HasSubstr("line 1"));
  EXPECT_THAT(Refusal(std::string(kMaxEditedYaml, ' ') + "a: 1", R"({"a": 2})"),
              HasSubstr("longer than"));
}

// Files as they are found on nodes: each changed value is there, and all other lines are as before.
TEST(YamlEdit, FilesOfRealNodes) {
  const json changes = json::parse(
      R"({"mode": "nftables", "nftables": {"masqueradeAll": true}, "ipvs": {"strictARP": true}})");
  size_t edited = 0;
  for (const auto& file : std::filesystem::directory_iterator(POINTSMAN_KUBE_PROXY_FILES)) {
    std::ifstream in(file.path());
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    std::string result;
    try {
      result = EditYaml(text, changes);
    } catch (const std::invalid_argument&) {
      continue;
    }
    ++edited;
    EXPECT_EQ(ParseYaml(result).value["mode"], "nftables") << file;
    EXPECT_EQ(ParseYaml(result).value["nftables"]["masqueradeAll"], true) << file;
    EXPECT_EQ(EditYaml(result, changes), result) << file << ": not stable";
  }
  EXPECT_GE(edited, 15U);
}

// Whatever is in the text, the answer is a refusal or a text that differs in the asked values.
TEST(YamlEdit, AnyText) {
  static constexpr std::array<std::string_view, 24> kPieces{
      "mode", ": ", "\n",     "ipvs", "{",  "}", "[",  "]", ",", "'", "\"",   "#",
      "&a ",  "*a", "!!str ", "  ",   "- ", "|", "\\", "ü", "~", "a", "\r\n", "---\n"};
  std::mt19937 random(1);  // NOLINT(cert-msc51-cpp): the same texts each time
  size_t edited = 0;
  for (int i = 0; i < 4000; ++i) {
    std::string text = i % 2 == 0 ? "mode: x\nipvs: {a: 1}\n" : "";
    const size_t length = random() % 12;
    for (size_t n = 0; n < length; ++n)
      text.insert(text.empty() ? 0 : random() % text.size(), kPieces[random() % kPieces.size()]);
    const json changes = {{"mode", "lc"}, {"ipvs", {{"a", 2}, {"b", "c"}}}};
    try {
      const std::string result = EditYaml(text, changes);
      EXPECT_EQ(ParseYaml(result).value["mode"], "lc") << text;
      EXPECT_EQ(ParseYaml(result).value["ipvs"]["b"], "c") << text;
      ++edited;
    } catch (const std::invalid_argument&) {  // refused
    }
  }
  EXPECT_GE(edited, 200U);
}

}  // namespace
}  // namespace pointsman::kube

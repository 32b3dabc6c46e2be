#include "node-agent/xtables/save_reader.h"

#include <tuple>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "node-agent/xtables/iptables_tool.h"

namespace pointsman::agent::xtables {
namespace {

std::vector<std::string> LinesOf(std::string_view text, size_t piece_size,
                                 const char* command = "/sbin/iptables-nft-save") {
  std::vector<std::string> lines;
  const std::function<void(std::string_view)> on_line = [&](std::string_view line) {
    lines.emplace_back(line);
  };
  SaveReader reader(command, on_line);
  for (; !text.empty(); text.remove_prefix(std::min(piece_size, text.size())))
    reader.Add(text.substr(0, piece_size));
  return lines;
}

TEST(SaveReaderTest, LinesAreTheSameHoweverTheyAreCut) {
  constexpr std::string_view kText =
      "# Generated\n*nat\n\n:A - [0:0]\n-A A -j RETURN\nCOMMIT\n# x\n";
  const std::vector<std::string> lines{"*nat", ":A - [0:0]", "-A A -j RETURN", "COMMIT"};
  for (const size_t size : {size_t{1}, size_t{2}, size_t{7}, kText.size()})
    EXPECT_EQ(LinesOf(kText, size), lines) << size;
}

TEST(SaveReaderTest, ALineSaysWhatItIs) {
  using Kind = SavedLine::Kind;
  const std::tuple<const char*, Kind, const char*, const char*> kLines[] = {
      {"*nat", Kind::kTable, "nat", ""},
      {":PREROUTING ACCEPT [3:4]", Kind::kChain, "PREROUTING", "ACCEPT [3:4]"},
      {":A - [0:0]", Kind::kChain, "A", "- [0:0]"},
      {":A", Kind::kChain, "A", ""},
      {"-A A -m comment --comment \"-j B\" -j C ", Kind::kRule, "A",
       "-m comment --comment \"-j B\" -j C"},
      {"-A A", Kind::kRule, "A", ""},
      {"COMMIT", Kind::kOther, "", ""},
      {"[1:2] -A A -j B", Kind::kOther, "", ""},
  };
  for (const auto& [text, kind, name, rule] : kLines) {
    const SavedLine line = ParseSavedLine(text);
    EXPECT_EQ(line.kind, kind) << text;
    EXPECT_EQ(line.name, name) << text;
    EXPECT_EQ(line.rule, rule) << text;
  }
}

TEST(SaveReaderTest, ALineWithoutEndIsRefusedHoweverItIsCut) {
  const std::string text = "-A A -m comment --comment " + std::string(1 << 20, 'x') + "\n";
  for (const size_t size : {size_t{1000}, size_t{65'536}, text.size()})
    EXPECT_THROW(LinesOf(text, size), std::runtime_error) << size;
}

TEST(SaveReaderTest, ATableThatIsLeftOutIsNoEmptyOne) {
  constexpr std::string_view kText = "# Table `filter\x1b[2J' is incompatible, use 'nft' tool.\n";
  for (const size_t size : {size_t{3}, kText.size()}) {
    try {
      LinesOf(kText, size, "/sbin/ip6tables-nft-save -t filter");
      FAIL() << "nothing is said of the table";
    } catch (const IncompatibleTable& error) {
      EXPECT_THAT(error.what(), ::testing::HasSubstr("nft list table ip6 filter\\x1b[2J)"));
    }
  }
}

}  // namespace
}  // namespace pointsman::agent::xtables

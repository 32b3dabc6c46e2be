// The tests that robustness.md names are there: a page that names a test which was renamed or taken
// out proves nothing.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <fnmatch.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pointsman {
namespace {

namespace fs = std::filesystem;
using Names = std::set<std::string>;

std::string Read(const fs::path& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot read " + path.string());
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::string> Split(const std::string& text, const std::string& separators) {
  const std::regex separator(separators);
  std::vector<std::string> parts;
  for (std::sregex_token_iterator part(text.begin(), text.end(), separator, -1), end; part != end;
       ++part) {
    const std::string trimmed = std::regex_replace(part->str(), std::regex("^\\s+|\\s+$"), "");
    if (!trimmed.empty()) parts.push_back(trimmed);
  }
  return parts;
}

// The source tree, as far as a page may name something of it.
class Tree {
 public:
  explicit Tree(fs::path root) : root_(std::move(root)) {
    for (const auto& top : fs::directory_iterator(root_)) {
      const std::string name = top.path().filename().string();
      if (!top.is_directory() || name.starts_with('.') || name.starts_with("build")) continue;
      for (const auto& entry : fs::recursive_directory_iterator(top)) {
        if (entry.is_regular_file()) files_[entry.path().filename().string()].push_back(entry);
      }
    }
    const std::regex name("\\n- name: ([a-z0-9-]+)");
    for (const auto& file : fs::directory_iterator(root_ / "e2e/conformance/cases"))
      Add("\n" + Read(file), name, [&](const std::smatch& match) { cases_.insert(match[1]); });
  }

  // A path from the root, or the name of a file anywhere.
  std::vector<fs::path> Files(const std::string& name) const {
    if (fs::exists(root_ / name)) return {root_ / name};
    const auto found = files_.find(name);
    return found != files_.end() ? found->second : std::vector<fs::path>{};
  }

  // What the tests of a file may be called: "Suite.Name", "Name", "Suite", and for each
  // instantiation "Instantiation/Suite.Name" and "Instantiation/Suite".
  static Names Tests(const fs::path& file) {
    const std::string text = Read(file);
    Names names;
    std::map<std::string, Names> of_suite;
    static const std::regex kTest(R"(\bTEST(?:_[FP])?\(\s*(\w+),\s*(\w+)\))");
    static const std::regex kInstance(R"(\bINSTANTIATE_TEST_SUITE_P\(\s*(\w+),\s*(\w+),)");
    Add(text, kTest, [&](const std::smatch& match) {
      of_suite[match[1]].insert(match[2]);
      names.insert({match[1].str(), match[2].str(), match[1].str() + "." + match[2].str()});
    });
    Add(text, kInstance, [&](const std::smatch& match) {
      const std::string suite = match[1].str() + "/" + match[2].str();
      names.insert(suite);
      for (const std::string& test : of_suite[match[2]])
        names.insert(fmt::format("{}.{}", suite, test));
    });
    return names;
  }

  const Names& conformance_cases() const { return cases_; }

 private:
  template <typename Take>
  static void Add(const std::string& text, const std::regex& what, const Take& take) {
    for (std::sregex_iterator match(text.begin(), text.end(), what), end; match != end; ++match)
      take(*match);
  }

  const fs::path root_;
  std::map<std::string, std::vector<fs::path>> files_;  // by name without folders
  Names cases_;
};

// Of one "FILE, FILE: TEST, TEST", one "conformance: CASE, CASE", or one "PATH, PATH".
void CheckEntry(const std::string& entry, const Tree& tree, std::vector<std::string>& problems) {
  const size_t colon = entry.find(": ");
  const std::string before = entry.substr(0, colon);
  Names names;
  if (before == "conformance") {
    names = tree.conformance_cases();
  } else {
    for (const std::string& file : Split(before, ", | and ")) {
      const std::vector<fs::path> found = tree.Files(file);
      if (found.empty()) problems.push_back("there is no file '" + file + "'");
      if (colon == std::string::npos) continue;
      for (const fs::path& path : found)
        names.merge(Tree::Tests(path));
    }
  }
  if (colon == std::string::npos) return;
  for (const std::string& test : Split(entry.substr(colon + 2), ",")) {
    const bool there = std::any_of(names.begin(), names.end(), [&](const std::string& name) {
      return fnmatch(test.c_str(), name.c_str(), 0) == 0;
    });
    if (!there) problems.push_back(fmt::format("there is no test '{}' in {}", test, before));
  }
}

// The last column of each table, without what is said in parentheses. "line 7: there is no …".
std::vector<std::string> Problems(const std::string& page, const Tree& tree) {
  std::vector<std::string> problems;
  size_t number = 0;
  std::istringstream lines(page);
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (!line.starts_with("| ") || line.starts_with("| kind |")) continue;
    const std::vector<std::string> cells = Split(line, "\\|");
    std::vector<std::string> of_line;
    const std::string proof = std::regex_replace(cells.back(), std::regex("\\([^)]*\\)"), "");
    if (cells.size() != 3 || Split(proof, ";").empty())
      of_line.push_back("a row has a kind, what happens, and what proves it");
    for (const std::string& entry : Split(proof, ";"))
      CheckEntry(entry, tree, of_line);
    for (const std::string& problem : of_line)
      problems.push_back("line " + std::to_string(number) + ": " + problem);
  }
  return problems;
}

TEST(RobustnessDocumentTest, NamesTestsThatThereAre) {
  const fs::path root = POINTSMAN_SOURCE_DIR;
  const std::vector<std::string> problems = Problems(Read(root / "docs/robustness.md"), Tree(root));
  std::string text;
  for (const std::string& problem : problems)
    text += "docs/robustness.md " + problem + "\n";
  EXPECT_TRUE(problems.empty()) << text;
}

TEST(RobustnessDocumentTest, WhatIsNotThereIsFound) {
  const Tree tree(POINTSMAN_SOURCE_DIR);
  const auto of_proof = [&](const std::string& proof) {
    return Problems("| kind | what | proven by |\n|---|---|---|\n| a | b | " + proof + " |\n",
                    tree);
  };
  const std::string here = "docs/robustness_test.cpp";
  using ::testing::ElementsAre;
  using ::testing::IsEmpty;
  EXPECT_THAT(of_proof(here + ": WhatIsNotThereIsFound, RobustnessDocumentTest.*, What* (x, y)"),
              IsEmpty());
  EXPECT_THAT(of_proof("robustness_test.cpp: RobustnessDocumentTest; bench/operator, README.md"),
              IsEmpty());
  EXPECT_THAT(of_proof("conformance: hairpin-without-node-name"), IsEmpty());
  EXPECT_THAT(of_proof("agent_test.cpp: Modes/BrokenFamilyTest.LeavesTheOtherServed"), IsEmpty());
  EXPECT_THAT(of_proof(here + ": WhatIsFound, Tree.*"),
              ElementsAre("line 3: there is no test 'WhatIsFound' in " + here,
                          "line 3: there is no test 'Tree.*' in " + here));
  EXPECT_THAT(of_proof("docs/no_test.cpp: A; bench/none"),
              ElementsAre("line 3: there is no file 'docs/no_test.cpp'",
                          "line 3: there is no test 'A' in docs/no_test.cpp",
                          "line 3: there is no file 'bench/none'"));
  EXPECT_THAT(of_proof("conformance: none"),
              ElementsAre("line 3: there is no test 'none' in conformance"));
  EXPECT_THAT(of_proof("agent_test.cpp: Other/BrokenFamilyTest.LeavesTheOtherServed"),
              ElementsAre("line 3: there is no test 'Other/BrokenFamilyTest.LeavesTheOtherServed' "
                          "in agent_test.cpp"));
  EXPECT_THAT(of_proof("(in words)"),
              ElementsAre("line 3: a row has a kind, what happens, and what proves it"));
}

}  // namespace
}  // namespace pointsman

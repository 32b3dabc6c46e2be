// runbooks.md has a section for each alert, and what it tells people to type, to query and to look
// for is there.
#include <algorithm>
#include <cctype>
#include <filesystem>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <yaml-cpp/yaml.h>

#include "kube/testing/page_text.h"
#include "kubectl-pointsman/options.h"

namespace pointsman {
namespace {

namespace fs = std::filesystem;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const fs::path kRoot = POINTSMAN_SOURCE_DIR;

// All files below that end so, one after the other.
std::string ReadAll(const fs::path& below, const std::set<std::string>& extensions) {
  std::string all;
  for (const auto& entry : fs::recursive_directory_iterator(below)) {
    if (entry.is_regular_file() && extensions.contains(entry.path().extension().string()))
      all += ReadText(entry.path());
  }
  return all;
}

struct Alert {
  std::string name;
  std::string expression;
  std::string runbook;
};

std::vector<Alert> Alerts() {
  std::vector<Alert> alerts;
  const YAML::Node rules =
      YAML::LoadFile(kRoot / "manifests/monitoring/prometheus-rule.yaml")["spec"]["groups"];
  for (const YAML::Node& group : rules) {
    for (const YAML::Node& rule : group["rules"]) {
      alerts.push_back({rule["alert"].as<std::string>(), rule["expr"].as<std::string>(),
                        rule["annotations"]["runbook_url"].as<std::string>("")});
    }
  }
  return alerts;
}

const std::string& Page() {
  static const std::string kPage = ReadText(kRoot / "docs/runbooks.md");
  return kPage;
}

// Text by heading.
std::map<std::string, std::string> Sections() {
  std::map<std::string, std::string> sections;
  std::istringstream lines(Page());
  std::string heading;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("## ")) {
      heading = line.substr(3);
      EXPECT_FALSE(sections.contains(heading)) << heading << " is there twice";
    }
    sections[heading] += line + "\n";
  }
  sections.erase("");  // what stands before the first
  return sections;
}

std::string Anchor(std::string heading) {
  std::transform(heading.begin(), heading.end(), heading.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return heading;
}

TEST(RunbooksTest, EachAlertHasASectionAndLinksToIt) {
  const std::map<std::string, std::string> sections = Sections();
  const std::vector<Alert> alerts = Alerts();
  ASSERT_FALSE(alerts.empty());
  std::set<std::string> names;
  for (const Alert& alert : alerts) {
    names.insert(alert.name);
    EXPECT_EQ(alert.runbook, "docs/runbooks.md#" + Anchor(alert.name)) << alert.name;
    const auto section = sections.find(alert.name);
    if (section == sections.end()) {
      ADD_FAILURE() << "docs/runbooks.md has no section \"## " << alert.name << "\"";
      continue;
    }
    for (const char* part : {"\n**What it means.** ", "\n**What users notice.** ",
                             "\n**Where to look.**\n\n```\n", "\n**What to do.**"})
      EXPECT_THAT(section->second, HasSubstr(part)) << alert.name;
  }
  for (const auto& [heading, ignored] : sections)
    EXPECT_THAT(names, Contains(heading)) << "there is no such alert";
}

TEST(RunbooksTest, ItsLinksLeadSomewhere) {
  std::set<std::string> anchors;
  for (const auto& [heading, ignored] : Sections())
    anchors.insert(Anchor(heading));
  for (const std::string& target : Matches(Page(), R"(\]\(([^)]+)\))", 1)) {
    const size_t hash = target.find('#');
    if (hash == 0) {
      EXPECT_THAT(anchors, Contains(target.substr(1)));
    } else {
      EXPECT_TRUE(fs::exists(kRoot / "docs" / target.substr(0, hash))) << target;
    }
  }
}

// Of the plugin: the command and its options are those of its command line.
TEST(RunbooksTest, TheCommandsOfThePluginAreThere) {
  const std::vector<std::string> commands = Matches(Page(), "kubectl pointsman ([^`\n]+)", 1);
  ASSERT_FALSE(commands.empty());
  for (const std::string& command : commands) {
    std::vector<std::string> words{"kubectl-pointsman"};
    std::istringstream stream(command);
    for (std::string word; stream >> word;)
      words.push_back(word == "MODE" ? "ipvs" : word);
    std::vector<const char*> argv;
    argv.reserve(words.size());
    for (const std::string& word : words)
      argv.push_back(word.c_str());
    EXPECT_NO_THROW(plugin::ParseOptions(static_cast<int>(argv.size()), argv.data()))
        << "kubectl pointsman " << command;
  }
}

// docs/metrics.md, which the programs' own tests hold against what they export.
TEST(RunbooksTest, TheMetricsOfAlertsAndQueriesAreThere) {
  const std::string metrics = ReadText(kRoot / "docs/metrics.md");
  std::string queries = Page() + ReadText(kRoot / "manifests/monitoring/dashboard.json");
  for (const Alert& alert : Alerts())
    queries += alert.expression + "\n";
  const std::vector<std::string> names = Matches(queries,
                                                 "\\b((?:pointsman_(?:agent|operator|forwarder)|"
                                                 "kubeproxy)_[a-z_]+?)(?:_bucket|_sum|_count)?\\b",
                                                 1);
  EXPECT_GT(names.size(), 15U);
  for (const std::string& name : names)
    EXPECT_TRUE(std::regex_search(metrics, std::regex("`" + name + "[`{]"))) << name;
}

// Names of our own objects are those of the manifests, and what is to be looked for in a log is
// what the programs write.
TEST(RunbooksTest, ObjectsAndLinesOfLogsAreThere) {
  const std::string manifests = ReadAll(kRoot / "manifests", {".yaml"});
  const std::vector<std::string> blocks = FencedBlocks(Page(), "");
  ASSERT_FALSE(blocks.empty());
  for (const std::string& block : blocks) {
    for (const std::string& name : Matches(block, "(?:[=/ :])(pointsman-[a-z-]+)", 1))
      EXPECT_THAT(manifests, ::testing::ContainsRegex("name: " + name + "[ \n}]")) << name;
    for (const std::string& name : Matches(block, " -c ([a-z-]+)", 1))
      EXPECT_THAT(manifests, HasSubstr("- name: " + name + "\n")) << name;
  }

  std::string sources;
  for (const char* folder : {"kube", "node-agent", "operator"})
    sources += ReadAll(kRoot / folder, {".cpp", ".h"});
  size_t phrases = 0;
  for (const std::string& paragraph : Matches(Page(), "\nIn the log: ((?:.+\n)+)", 1)) {
    for (const std::string& quoted : Matches(paragraph, "`([^`]+)`", 1)) {
      for (const std::string& phrase : Matches(quoted, "[A-Za-z ]{6,}")) {
        ++phrases;
        EXPECT_THAT(sources, HasSubstr(phrase)) << quoted;
      }
    }
  }
  EXPECT_GT(phrases, 4U);
}

}  // namespace
}  // namespace pointsman

#include "node-agent/agent/options.h"

#include <map>
#include <set>

#include <gmock/gmock.h>

#include "node-agent/config/doc_table.h"

namespace pointsman::agent {
namespace {

using testing::ContainerEq;
using testing::StartsWith;

std::optional<int> Parse(std::vector<std::string> arguments, Options& options) {
  std::string program = "pointsman-node-agent";
  std::vector<char*> argv{program.data()};
  for (std::string& argument : arguments)
    argv.push_back(argument.data());
  return ParseOptions(static_cast<int>(argv.size()), argv.data(), options);
}

std::vector<DocRow> Table() {
  return ReadDocTable(POINTSMAN_SOURCE_DIR "/docs/standalone.md", "| flag | here |");
}

// kube-proxy's flags that the agent has as its own -> a value; "": it stands alone.
const std::map<std::string, std::string>& OwnFlags() {
  static const std::map<std::string, std::string> flags{
      {"--cleanup", ""},
      {"--config", "/dev/null"},
      {"--healthz-bind-address", "127.0.0.1"},
      {"--healthz-port", "7"},
      {"--hostname-override", "node-7"},
      {"--kubeconfig", "/dev/null"},
      {"--logging-format", "json"},
      {"--master", "https://192.0.2.7"},
      {"--metrics-bind-address", "127.0.0.1"},
      {"--metrics-port", "7"},
      {"--v", "4"},
      {"--help", ""},
      {"--version", ""},
  };
  return flags;
}

std::string Join(const std::vector<std::string_view>& words) {
  std::string text;
  for (const std::string_view word : words)
    text += (text.empty() ? "" : ", ") + std::string(word);
  return text;
}

TEST(Options, TheTableHasEveryFlagAndWhatBecomesOfIt) {
  std::map<std::string, std::string> table;
  for (const DocRow& row : Table()) {
    EXPECT_TRUE(table.emplace(row.at(0), row.at(1)).second) << row.at(0) << " is there twice";
  }
  std::set<std::string> expected;
  for (const auto& [flag, value] : OwnFlags())
    expected.insert(flag);
  for (const KubeProxyFlag& flag : KubeProxyFlags()) {
    const std::string name(flag.name);
    expected.insert(name);
    switch (flag.kind) {
      case KubeProxyFlag::Kind::kIgnored:
        EXPECT_THAT(table[name], StartsWith("no effect")) << name;
        break;
      case KubeProxyFlag::Kind::kRefused:
        EXPECT_THAT(table[name], StartsWith("refused")) << name;
        break;
      default:
        EXPECT_EQ(table[name], Join(flag.fields)) << name;
    }
  }
  std::set<std::string> there;
  for (const auto& [flag, here] : table)
    there.insert(flag);
  EXPECT_THAT(there, ContainerEq(expected));
}

TEST(Options, EachFlagOfTheTableIsTaken) {
  for (const DocRow& row : Table()) {
    const std::string& name = row.at(0);
    const auto own = OwnFlags().find(name);
    if (own != OwnFlags().end()) {
      Options options;
      const auto code = Parse({own->second.empty() ? name : name + "=" + own->second}, options);
      const bool ends = name == "--help" || name == "--version";
      EXPECT_EQ(code, ends ? std::optional<int>(0) : std::nullopt) << name;
      continue;
    }
    std::string underscores = name.substr(2);
    std::replace(underscores.begin(), underscores.end(), '-', '_');
    for (const std::string& spelling : {name, "--" + underscores}) {
      Options options;
      EXPECT_EQ(Parse({spelling + "=true"}, options), std::nullopt) << spelling;
      EXPECT_TRUE(options.kube_proxy_flags.contains(name)) << spelling;
    }
  }
}

TEST(Options, UnderscoresOfValuesStay) {
  Options options;
  EXPECT_EQ(Parse({"--cluster_cidr=a_b", "--hostname_override", "node_7"}, options), std::nullopt);
  EXPECT_EQ(options.kube_proxy_flags["--cluster-cidr"], "a_b");
  EXPECT_EQ(options.node_name, "node_7");
}

TEST(Options, AFlagThatNobodyHasIsRefused) {
  Options options;
  EXPECT_NE(Parse({"--enable-dsr"}, options).value_or(0), 0);
}

}  // namespace
}  // namespace pointsman::agent

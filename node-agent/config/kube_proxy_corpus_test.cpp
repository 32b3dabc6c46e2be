// Configuration files as they are found on nodes (testdata/, reconstructed): of hand-made installs,
// of kubeadm from 1.15 on, of providers, and gone wrong in ways that kube-proxy puts up with. Each
// ends with what is expected of it: "# mode: …", a "# warning: …" for each that is in the log and
// no others, or an "# error: …" for each that refuses it.
#include <algorithm>
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>

#include "node-agent/config/kube_proxy_configuration.h"

namespace pointsman::agent {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::StartsWith;

struct Expected {
  std::string mode;
  std::vector<std::string> warnings;
  std::vector<std::string> errors;
};

Expected ReadExpected(const fs::path& file) {
  Expected expected;
  const fs::path beside = file.string() + ".expected";  // JSON has no comments
  std::ifstream lines(fs::exists(beside) ? beside : file);
  for (std::string line; std::getline(lines, line);) {
    const auto rest = [&line](const std::string& what) {
      return line.starts_with(what) ? std::optional(line.substr(what.size())) : std::nullopt;
    };
    if (const auto mode = rest("# mode: ")) expected.mode = *mode;
    if (const auto warning = rest("# warning: ")) expected.warnings.push_back(*warning);
    if (const auto error = rest("# error: ")) expected.errors.push_back(*error);
  }
  return expected;
}

std::vector<fs::path> Files() {
  std::vector<fs::path> files;
  for (const auto& entry :
       fs::directory_iterator(POINTSMAN_SOURCE_DIR "/node-agent/config/testdata")) {
    if (entry.path().extension() != ".expected") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

class KubeProxyCorpus : public testing::TestWithParam<fs::path> {};

TEST_P(KubeProxyCorpus, IsReadAsKubeProxyReadsIt) {
  const fs::path& file = GetParam();
  const Expected expected = ReadExpected(file);
  const std::string text = ReadConfigurationFile(file);
  if (!expected.errors.empty()) {
    try {
      ParseKubeProxyConfiguration(text, "config.conf");
      ADD_FAILURE() << "accepted";
    } catch (const std::invalid_argument& error) {
      EXPECT_THAT(error.what(), StartsWith("config.conf: "));
      for (const std::string& each : expected.errors)
        EXPECT_THAT(error.what(), HasSubstr(each));
    }
    return;
  }
  ASSERT_NE(expected.mode, "") << "says nothing of what is expected";
  const KubeProxyConfiguration configuration = ParseKubeProxyConfiguration(text, "config.conf");
  EXPECT_EQ(kube::ToString(configuration.settings.mode), expected.mode);
  ASSERT_EQ(configuration.notes.size(), expected.warnings.size())
      << testing::PrintToString(configuration.notes);
  for (const std::string& warning : expected.warnings) {
    EXPECT_TRUE(std::any_of(
        configuration.notes.begin(), configuration.notes.end(),
        [&](const std::string& note) { return note.starts_with("config.conf: " + warning); }))
        << warning << " in " << testing::PrintToString(configuration.notes);
  }
}

std::string NameOf(const testing::TestParamInfo<fs::path>& info) {
  std::string name = info.param.filename().string();
  std::replace_if(
      name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Files, KubeProxyCorpus, testing::ValuesIn(Files()), NameOf);

}  // namespace
}  // namespace pointsman::agent

#include "node-agent/config/configuration_checks.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kube/config/yaml_json.h"
#include "kube/testing/mutator.h"

namespace pointsman::testing {
namespace {

// The files of testdata/, each also as JSON, which is YAML: so values and not only bytes change.
std::vector<std::string> Corpus() {
  std::vector<std::filesystem::path> files;
  for (const auto& entry :
       std::filesystem::directory_iterator(POINTSMAN_SOURCE_DIR "/node-agent/config/testdata")) {
    files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  std::vector<std::string> corpus;
  for (const auto& file : files) {
    std::ostringstream text;
    text << std::ifstream(file).rdbuf();
    corpus.push_back(text.str());
    try {
      corpus.push_back(kube::ParseYaml(text.str()).value.dump());
    } catch (const std::invalid_argument&) {
      continue;  // one of those that are refused
    }
  }
  return corpus;
}

TEST(ConfigurationChecks, HoldForMutations) {
  const std::vector<std::string> corpus = Corpus();
  ASSERT_GE(corpus.size(), 40U);
  ForMutations(corpus, 150, CheckKubeProxyConfiguration);
}

}  // namespace
}  // namespace pointsman::testing

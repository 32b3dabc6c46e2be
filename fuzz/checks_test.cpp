// Each check over its corpus and mutations of it, always the same ones: what fuzzing would find
// within seconds is found by the suite.
#include "fuzz/checks.h"

#include <filesystem>
#include <fstream>
#include <sstream>

#include <gtest/gtest.h>

#include "kube/testing/mutator.h"

namespace pointsman::fuzz {
namespace {

std::vector<std::string> CorpusOf(std::string_view name) {
  std::vector<std::filesystem::path> files;
  for (const auto& file :
       std::filesystem::directory_iterator(std::filesystem::path(POINTSMAN_FUZZ_CORPUS) / name)) {
    files.push_back(file.path());
  }
  std::sort(files.begin(), files.end());
  std::vector<std::string> corpus;
  for (const std::filesystem::path& file : files) {
    std::ostringstream text;
    text << std::ifstream(file).rdbuf();
    corpus.push_back(text.str());
  }
  return corpus;
}

class FuzzChecks : public ::testing::TestWithParam<Check> {};

TEST_P(FuzzChecks, HoldForTheCorpusAndMutationsOfIt) {
  const std::vector<std::string> corpus = CorpusOf(GetParam().name);
  ASSERT_FALSE(corpus.empty());
  testing::ForMutations(corpus, 500, GetParam().run);
}

INSTANTIATE_TEST_SUITE_P(Checks, FuzzChecks, ::testing::ValuesIn(kChecks),
                         [](const auto& check) { return std::string(check.param.name); });

}  // namespace
}  // namespace pointsman::fuzz

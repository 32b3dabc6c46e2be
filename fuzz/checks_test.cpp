// Each check over its corpus and mutations of it, always the same ones: what fuzzing would find
// within seconds is found by the suite.
#include "fuzz/checks.h"

#include <gtest/gtest.h>

#include "kube/testing/corpus.h"
#include "kube/testing/mutator.h"

namespace pointsman::fuzz {
namespace {

class FuzzChecks : public ::testing::TestWithParam<Check> {};

TEST_P(FuzzChecks, HoldForTheCorpusAndMutationsOfIt) {
  testing::ForMutations(testing::Corpus(GetParam().name), GetParam().mutations, GetParam().run);
}

INSTANTIATE_TEST_SUITE_P(Checks, FuzzChecks, ::testing::ValuesIn(kChecks),
                         [](const auto& check) { return std::string(check.param.name); });

}  // namespace
}  // namespace pointsman::fuzz

#include "node-agent/status/status_checks.h"

#include <gtest/gtest.h>

#include "kube/testing/mutator.h"

namespace pointsman::agent {
namespace {

TEST(StatusChecksTest, WhateverIsSaidOfANodeCanBeReported) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    const std::string text = testing::Mutator(seed).OddText();
    try {
      CheckStatusReport(text);
      CheckStatusReport(testing::Mutator(seed).Bytes(text));
    } catch (const std::exception& error) {
      testing::ThrowFor(seed, text, error.what());
    }
  }
}

}  // namespace
}  // namespace pointsman::agent

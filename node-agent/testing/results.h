// For tests: what a dataplane said, as text, and expectations that print it.
#pragma once

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "node-agent/dataplane/dataplane.h"

namespace pointsman::agent::testing {

inline std::string Text(const std::vector<SyncProblem>& problems) {
  std::string text;
  for (const SyncProblem& problem : problems)
    text += problem.object + ": " + problem.message + "\n";
  return text;
}
inline std::string Text(const SyncResult& result) {
  return Text(result.problems);
}
inline std::string Text(const VerifyResult& result) {
  return Text(result.differences);
}

}  // namespace pointsman::agent::testing

// The kernel took all of it.
#define EXPECT_SYNCED(expression)                                                        \
  do {                                                                                   \
    const ::pointsman::agent::SyncResult& synced_result = (expression);                  \
    EXPECT_TRUE(synced_result.ok()) << ::pointsman::agent::testing::Text(synced_result); \
  } while (false)

// The kernel has what the model says.
#define EXPECT_VERIFIED(expression)                                                          \
  do {                                                                                       \
    const ::pointsman::agent::VerifyResult& verified_result = (expression);                  \
    EXPECT_TRUE(verified_result.ok()) << ::pointsman::agent::testing::Text(verified_result); \
  } while (false)

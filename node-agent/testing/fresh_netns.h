// For tests: a network namespace of its own.
#pragma once

#include <cerrno>
#include <system_error>

#include <gtest/gtest.h>
#include <sched.h>

namespace pointsman::agent {

// Moves the calling thread into a new, empty network namespace, which ends with the thread (or with
// the next call). False when not permitted.
inline bool EnterFreshNetns() {
  if (::unshare(CLONE_NEWNET) == 0) return true;
  if (errno == EPERM) return false;
  throw std::system_error(errno, std::generic_category(), "unshare(CLONE_NEWNET)");
}

class FreshNetnsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!EnterFreshNetns()) GTEST_SKIP() << "needs root to make a network namespace";
  }
};

}  // namespace pointsman::agent

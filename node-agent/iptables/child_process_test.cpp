#include "node-agent/iptables/child_process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pointsman::agent {
namespace {

TEST(ChildProcess, PassesMoreThanAPipeHoldsBothWays) {
  std::string input(5'000'000, 'x');
  for (size_t i = 0; i < input.size(); i += 97)
    input[i] = static_cast<char>('a' + i % 26);
  const std::string_view pieces[] = {"", std::string_view(input).substr(0, 3'000'000), "",
                                     std::string_view(input).substr(3'000'000)};
  std::string output;
  ChildExit exit = RunChild({"/bin/cat"}, pieces, [&](std::string_view piece) { output += piece; });
  EXPECT_EQ(exit.status, 0);
  EXPECT_TRUE(output == input);
}

TEST(ChildProcess, ReportsStatusAndErrorOutput) {
  ChildExit exit = RunChild({"/bin/ls", "/does/not/exist"}, {}, nullptr);
  EXPECT_EQ(exit.status, 2);
  EXPECT_THAT(exit.error_output, ::testing::HasSubstr("/does/not/exist"));
}

TEST(ChildProcess, ChildThatDoesNotReadItsInputIsNoProblem) {
  const std::string input(5'000'000, 'x');
  const std::string_view pieces[] = {input};
  ChildExit exit = RunChild({"/bin/true"}, pieces, nullptr);
  EXPECT_EQ(exit.status, 0);
}

TEST(ChildProcess, KeepsOnlyTheBeginningOfEndlessErrorOutput) {
  ChildExit exit = RunChild({"/bin/sh", "-c", "head -c 1000000 /dev/zero >&2"}, {}, nullptr);
  EXPECT_EQ(exit.status, 0);
  EXPECT_EQ(exit.error_output.size(), 64U * 1024);
}

TEST(ChildProcess, ThrowsWhenTheProgramIsMissing) {
  EXPECT_THROW(RunChild({"/does/not/exist"}, {}, nullptr), std::system_error);
}

TEST(ChildProcess, ThrowingCallbackEndsTheChild) {
  EXPECT_THROW(
      RunChild({"/usr/bin/yes"}, {}, [](std::string_view) { throw std::runtime_error("enough"); }),
      std::runtime_error);
}

TEST(ChildProcess, SignalledChildIsAFailure) {
  ChildExit exit = RunChild({"/bin/sh", "-c", "kill -9 $$"}, {}, nullptr);
  EXPECT_EQ(exit.status, 128 + 9);
}

}  // namespace
}  // namespace pointsman::agent

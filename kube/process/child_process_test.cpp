#include "kube/process/child_process.h"

#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kube/testing/eventually.h"

namespace pointsman::kube {
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

// What RunChild says of a child that it killed.
std::string Killed(const std::vector<std::string>& argv, const ChildLimits& limits,
                   const std::function<void(std::string_view)>& on_output = nullptr) {
  std::string said = "not killed";
  EXPECT_TRUE(AtOnce([&] {
    try {
      RunChild(argv, {}, on_output, limits);
    } catch (const ChildKilled& error) {
      said = error.what();
    }
  }));
  return said;
}

TEST(ChildProcess, OneThatDoesNotEndIsKilled) {
  const ChildLimits limits{.idle = std::chrono::milliseconds(200)};
  for (const char* script : {
           "sleep 1000",
           "exec >&- 2>&-; exec sleep 1000",                      // nothing more comes from it
           "trap '' TERM INT HUP; while :; do sleep 1000; done",  // it does not want to
           "kill -STOP $$",
       }) {
    EXPECT_THAT(
        Killed({"/bin/sh", "-c", script}, limits),
        ::testing::AllOf(::testing::HasSubstr(std::string("/bin/sh -c ") + script),
                         ::testing::ContainsRegex("not ended after 0[.][2-9] s|after [1-9]")));
  }
}

TEST(ChildProcess, ItsOwnChildrenGoWithIt) {
  std::string pid;
  Killed({"/bin/sh", "-c", "sleep 1000 & echo $!; wait"}, {.idle = std::chrono::milliseconds(200)},
         [&](std::string_view piece) { pid += piece; });
  const auto runs = [&] {
    std::ifstream status("/proc/" + std::to_string(std::stoi(pid)) + "/stat");
    std::string number;
    std::string name;
    char state = 'X';
    status >> number >> name >> state;
    return state != 'X' && state != 'Z';  // nobody may be there to reap it
  };
  EXPECT_TRUE(Eventually([&] { return !runs(); }));
}

TEST(ChildProcess, OneThatWorksHasMoreTimeButNotForEver) {
  const std::vector<std::string> spins{"/bin/sh", "-c", "while :; do :; done"};
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_THAT(Killed(spins, {.idle = std::chrono::milliseconds(300),
                             .most = std::chrono::milliseconds(1000)}),
              ::testing::HasSubstr("was killed"));
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(1000));
}

TEST(ChildProcess, OneThatWritesForEverIsKilled) {
  EXPECT_THAT(Killed({"/usr/bin/yes"}, {.output = 10'000'000}),
              ::testing::HasSubstr("/usr/bin/yes was killed: it wrote more than 10000000 bytes"));
  EXPECT_THAT(Killed({"/bin/sh", "-c", "exec yes >&2"}, {.output = 10'000'000}),
              ::testing::HasSubstr("wrote more than"));
}

TEST(ChildProcess, OneWhoseEndIsAskedForIsKilled) {
  std::stop_source stop;
  const auto run = [&] {
    EXPECT_TRUE(AtOnce([&] {
      EXPECT_THROW(RunChild(
                       {"/bin/sh", "-c", "echo begun; exec sleep 1000"}, {},
                       [&](std::string_view) { stop.request_stop(); }, {}, stop.get_token()),
                   ChildKilled);
    }));
  };
  run();
  run();  // and one that begins after that
}

TEST(ChildProcess, SignalledChildIsAFailure) {
  ChildExit exit = RunChild({"/bin/sh", "-c", "kill -9 $$"}, {}, nullptr);
  EXPECT_EQ(exit.status, 128 + 9);
}

}  // namespace
}  // namespace pointsman::kube

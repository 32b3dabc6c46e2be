#include "kube/testing/patient_poll.h"

#include <array>
#include <csignal>
#include <sys/wait.h>
#include <thread>

#include <gtest/gtest.h>
#include <unistd.h>

namespace pointsman {
namespace {

using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""s;

TEST(PatienceTest, EndsWhenNothingComes) {
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe(pipe.data()), 0);
  pollfd entry{pipe[0], POLLIN, 0};
  const auto before = Patience::Clock::now();
  EXPECT_EQ(Patience(120ms).Poll(entry), 0);
  EXPECT_GE(Patience::Clock::now() - before, 120ms);
  EXPECT_EQ(Patience(0ms).Poll(entry), 0);
  ASSERT_EQ(write(pipe[1], "x", 1), 1);
  EXPECT_EQ(Patience(0ms).Poll(entry), 1);
  close(pipe[0]);
  close(pipe[1]);
}

TEST(PatienceTest, DoesNotCountTheTimeInWhichTheProcessStandsStill) {
  constexpr auto kPatience = 2s;
  std::array<int, 2> to_child{};
  std::array<int, 2> from_child{};
  ASSERT_EQ(::pipe(to_child.data()), 0);
  ASSERT_EQ(::pipe(from_child.data()), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    pollfd entry{to_child[0], POLLIN, 0};
    const bool told = write(from_child[1], "x", 1) == 1;
    _exit(told && Patience(kPatience).Poll(entry) == 1 ? 0 : 1);
  }
  char byte = 0;
  ASSERT_EQ(read(from_child[0], &byte, 1), 1);
  ASSERT_EQ(kill(child, SIGSTOP), 0);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, WUNTRACED), child);
  ASSERT_TRUE(WIFSTOPPED(status)) << "it waits for two seconds";
  std::this_thread::sleep_for(kPatience + 500ms);  // for so long it stands still
  ASSERT_EQ(kill(child, SIGCONT), 0);
  ASSERT_EQ(write(to_child[1], "x", 1), 1);
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "its patience was over";
  for (const int fd : {to_child[0], to_child[1], from_child[0], from_child[1]})
    close(fd);
}

}  // namespace
}  // namespace pointsman

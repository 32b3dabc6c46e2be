#include "node-agent/agent/agent_lock.h"

#include <array>
#include <cstring>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <thread>

#include <gmock/gmock.h>
#include <signal.h>
#include <unistd.h>

#include "kube/testing/eventually.h"
#include "node-agent/testing/fresh_netns.h"

namespace pointsman::agent {
namespace {

using ::testing::HasSubstr;
using namespace std::chrono_literals;

class AgentLockTest : public FreshNetnsTest {
 protected:
  // A process of the same network namespace that does `work`, says so and then waits.
  template <typename Work>
  pid_t Other(const Work& work) {
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe(ends.data()), 0);
    const pid_t pid = ::fork();
    if (pid == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      const char done = work() ? '+' : '-';
      if (::write(ends[1], &done, 1) == 1) ::pause();
      ::_exit(0);
    }
    char done = 0;
    EXPECT_EQ(::read(ends[0], &done, 1), 1);
    EXPECT_EQ(done, '+');
    ::close(ends[0]);
    ::close(ends[1]);
    return pid;
  }
  static void Kill(pid_t pid) {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
  // Another agent.
  pid_t Agent() {
    return Other([] {
      static AgentLock lock;
      return lock.TryTake().empty();
    });
  }
};

TEST_F(AgentLockTest, OnlyOneHasItAndTheOtherIsToldWho) {
  const pid_t other = Agent();
  AgentLock lock;
  EXPECT_THAT(lock.TryTake(), HasSubstr("process " + std::to_string(other) + " ("));
  try {
    lock.Take(200ms, {});
    ADD_FAILURE() << "both have it";
  } catch (const std::runtime_error& error) {
    EXPECT_THAT(error.what(), HasSubstr("process " + std::to_string(other)));
    EXPECT_THAT(error.what(), HasSubstr("agent_lock_test"));
  }
  Kill(other);
}

TEST_F(AgentLockTest, AKilledOneLeavesNothing) {
  Kill(Agent());
  EXPECT_EQ(AgentLock().TryTake(), "");
}

TEST_F(AgentLockTest, ASuccessorTakesOverAsSoonAsItsPredecessorHasEnded) {
  const pid_t other = Agent();
  std::jthread ends([&] {
    std::this_thread::sleep_for(300ms);
    Kill(other);
  });
  AgentLock lock;
  EXPECT_TRUE(AtOnce([&] { EXPECT_TRUE(lock.Take(AgentLock::kPatience, {})); }));
}

TEST_F(AgentLockTest, WhoWaitsCanBeEnded) {
  const pid_t other = Agent();
  std::stop_source stop;
  stop.request_stop();
  AgentLock lock;
  EXPECT_FALSE(lock.Take(AgentLock::kPatience, stop.get_token()));
  Kill(other);
}

TEST_F(AgentLockTest, AnotherNetworkNamespaceIsAnotherNode) {
  const pid_t other = Agent();
  ASSERT_TRUE(EnterFreshNetns());
  EXPECT_EQ(AgentLock().TryTake(), "");
  Kill(other);
}

// Anybody may take an abstract name.
TEST_F(AgentLockTest, AStrangerKeepsNoAgentFromStarting) {
  const pid_t stranger = Other([] {
    if (::setuid(65534) != 0) return false;
    const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path + 1, AgentLock::kName.data(), AgentLock::kName.size());
    const auto size =
        static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + AgentLock::kName.size());
    return ::bind(fd, reinterpret_cast<sockaddr*>(&address), size) == 0 && ::listen(fd, 1) == 0;
  });
  EXPECT_EQ(AgentLock().TryTake(), "");
  Kill(stranger);
}

}  // namespace
}  // namespace pointsman::agent

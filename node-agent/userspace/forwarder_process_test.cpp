// The forwarder's process: who starts it, what it outlives and when it ends.
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>
#include <sys/stat.h>
#include <sys/wait.h>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "kube/testing/eventually.h"
#include "node-agent/userspace/forwarder_link.h"
#include "node-agent/userspace/testing/forwarder_fixture.h"
#include "node-agent/userspace/testing/sockets.h"

namespace pointsman::agent {
namespace {

using forwarder::Slot;
using testing::At;
using testing::ConnectTcp;
using testing::EchoServer;
using testing::IpPort;
using testing::Receive;
using testing::ReceiveAll;
using testing::Send;

using namespace std::chrono_literals;

// The forwarder dies: another one is there at once, with the same table, on the same port.
TEST_F(ForwarderTest, AKilledForwarderIsReplaced) {
  Start();
  EchoServer server(At("127.0.0.2", 0), "+");
  Put(MakeSlot(1, {server.place()}));
  const IpPort place = Place(1);
  const pid_t before = link_->pid();
  const UniqueFd client = ConnectTcp(place);
  EXPECT_EQ(Receive(client, 1), "+");
  ASSERT_EQ(::kill(before, SIGKILL), 0);
  EXPECT_EQ(ReceiveAll(client).bytes, "");  // its connections end with it
  ASSERT_TRUE(Eventually([&] { return link_->pid() != 0 && link_->pid() != before; }, kAtOnce));
  EXPECT_EQ(Place(1), place);
  ASSERT_TRUE(Eventually([&] { return link_->Statistics().slots == 1; }));
  EXPECT_EQ(Greeting(1), "+");
}

// kill -9 of the agent: connections and new clients are served; the next agent adopts.
TEST_F(ForwarderTest, AKilledAgentIsSurvived) {
  EchoServer server(At("127.0.0.2", 0), "+");
  int pipe[2];
  ASSERT_EQ(::pipe2(pipe, O_CLOEXEC), 0);
  const pid_t agent = ::fork();
  if (agent == 0) {
    ForwarderLink link(settings_);
    link.Ensure();
    link.Dump();
    link.Change({MakeSlot(5, {server.place()})}, {}, 5);
    const uint16_t port = link.port(net::Family::kIPv4);
    if (::write(pipe[1], &port, sizeof port) != sizeof port) ::_exit(1);
    ::pause();
    ::_exit(0);
  }
  ::close(pipe[1]);
  uint16_t port = 0;
  ASSERT_EQ(::read(pipe[0], &port, sizeof port), static_cast<ssize_t>(sizeof port));
  ::close(pipe[0]);
  const IpPort place{forwarder::SlotAddress(net::Family::kIPv4, 5), port};
  const UniqueFd client = ConnectTcp(place);
  EXPECT_EQ(Receive(client, 1), "+");
  ASSERT_EQ(::kill(agent, SIGKILL), 0);
  ASSERT_EQ(::waitpid(agent, nullptr, 0), agent);
  Send(client, "still here");
  EXPECT_EQ(Receive(client, 10), "still here");
  EXPECT_EQ(Receive(ConnectTcp(place), 1), "+");

  link_ = std::make_unique<ForwarderLink>(settings_);
  EXPECT_EQ(link_->Ensure(), ForwarderLink::Found::kAdopted);
  EXPECT_EQ(link_->port(net::Family::kIPv4), port);
  EXPECT_EQ(link_->last_slot(), 5U);
  const std::vector<Slot> slots = link_->Dump();
  ASSERT_EQ(slots.size(), 1U);
  EXPECT_EQ(slots[0], MakeSlot(5, {server.place()}));
  Send(client, "!");
  EXPECT_EQ(Receive(client, 1), "!");
  // And it obeys.
  EchoServer other(At("127.0.0.3", 0), "o");
  Put(MakeSlot(5, {other.place()}));
  EXPECT_EQ(Greeting(5), "o");
}

TEST_F(ForwarderTest, AnotherVersionIsDrainedAndReplaced) {
  Start();
  EchoServer server(At("127.0.0.2", 0), "+");
  Put(MakeSlot(1, {server.place()}));
  UniqueFd client = ConnectTcp(Place(1));
  EXPECT_EQ(Receive(client, 1), "+");
  const pid_t before = link_->pid();
  link_.reset();
  settings_.version = "next";
  link_ = std::make_unique<ForwarderLink>(settings_);
  EXPECT_EQ(link_->Ensure(), ForwarderLink::Found::kStarted);
  EXPECT_NE(link_->pid(), before);
  Put(MakeSlot(1, {server.place()}));
  link_->RetireOthers(60s);
  EXPECT_EQ(Greeting(1), "+");
  Send(client, "old");
  EXPECT_EQ(Receive(client, 3), "old");
  client.Reset();
  // Its last connection gone, it ends by itself. The first link's child: it stays a zombie until
  // somebody waits for it.
  ASSERT_TRUE(Eventually([&] { return ::waitpid(before, nullptr, WNOHANG) == before; }));
  EXPECT_EQ(Greeting(1), "+");
}

TEST_F(ForwarderTest, ADrainEndsWithTheLastConnectionAndCanBeTakenBack) {
  Start();
  EchoServer server(At("127.0.0.2", 0), "+");
  Put(MakeSlot(1, {server.place()}));
  UniqueFd client = ConnectTcp(Place(1));
  EXPECT_EQ(Receive(client, 1), "+");
  const pid_t pid = link_->pid();
  EXPECT_EQ(link_->Drain(60s).tcp_connections, 1U);
  Send(client, "!");
  EXPECT_EQ(Receive(client, 1), "!");
  EXPECT_EQ(link_->Ensure(), ForwarderLink::Found::kConnected);
  client.Reset();
  ASSERT_TRUE(Eventually([&] { return link_->Statistics().tcp_connections == 0; }));
  // Longer than a drain without connections takes.
  EXPECT_EQ(::poll(nullptr, 0, 2600), 0);
  EXPECT_EQ(link_->pid(), pid);
  EXPECT_EQ(Greeting(1), "+");
  // It has nothing left, but the agent may have to tell it something.
  link_->Drain(60s);
  EXPECT_EQ(::poll(nullptr, 0, 2600), 0);
  EXPECT_EQ(link_->Drain(60s).tcp_connections, 0U);
  EXPECT_EQ(link_->pid(), pid);
  link_.reset();
  link_ = std::make_unique<ForwarderLink>(settings_);
  ASSERT_TRUE(Eventually([&] { return !link_->AnyPresent(); }));
  EXPECT_EQ(link_->Drain(60s).tcp_connections, 0U);
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
}

TEST_F(ForwarderTest, ADrainsTimeCountsFromTheLastQuestion) {
  Start();
  EchoServer server(At("127.0.0.2", 0), "+");
  Put(MakeSlot(1, {server.place()}));
  UniqueFd client = ConnectTcp(Place(1));
  EXPECT_EQ(Receive(client, 1), "+");
  link_->Drain(1s);
  link_->Drain(60s);
  EXPECT_EQ(::poll(nullptr, 0, 1600), 0);
  EXPECT_EQ(link_->Drain(60s).tcp_connections, 1U);
  Send(client, "!");
  EXPECT_EQ(Receive(client, 1), "!");
}

TEST_F(ForwarderTest, ThePortRangeIsKept) {
  settings_.port_range = {41000, 41001};
  Start();
  EXPECT_EQ(link_->port(net::Family::kIPv4), 41000);
  EXPECT_EQ(link_->port(net::Family::kIPv6), 41000);
  ForwarderSettings second = settings_;
  second.version = "second";
  ForwarderLink another(second);
  another.Ensure();
  EXPECT_EQ(another.port(net::Family::kIPv4), 41001);
  ForwarderSettings third = settings_;
  third.version = "third";
  ForwarderLink none(third);
  try {
    none.Ensure();
    FAIL() << "started on port " << none.port(net::Family::kIPv4);
  } catch (const std::runtime_error& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("portRange 41000-41001"));
  }
}

TEST_F(ForwarderTest, OthersMayNotControlIt) {
  Start();
  struct stat status {};
  ASSERT_EQ(::stat(settings_.directory.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700U);
  for (const auto& entry : std::filesystem::directory_iterator(settings_.directory)) {
    ASSERT_EQ(::stat(entry.path().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0600U);
  }
  // A directory that others can write to is not used.
  ASSERT_EQ(::chmod(settings_.directory.c_str(), 0777), 0);
  ForwarderSettings other = settings_;
  other.version = "other";
  ForwarderLink refused(other);
  EXPECT_THROW(refused.Ensure(), std::runtime_error);
  ASSERT_EQ(::chmod(settings_.directory.c_str(), 0700), 0);
  // It runs with few capabilities: NET_ADMIN (12) and SYS_RESOURCE (24) at most.
  std::ifstream proc("/proc/" + std::to_string(link_->pid()) + "/status");
  for (std::string line; std::getline(proc, line);) {
    if (!line.starts_with("CapEff:")) continue;
    const uint64_t capabilities = std::stoull(line.substr(7), nullptr, 16);
    EXPECT_EQ(capabilities & ~((1ULL << 12) | (1ULL << 24)), 0U) << line;
  }
}

// `pointsman-forwarder --launcher`, as in a container of its own.
class LauncherTest : public ForwarderTest {
 protected:
  void SetUp() override {
    ForwarderTest::SetUp();
    if (IsSkipped()) return;
    settings_.launcher = settings_.directory + "-launcher.sock";
    // Nothing is started but by the launcher.
    program_ = std::exchange(settings_.program, "");
  }
  void TearDown() override {
    ForwarderTest::TearDown();
    EndLauncher(SIGKILL);
    if (!settings_.launcher.empty()) ::unlink(settings_.launcher.c_str());
  }
  void StartLauncher() {
    launcher_ = ::fork();
    ASSERT_GE(launcher_, 0);
    if (launcher_ > 0) return;
    ::execl(program_.c_str(), program_.c_str(), "--launcher", settings_.launcher.c_str(), nullptr);
    ::_exit(127);
  }
  // Its wait status; -1: there was none.
  int EndLauncher(int signal) {
    if (launcher_ <= 0) return -1;
    int status = -1;
    ::kill(launcher_, signal);
    ::waitpid(std::exchange(launcher_, -1), &status, 0);
    return status;
  }

  std::string program_;
  pid_t launcher_ = -1;
};

TEST_F(LauncherTest, StartsForwardersThatOutliveTheAgentAndEndsAfterThem) {
  // The agent is first, and waits.
  auto started = std::async(std::launch::async, [this] {
    link_ = std::make_unique<ForwarderLink>(settings_);
    return link_->Ensure();
  });
  StartLauncher();
  ASSERT_EQ(started.get(), ForwarderLink::Found::kStarted);
  struct stat status {};
  ASSERT_EQ(::stat(settings_.launcher.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
  ASSERT_TRUE(link_->Dump().empty());
  std::ifstream proc("/proc/" + std::to_string(link_->pid()) + "/stat");
  std::string word;
  for (int i = 0; i < 4; ++i)
    proc >> word;
  EXPECT_EQ(word, std::to_string(launcher_)) << "the launcher is its parent";

  EchoServer server(At("127.0.0.2", 0), "+");
  Put(MakeSlot(1, {server.place()}));
  UniqueFd client = ConnectTcp(Place(1));
  EXPECT_EQ(Receive(client, 1), "+");
  const pid_t first = link_->pid();
  link_ = std::make_unique<ForwarderLink>(settings_);
  EXPECT_EQ(link_->Ensure(), ForwarderLink::Found::kAdopted);
  EXPECT_EQ(link_->pid(), first);
  ASSERT_EQ(link_->Dump().size(), 1U);

  // A killed forwarder has a successor with the same table on the same port.
  const IpPort place = Place(1);
  ::kill(first, SIGKILL);
  ASSERT_TRUE(Eventually([&] { return link_->pid() != 0 && link_->pid() != first; }));
  EXPECT_EQ(Place(1), place);
  EXPECT_EQ(Greeting(1), "+");

  // Told to end it waits for what it has started.
  client = ConnectTcp(Place(1));
  EXPECT_EQ(Receive(client, 1), "+");
  ::kill(launcher_, SIGTERM);
  ASSERT_TRUE(Eventually([&] { return ::access(settings_.launcher.c_str(), F_OK) != 0; }));
  EXPECT_EQ(::waitpid(launcher_, nullptr, WNOHANG), 0);
  Send(client, "!");
  EXPECT_EQ(Receive(client, 1), "!");
  link_->ExitAll();
  int ended = -1;
  const pid_t launcher = std::exchange(launcher_, -1);
  EXPECT_EQ(::waitpid(launcher, &ended, 0), launcher);
  EXPECT_EQ(ended, 0);
}

TEST_F(LauncherTest, ASuccessorTakesTheSocketOfAKilledOneButNotOfARunningOne) {
  StartLauncher();
  Start();
  const pid_t first = std::exchange(launcher_, -1);
  StartLauncher();
  int status = 0;
  ASSERT_EQ(::waitpid(std::exchange(launcher_, -1), &status, 0) > 0, true);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 1) << "there is one already";
  link_->ExitAll();
  ::kill(first, SIGKILL);
  ::waitpid(first, nullptr, 0);
  StartLauncher();
  Start();
}

TEST_F(LauncherTest, WithoutALauncherNothingIsStartedAndItIsSaid) {
  settings_.launcher_patience = 100ms;
  link_ = std::make_unique<ForwarderLink>(settings_);
  try {
    link_->Ensure();
    FAIL() << "started by nobody";
  } catch (const std::runtime_error& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr(settings_.launcher));
  }
}

}  // namespace
}  // namespace pointsman::agent

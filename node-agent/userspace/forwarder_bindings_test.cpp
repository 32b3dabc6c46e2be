// Clients with affinity, read from and given to a forwarder; its control socket.
#include <filesystem>
#include <future>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <sys/socket.h>
#include <sys/stat.h>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "kube/testing/eventually.h"
#include "node-agent/userspace/forwarder/protocol.h"
#include "node-agent/userspace/forwarder/unix_socket.h"
#include "node-agent/userspace/forwarder_link.h"
#include "node-agent/userspace/testing/forwarder_fixture.h"
#include "node-agent/userspace/testing/sockets.h"

namespace pointsman::agent {
namespace {

using testing::At;
using testing::ConnectTcp;
using testing::EchoServer;
using testing::IpPort;
using testing::Receive;
using testing::ReceiveAll;
using testing::Send;

using namespace std::chrono_literals;

// By service and client.
using BindingMap = std::map<std::pair<std::string, net::IpAddress>, forwarder::Binding>;

BindingMap ByClient(const std::vector<forwarder::ServiceBindings>& services) {
  BindingMap all;
  for (const forwarder::ServiceBindings& of : services) {
    for (const forwarder::Binding& binding : of.bindings)
      EXPECT_TRUE(all.emplace(std::pair(of.service, binding.client), binding).second);
  }
  return all;
}

TEST_F(ForwarderTest, BindingsGoOutAndInByTheTenThousands) {
  Start();
  std::vector<std::unique_ptr<EchoServer>> servers;
  std::vector<IpPort> places;
  for (int i = 0; i < 5; ++i) {
    servers.push_back(std::make_unique<EchoServer>(At("127.0.0." + std::to_string(2 + i), 0),
                                                   std::string(1, static_cast<char>('a' + i))));
    places.push_back(servers.back()->place());
  }
  Put(MakeSlot(1, places, false, 3600));
  Put(MakeSlot(2, places, false, 3600));
  std::vector<forwarder::ServiceBindings> given;
  constexpr uint32_t kClients = 40'000;  // of each; more than a frame holds
  for (uint32_t number : {1U, 2U}) {
    forwarder::ServiceBindings& of = given.emplace_back();
    of.service = MakeSlot(number, {}).service;
    for (uint32_t i = 0; i < kClients; ++i) {
      of.bindings.push_back(
          {net::IpAddress::V4(0x7f100000U + i), places[(i + number) % 5], 1000 + i % 2000});
    }
  }
  EXPECT_EQ(link_->Bind(given), 0U);
  const auto ask = [&](uint32_t number, uint32_t client) {
    const net::IpAddress from = net::IpAddress::V4(0x7f100000U + client);
    return Receive(ConnectTcp(Place(number), &from), 1);
  };
  const BindingMap told = ByClient(link_->Bindings());
  const BindingMap wanted = ByClient(given);
  ASSERT_EQ(told.size(), wanted.size());
  for (const auto& [client, binding] : wanted) {
    const auto found = told.find(client);
    ASSERT_NE(found, told.end());
    EXPECT_EQ(found->second.backend, binding.backend);
    ASSERT_LE(found->second.seconds_left, binding.seconds_left);
    ASSERT_GE(found->second.seconds_left + 60, binding.seconds_left);
  }
  for (const uint32_t number : {1U, 2U}) {
    for (const uint32_t client : {0U, 1U, 2U, 12'345U, kClients - 1})
      EXPECT_EQ(ask(number, client),
                std::string(1, static_cast<char>('a' + (client + number) % 5)));
  }
  // Into a forwarder that has none.
  link_->ExitAll();
  link_.reset();
  Start();
  Put(MakeSlot(1, places, false, 3600));
  EXPECT_EQ(link_->Bind(link_->Bindings()), 0U);
  std::vector<forwarder::ServiceBindings> again;
  for (const auto& [client, binding] : told) {
    if (again.empty() || again.back().service != client.first) again.push_back({client.first, {}});
    again.back().bindings.push_back(binding);
  }
  // There is no such Service as the second one.
  EXPECT_EQ(link_->Bind(again), kClients);
  EXPECT_EQ(ByClient(link_->Bindings()).size(), kClients);
  EXPECT_EQ(ask(1, 12'344), "a");
}

// The one that clients come to is asked, whoever started it.
TEST_F(ForwarderTest, AnotherVersionIsAskedForItsBindingsToo) {
  Start();
  EchoServer a(At("127.0.0.2", 0), "a");
  EchoServer b(At("127.0.0.3", 0), "b");
  Put(MakeSlot(1, {a.place(), b.place()}, false, 3600));
  const net::IpAddress client = net::IpAddress::Parse("127.0.1.1").value();
  ASSERT_EQ(Receive(ConnectTcp(Place(1), &client), 1), "a");
  ForwarderSettings other = settings_;
  other.version = "next";
  ForwarderLink next(other);
  const BindingMap told = ByClient(next.Bindings());
  ASSERT_EQ(told.size(), 1U);
  EXPECT_EQ(told.begin()->second.client, client);
  EXPECT_EQ(told.begin()->second.backend, a.place());
  // But not one that drains.
  link_->Drain(60s);
  EXPECT_THROW(next.Bindings(), std::runtime_error);
  EXPECT_THROW(next.Bind({}), std::runtime_error);
}

TEST_F(ForwarderTest, BindingsAreNotWaitedForLong) {
  Start();
  EchoServer server(At("127.0.0.2", 0), "+");
  Put(MakeSlot(1, {server.place()}, false, 3600));
  EXPECT_EQ(Greeting(1), "+");
  const pid_t pid = link_->pid();
  ASSERT_EQ(::kill(pid, SIGSTOP), 0);
  const auto start = std::chrono::steady_clock::now();
  std::string problem;
  try {
    link_->Bindings();
  } catch (const std::runtime_error& error) {
    problem = error.what();
  }
  const auto took = std::chrono::steady_clock::now() - start;
  ASSERT_EQ(::kill(pid, SIGCONT), 0);
  EXPECT_THAT(problem, ::testing::HasSubstr("no answer within 2 s"));
  EXPECT_GE(took, 1900ms);
  EXPECT_LT(took, kAtOnce);
  // The link is as it was.
  EXPECT_EQ(link_->Bindings().size(), 1U);
  EXPECT_EQ(link_->Ensure(), ForwarderLink::Found::kConnected);
  EXPECT_EQ(link_->pid(), pid);
}

class ControlSocketTest : public ForwarderTest {
 protected:
  UniqueFd Connect() {
    UniqueFd socket = forwarder::UnixSocket(SOCK_STREAM);
    for (const auto& entry : std::filesystem::directory_iterator(settings_.directory))
      EXPECT_TRUE(forwarder::Connect(socket, entry.path()));
    const timeval limit{20, 0};
    ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return socket;
  }
};

TEST_F(ControlSocketTest, WhatIsNoQuestionEndsTheSessionAndNothingElse) {
  Start();
  EchoServer server(At("127.0.0.2", 0), "+");
  Put(MakeSlot(1, {server.place()}, false, 3600));
  const net::IpAddress from = At("127.0.1.2", 0).ip;
  const UniqueFd client = ConnectTcp(Place(1), &from);
  EXPECT_EQ(Receive(client, 1), "+");
  const pid_t pid = link_->pid();
  const auto frame = [](forwarder::FrameType type, std::string_view body) {
    std::string bytes;
    forwarder::AppendFrame(bytes, type, body);
    return bytes;
  };
  const std::string good =
      forwarder::EncodeBindings(
          {{MakeSlot(1, {}).service, {{At("127.0.1.1", 0).ip, server.place(), 60}}}})
          .at(0);
  const std::string questions[] = {
      // As an older forwarder sees kBind.
      frame(static_cast<forwarder::FrameType>(77), good),
      frame(forwarder::FrameType::kBind, good.substr(0, good.size() - 1)),
      frame(forwarder::FrameType::kBind, good + "x"), frame(forwarder::FrameType::kBind, ""),
      // Too large: the header alone.
      forwarder::EncodeU32(forwarder::kMaxBody + 1) +
          forwarder::EncodeU32(static_cast<uint32_t>(forwarder::FrameType::kBind))};
  for (const std::string& question : questions) {
    const UniqueFd control = Connect();
    Send(control, question);
    const testing::Received answer = ReceiveAll(control);
    EXPECT_EQ(answer.error, 0);
    forwarder::FrameReader reader;
    reader.Append(answer.bytes);
    forwarder::FrameType type{};
    std::string_view body;
    ASSERT_TRUE(reader.Next(type, body));
    EXPECT_EQ(type, forwarder::FrameType::kError);
    EXPECT_FALSE(body.empty());
  }
  Send(client, "!");
  EXPECT_EQ(Receive(client, 1), "!");
  EXPECT_EQ(link_->pid(), pid);
  const BindingMap told = ByClient(link_->Bindings());
  ASSERT_EQ(told.size(), 1U);  // none of those
  EXPECT_EQ(told.begin()->second.client, from);
}

// A forwarder of a version that has no bindings to tell keeps its session, and its connections.
TEST_F(ControlSocketTest, AnOlderProtocolIsNotAsked) {
  const UniqueFd listener = forwarder::UnixSocket(SOCK_STREAM);
  const std::string path = settings_.directory + "/forwarder-old.sock";
  forwarder::Listen(listener, path, 1);
  auto questions = std::async(std::launch::async, [&] {
    std::vector<forwarder::FrameType> asked;
    const UniqueFd peer(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    forwarder::FrameReader reader;
    char buffer[4096];
    for (ssize_t count = 0; (count = ::recv(peer.get(), buffer, sizeof buffer, 0)) > 0;) {
      reader.Append({buffer, static_cast<size_t>(count)});
      forwarder::FrameType type{};
      std::string_view body;
      while (reader.Next(type, body)) {
        asked.push_back(type);
        struct stat status {};
        EXPECT_EQ(::stat("/proc/thread-self/ns/net", &status), 0);
        std::string answer;
        forwarder::AppendFrame(
            answer, forwarder::FrameType::kHelloReply,
            Encode(forwarder::HelloReply{.protocol = 1, .version = "old", .netns = status.st_ino}));
        Send(peer, answer);
      }
    }
    return asked;
  });
  link_ = std::make_unique<ForwarderLink>(settings_);
  try {
    link_->Bindings();
    ADD_FAILURE() << "it knows its bindings";
  } catch (const std::runtime_error& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("version old) speaks protocol 1"));
  }
  EXPECT_EQ(questions.get(), std::vector{forwarder::FrameType::kHello});
  EXPECT_EQ(::unlink(path.c_str()), 0);
}

}  // namespace
}  // namespace pointsman::agent

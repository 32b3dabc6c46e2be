// TCP through the forwarder's program, in a network namespace of its own.
#include <cerrno>
#include <future>
#include <iostream>
#include <map>
#include <string>
#include <sys/socket.h>
#include <vector>

#include <gtest/gtest.h>
#include <poll.h>

#include "base/unique_fd.h"
#include "kube/testing/eventually.h"
#include "node-agent/testing/process_usage.h"
#include "node-agent/userspace/testing/forwarder_fixture.h"
#include "node-agent/userspace/testing/sockets.h"

namespace pointsman::agent {
namespace {

using testing::At;
using testing::BlackHole;
using testing::ConnectTcp;
using testing::CpuTime;
using testing::EchoServer;
using testing::Noise;
using testing::Receive;
using testing::ReceiveAll;
using testing::ResidentKilobytes;
using testing::Send;

using namespace std::chrono_literals;

// Both directions at once, with back-pressure both ways.
void ExpectExactTransfer(const UniqueFd& client, const UniqueFd& server, size_t size) {
  const std::string up = Noise(1, size);
  const std::string down = Noise(2, size + 12345);
  auto sender = std::async(std::launch::async, [&] {
    Send(client, up);
    testing::CloseWriting(client);
  });
  auto answerer = std::async(std::launch::async, [&] {
    Send(server, down);
    testing::CloseWriting(server);
  });
  auto at_server = std::async(std::launch::async, [&] { return ReceiveAll(server); });
  const testing::Received at_client = ReceiveAll(client);
  sender.get();
  answerer.get();
  const testing::Received got = at_server.get();
  EXPECT_EQ(at_client.error, 0);
  EXPECT_EQ(got.error, 0);
  EXPECT_EQ(at_client.bytes.size(), down.size());
  EXPECT_EQ(got.bytes.size(), up.size());
  EXPECT_TRUE(at_client.bytes == down);
  EXPECT_TRUE(got.bytes == up);
}

TEST_F(ForwarderTest, BigTransfersArriveUnchangedBothWays) {
  Start();
  constexpr size_t kSize = 32 << 20;
  for (const auto& [family, ip] :
       {std::pair{net::Family::kIPv4, "127.0.0.2"}, {net::Family::kIPv6, "::1"}}) {
    const UniqueFd listener = testing::ListenTcp(At(ip, 0));
    Put(MakeSlot(7, {At(ip, testing::PortOf(listener))}));
    const UniqueFd client = ConnectTcp(Place(7, family));
    const UniqueFd server(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    ASSERT_TRUE(server);
    ExpectExactTransfer(client, server, kSize);
  }
  EXPECT_TRUE(Eventually([&] { return link_->Statistics().tcp_connections == 0; }));
  EXPECT_EQ(link_->Statistics().bytes_to_backends, 2 * kSize);
}

// Without descriptors for pipes bytes are copied.
TEST_F(ForwarderTest, TransfersWorkWithoutPipes) {
  settings_.max_files = 64 + 15;  // 4 connections, no pipe
  Start();
  const UniqueFd listener = testing::ListenTcp(At("127.0.0.2", 0));
  Put(MakeSlot(7, {At("127.0.0.2", testing::PortOf(listener))}));
  const UniqueFd client = ConnectTcp(Place(7));
  const UniqueFd server(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  ExpectExactTransfer(client, server, 16 << 20);
  EXPECT_EQ(link_->Statistics().pipes, 0U);
}

TEST_F(ForwarderTest, EachHalfClosesByItself) {
  Start();
  const UniqueFd listener = testing::ListenTcp(At("127.0.0.2", 0));
  Put(MakeSlot(1, {At("127.0.0.2", testing::PortOf(listener))}));
  for (bool client_first : {true, false}) {
    const UniqueFd client = ConnectTcp(Place(1));
    const UniqueFd server(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    const UniqueFd& first = client_first ? client : server;
    const UniqueFd& second = client_first ? server : client;
    Send(first, "last words");
    testing::CloseWriting(first);
    EXPECT_EQ(ReceiveAll(second).bytes, "last words");
    // The other half still carries.
    Send(second, "answer");
    EXPECT_EQ(Receive(first, 6), "answer");
    Send(second, "and more");
    testing::CloseWriting(second);
    const testing::Received rest = ReceiveAll(first);
    EXPECT_EQ(rest.bytes, "and more");
    EXPECT_EQ(rest.error, 0);
  }
  EXPECT_TRUE(Eventually([&] { return link_->Statistics().tcp_connections == 0; }));
}

TEST_F(ForwarderTest, AResetIsPassedOn) {
  Start();
  const UniqueFd listener = testing::ListenTcp(At("127.0.0.2", 0));
  Put(MakeSlot(1, {At("127.0.0.2", testing::PortOf(listener))}));
  for (bool client_resets : {true, false}) {
    UniqueFd client = ConnectTcp(Place(1));
    UniqueFd server(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    UniqueFd& resets = client_resets ? client : server;
    const UniqueFd& sees = client_resets ? server : client;
    Send(resets, "x");
    EXPECT_EQ(Receive(sees, 1), "x");
    const linger now{1, 0};
    ::setsockopt(resets.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
    resets.Reset();
    EXPECT_EQ(ReceiveAll(sees).error, ECONNRESET);
  }
}

TEST_F(ForwarderTest, RoundRobinIsExact) {
  Start();
  EchoServer a(At("127.0.0.2", 0), "a");
  EchoServer b(At("127.0.0.3", 0), "b");
  EchoServer c(At("127.0.0.4", 0), "c");
  Put(MakeSlot(1, {a.place(), b.place(), c.place()}));
  std::string order;
  for (int i = 0; i < 9; ++i)
    order += Greeting(1);
  EXPECT_EQ(order, "abcabcabc");
  // The turn survives a change of other backends.
  EXPECT_EQ(Greeting(1), "a");
  Put(MakeSlot(1, {b.place(), c.place()}));
  EXPECT_EQ(Greeting(1) + Greeting(1) + Greeting(1), "bcb");
}

TEST_F(ForwarderTest, AffinityKeepsAClientUntilItsBackendGoes) {
  Start();
  EchoServer a(At("127.0.0.2", 0), "a");
  EchoServer b(At("127.0.0.3", 0), "b");
  EchoServer c(At("127.0.0.4", 0), "c");
  Put(MakeSlot(1, {a.place(), b.place(), c.place()}, false, 3600));
  std::map<std::string, std::string> server_of;
  auto ask = [&](const std::string& client) {
    const net::IpAddress from = net::IpAddress::Parse(client).value();
    return Receive(ConnectTcp(Place(1), &from), 1);
  };
  for (const char* client : {"127.0.1.1", "127.0.1.2", "127.0.1.3"})
    server_of[client] = ask(client);
  EXPECT_EQ(server_of["127.0.1.1"] + server_of["127.0.1.2"] + server_of["127.0.1.3"], "abc");
  for (int i = 0; i < 5; ++i) {
    for (const auto& [client, server] : server_of)
      EXPECT_EQ(ask(client), server);
  }
  // Another backend goes: nothing changes for the others.
  Put(MakeSlot(1, {a.place(), c.place()}, false, 3600));
  EXPECT_EQ(ask("127.0.1.1"), "a");
  EXPECT_EQ(ask("127.0.1.3"), "c");
  const std::string moved = ask("127.0.1.2");
  EXPECT_NE(moved, "b");
  EXPECT_EQ(ask("127.0.1.2"), moved);
}

TEST_F(ForwarderTest, TheNextBackendIsTriedWhenOneRefuses) {
  Start();
  EchoServer alive(At("127.0.0.3", 0), "+");
  // Nobody listens there.
  Put(MakeSlot(1, {At("127.0.0.2", 9), alive.place(), At("127.0.0.4", 9)}));
  for (int i = 0; i < 12; ++i)
    ASSERT_EQ(Greeting(1), "+");
  // What refused is left alone for a while.
  EXPECT_LT(link_->Statistics().connect_failures, 12U);
  EXPECT_GE(link_->Statistics().connect_failures, 1U);
  EXPECT_EQ(link_->Statistics().without_backend, 0U);
}

TEST_F(ForwarderTest, TheNextBackendIsTriedWhenOneDoesNotAnswer) {
  Start();
  const BlackHole hole("127.0.0.2");
  EchoServer alive(At("127.0.0.3", 0), "+");
  Put(MakeSlot(1, {hole.place(), alive.place()}));
  const auto start = std::chrono::steady_clock::now();
  // What the client says meanwhile is not lost.
  const UniqueFd client = ConnectTcp(Place(1));
  Send(client, "early");
  EXPECT_EQ(Receive(client, 6), "+early");
  const auto took = std::chrono::steady_clock::now() - start;
  EXPECT_GE(took, 240ms);
  EXPECT_LT(took, kAtOnce) << "the kernel's own time-out is over two minutes";
  EXPECT_EQ(link_->Statistics().connect_failures, 1U);
  // The next clients do not wait for it: it is not tried again.
  for (int i = 0; i < 4; ++i)
    EXPECT_EQ(Greeting(1), "+");
  EXPECT_EQ(link_->Statistics().connect_failures, 1U);
}

TEST_F(ForwarderTest, WithoutAnyBackendTheClientIsReset) {
  Start();
  Put(MakeSlot(1, {At("127.0.0.2", 9), At("127.0.0.3", 9)}));
  const UniqueFd refused = ConnectTcp(Place(1));
  EXPECT_EQ(ReceiveAll(refused).error, ECONNRESET);
  EXPECT_EQ(link_->Statistics().connect_failures, 2U);
  const BlackHole hole("127.0.0.4");
  Put(MakeSlot(2, {hole.place()}));
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(ReceiveAll(ConnectTcp(Place(2))).error, ECONNRESET);
  // 250 ms + 500 ms + 1 s + 2 s
  EXPECT_GE(std::chrono::steady_clock::now() - start, 3700ms);
  EXPECT_LT(std::chrono::steady_clock::now() - start, kAtOnce);
  EXPECT_EQ(link_->Statistics().without_backend, 2U);
  // A slot that is not there, and the port without a slot's address.
  EXPECT_EQ(ReceiveAll(ConnectTcp(Place(3))).error, ECONNRESET);
  EXPECT_EQ(ReceiveAll(ConnectTcp(At("127.0.0.1", link_->port(net::Family::kIPv4)))).error,
            ECONNRESET);
}

TEST_F(ForwarderTest, ASlowReaderSlowsTheSenderAndCostsNoMemory) {
  Start();
  const UniqueFd listener = testing::ListenTcp(At("127.0.0.2", 0));
  Put(MakeSlot(1, {At("127.0.0.2", testing::PortOf(listener))}));
  const UniqueFd client = ConnectTcp(Place(1));
  const UniqueFd server(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  const size_t before = ResidentKilobytes(link_->pid());
  const std::string piece = Noise(3, 1 << 20);
  size_t sent = 0;
  // Full when nothing can be written for half a second in which the forwarder did nothing: on a
  // busy machine it may not have had its turn.
  std::chrono::milliseconds busy{-1000};
  while (true) {
    pollfd item{server.get(), POLLOUT, 0};
    const std::chrono::milliseconds before_wait = CpuTime(link_->pid());
    if (::poll(&item, 1, 500) == 0) {
      if (before_wait - busy <= 20ms) break;
      busy = before_wait;
      continue;
    }
    const ssize_t count = ::send(server.get(), piece.data(), piece.size(), MSG_DONTWAIT);
    if (count > 0) sent += static_cast<size_t>(count);
    ASSERT_LT(sent, size_t{64} << 20);
  }
  EXPECT_LT(ResidentKilobytes(link_->pid()), before + 2048);
  // Nothing spins meanwhile.
  const std::chrono::milliseconds cpu = CpuTime(link_->pid());
  EXPECT_EQ(::poll(nullptr, 0, 500), 0);
  EXPECT_LE(CpuTime(link_->pid()) - cpu, 20ms);  // of 500
  // And all of it arrives.
  testing::CloseWriting(server);
  EXPECT_EQ(ReceiveAll(client).bytes.size(), sent);
}

TEST_F(ForwarderTest, ManyConnectionsAtOnce) {
  Start();
  // The local ports of one address would do, just.
  EchoServer a(At("127.0.0.2", 0), "");
  EchoServer b(At("127.0.0.3", 0), "");
  Put(MakeSlot(1, {a.place(), b.place()}));
  // 10,000 where this user may open the files: both ends are here.
  const size_t connections =
      std::min<size_t>({10'000, (files_ - 100) / 2, link_->Statistics().connection_limit});
  ASSERT_GT(connections, 100U);
  const size_t before = ResidentKilobytes(link_->pid());
  std::vector<UniqueFd> clients;
  const auto expect_echo = [&](size_t i) {
    const std::string number = std::to_string(i);
    ASSERT_EQ(Receive(clients[i], number.size()), number);
  };
  // A few hundred at a time: the servers' queues are not what is tried here.
  constexpr size_t kAtATime = 500;
  for (size_t i = 0; i < connections; ++i) {
    clients.push_back(ConnectTcp(Place(1)));
    Send(clients.back(), std::to_string(i));
    if (i >= kAtATime) {
      ASSERT_NO_FATAL_FAILURE(expect_echo(i - kAtATime));
    }
  }
  for (size_t i = connections - std::min(kAtATime, connections); i < connections; ++i)
    ASSERT_NO_FATAL_FAILURE(expect_echo(i));
  EXPECT_EQ(link_->Statistics().tcp_connections, connections);
  const size_t after = ResidentKilobytes(link_->pid());
  std::cout << connections << " connections, " << (after - before) * 1024 / connections
            << " bytes of the forwarder's own memory each\n";
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)  // their own memory counts too
  EXPECT_LT((after - before) * 1024 / connections, 1024U);
#endif
  EXPECT_EQ(a.connections() + b.connections(), connections);
  // Idle ones hold no pipe.
  EXPECT_LE(link_->Statistics().pipes, 64U);
  clients.clear();
  EXPECT_TRUE(Eventually([&] { return link_->Statistics().tcp_connections == 0; }));
}

TEST_F(ForwarderTest, AtTheFileLimitClientsAreRefusedAndServedAgainAfterIt) {
  settings_.max_files = 256;
  Start();
  EchoServer server(At("127.0.0.2", 0), "+");
  Put(MakeSlot(1, {server.place()}));
  const size_t limit = link_->Statistics().connection_limit;
  ASSERT_EQ(limit, 60U);
  std::vector<UniqueFd> clients;
  for (size_t i = 0; i < limit; ++i) {
    clients.push_back(ConnectTcp(Place(1)));
    ASSERT_EQ(Receive(clients.back(), 1), "+") << i;
  }
  // The reset may be there before connect(2) has returned.
  const auto error_of_one_more = [&] {
    try {
      return ReceiveAll(ConnectTcp(Place(1))).error;
    } catch (const std::system_error& error) {
      return error.code().value();
    }
  };
  for (int i = 0; i < 40; ++i)
    EXPECT_EQ(error_of_one_more(), ECONNRESET);
  EXPECT_EQ(link_->Statistics().refused_at_limit, 40U);
  for (const UniqueFd& client : clients) {
    Send(client, "!");
    EXPECT_EQ(Receive(client, 1), "!");
  }
  clients.clear();
  EXPECT_TRUE(Eventually([&] { return link_->Statistics().tcp_connections == 0; }));
  EXPECT_EQ(Greeting(1), "+");
}

// Idle connections to one Service that take all places: they make room for others', the one that
// has been idle longest first.
TEST_F(ForwarderTest, AFullTableHasRoomForWhoHasLess) {
  settings_.max_files = 256;  // 60 connections
  Start();
  EchoServer server(At("127.0.0.2", 0), "+");
  Put(MakeSlot(1, {server.place()}));
  Put(MakeSlot(2, {server.place()}));
  const net::IpAddress heavy = *net::IpAddress::Parse("127.0.0.5");
  const net::IpAddress light = *net::IpAddress::Parse("127.0.0.6");
  std::vector<UniqueFd> idle;
  for (int i = 0; i < 60; ++i) {
    idle.push_back(ConnectTcp(Place(1), &heavy));
    ASSERT_EQ(Receive(idle.back(), 1), "+") << i;
  }
  // Used again, it is not the one that has been idle longest.
  Send(idle[0], "!");
  EXPECT_EQ(Receive(idle[0], 1), "!");

  std::vector<UniqueFd> others;
  for (int i = 0; i < 10; ++i) {
    others.push_back(ConnectTcp(Place(2), &heavy));  // another Service
    EXPECT_EQ(Receive(others.back(), 1), "+") << i;
    others.push_back(ConnectTcp(Place(1), &light));  // another client
    EXPECT_EQ(Receive(others.back(), 1), "+") << i;
  }
  for (size_t i = 0; i < idle.size(); ++i) {
    if (i >= 1 && i <= 20) {
      EXPECT_EQ(ReceiveAll(idle[i]).error, ECONNRESET) << i;
    } else {
      Send(idle[i], "!");
      EXPECT_EQ(Receive(idle[i], 1), "!") << i;
    }
  }
  for (const UniqueFd& other : others) {
    Send(other, "!");
    EXPECT_EQ(Receive(other, 1), "!");
  }
  EXPECT_EQ(link_->Statistics().ended_for_room, 20U);
  EXPECT_EQ(link_->Statistics().refused_at_limit, 0U);
  EXPECT_EQ(link_->Statistics().tcp_connections, 60U);
}

}  // namespace
}  // namespace pointsman::agent

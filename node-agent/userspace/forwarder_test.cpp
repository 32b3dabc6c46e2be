// The forwarder's program with real sockets, in a network namespace of its own.
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <future>
#include <iostream>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "kube/process/child_process.h"
#include "kube/testing/eventually.h"
#include "node-agent/netlink/link.h"
#include "node-agent/netlink/local_route.h"
#include "node-agent/testing/fresh_netns.h"
#include "node-agent/testing/process_usage.h"
#include "node-agent/userspace/forwarder/unix_socket.h"
#include "node-agent/userspace/forwarder_link.h"
#include "node-agent/userspace/testing/sockets.h"

namespace pointsman::agent {
namespace {

using forwarder::Slot;
using testing::At;
using testing::BlackHole;
using testing::ConnectTcp;
using testing::ConnectUdp;
using testing::CpuTime;
using testing::EchoServer;
using testing::IpPort;
using testing::Noise;
using testing::Receive;
using testing::ReceiveAll;
using testing::ResidentKilobytes;
using testing::Send;
using testing::UdpServer;

using namespace std::chrono_literals;

std::string UdpAsk(const UniqueFd& socket, const std::string& text) {
  Send(socket, text);
  char buffer[65536];
  const ssize_t count = ::recv(socket.get(), buffer, sizeof buffer, 0);
  return count < 0 ? "errno " + std::to_string(errno)
                   : std::string(buffer, static_cast<size_t>(count));
}

class ForwarderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!EnterFreshNetns()) GTEST_SKIP() << "needs root to make a network namespace";
    // User-Mode Linux has IPv6 as a module; where it is built in there is nothing to load.
    kube::RunChild({"/sbin/modprobe", "ipv6"}, {}, nullptr);
    netlink::Socket route(NETLINK_ROUTE);
    netlink::SetLinkUp(route, "lo");
    netlink::Batch batch;
    for (net::Family family : {net::Family::kIPv4, net::Family::kIPv6}) {
      netlink::AddLocalRoute(batch, forwarder::SlotPrefix(family),
                             static_cast<int>(::if_nametoindex("lo")));
    }
    ASSERT_TRUE(route.Execute(batch).empty());
    char name[] = "/tmp/pointsman-usp.XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    settings_.directory = name;
    settings_.program = POINTSMAN_FORWARDER;
    settings_.version = "test";
    settings_.udp_idle_timeout = 250ms;
    files_ = forwarder::RaiseFileLimit(65536);
  }
  void TearDown() override {
    if (settings_.directory.empty()) return;
    if (link_ == nullptr) link_ = std::make_unique<ForwarderLink>(settings_);
    link_->ExitAll();
    link_.reset();
    std::filesystem::remove_all(settings_.directory);
  }

  void Start() {
    link_ = std::make_unique<ForwarderLink>(settings_);
    ASSERT_EQ(link_->Ensure(), ForwarderLink::Found::kStarted);
    ASSERT_TRUE(link_->Dump().empty());
  }
  static Slot MakeSlot(uint32_t number, std::vector<IpPort> backends, bool udp = false,
                       uint32_t affinity = 0) {
    std::sort(backends.begin(), backends.end());
    return {.number = number,
            .service = "default/s" + std::to_string(number) + "/TCP/IPv4",
            .udp = udp,
            .affinity_seconds = affinity,
            .backends = std::move(backends)};
  }
  void Put(const Slot& slot) { link_->Change({slot}, {}, slot.number); }
  IpPort Place(uint32_t number, net::Family family = net::Family::kIPv4) {
    return {forwarder::SlotAddress(family, number), link_->port(family)};
  }
  std::string Greeting(uint32_t number, size_t size = 1) {
    return Receive(ConnectTcp(Place(number)), size);
  }

  ForwarderSettings settings_;
  std::unique_ptr<ForwarderLink> link_;
  uint64_t files_ = 0;  // that this process may have open
};

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
  // Full when nothing can be written for half a second.
  for (pollfd item{server.get(), POLLOUT, 0}; ::poll(&item, 1, 500) == 1;) {
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

TEST_F(ForwarderTest, DatagramsGoRoundAndFlowsEndWhenIdle) {
  Start();
  for (const auto& [family, ip_a, ip_b] : {std::tuple{net::Family::kIPv4, "127.0.0.2", "127.0.0.3"},
                                           {net::Family::kIPv6, "::1", "::1"}}) {
    UdpServer a(At(ip_a, 0), "a");
    UdpServer b(At(ip_b, 0), "b");
    Put(MakeSlot(1, {a.place(), b.place()}, true));
    std::set<std::string> seen;
    std::vector<UniqueFd> clients;
    for (int i = 0; i < 4; ++i) {
      clients.push_back(ConnectUdp(Place(1, family)));
      const std::string answer = UdpAsk(clients.back(), "q");
      seen.insert(answer);
      // The same flow stays with its backend.
      EXPECT_EQ(UdpAsk(clients.back(), "q"), answer);
    }
    EXPECT_EQ(seen, (std::set<std::string>{"a:q", "b:q"}));
    EXPECT_EQ(link_->Statistics().udp_flows, 4U);
    EXPECT_TRUE(Eventually([&] { return link_->Statistics().udp_flows == 0; }, kAtOnce));
    // Big ones too.
    const std::string big = Noise(5, 60'000);
    const std::string answer = UdpAsk(clients[0], big);
    EXPECT_EQ(answer.substr(2), big);
  }
}

// An answer that takes its time, to a question that was not the client's first.
TEST_F(ForwarderTest, ALateAnswerReachesAClientThatHadOneBefore) {
  Start();
  const UniqueFd server = testing::BindUdp(At("127.0.0.2", 0));
  Put(MakeSlot(1, {At("127.0.0.2", testing::PortOf(server))}, true));
  const UniqueFd client = ConnectUdp(Place(1));
  for (const int delay : {0, 700}) {  // ms; longer than the idle time-out
    Send(client, "q");
    char buffer[16];
    sockaddr_storage peer{};
    socklen_t size = sizeof peer;
    ASSERT_EQ(::recvfrom(server.get(), buffer, sizeof buffer, 0, reinterpret_cast<sockaddr*>(&peer),
                         &size),
              1);
    EXPECT_EQ(::poll(nullptr, 0, delay), 0);
    ASSERT_EQ(::sendto(server.get(), "a", 1, 0, reinterpret_cast<const sockaddr*>(&peer), size), 1);
    EXPECT_EQ(::recv(client.get(), buffer, sizeof buffer, 0), 1) << delay;
  }
  EXPECT_TRUE(Eventually([&] { return link_->Statistics().udp_flows == 0; }));
}

// One client port to several Services: the flows stay apart.
TEST_F(ForwarderTest, OneClientPortTalksToTwoServices) {
  Start();
  UdpServer a(At("127.0.0.2", 0), "a");
  UdpServer b(At("127.0.0.3", 0), "b");
  Put(MakeSlot(1, {a.place()}, true));
  Put(MakeSlot(2, {b.place()}, true));
  const UniqueFd client = testing::BindUdp(At("127.0.0.1", 0));
  for (int round = 0; round < 3; ++round) {
    for (uint32_t slot : {1U, 2U}) {
      const sockaddr_storage to = net::ToSocketAddress(Place(slot).ip, Place(slot).port);
      ASSERT_EQ(::sendto(client.get(), "q", 1, 0, reinterpret_cast<const sockaddr*>(&to),
                         sizeof(sockaddr_in)),
                1);
      char buffer[16];
      sockaddr_storage from{};
      socklen_t size = sizeof from;
      const ssize_t count = ::recvfrom(client.get(), buffer, sizeof buffer, 0,
                                       reinterpret_cast<sockaddr*>(&from), &size);
      ASSERT_GT(count, 0);
      EXPECT_EQ(std::string(buffer, static_cast<size_t>(count)), slot == 1 ? "a:q" : "b:q");
      EXPECT_EQ(net::FromSocketAddress(from), Place(slot));
    }
  }
}

TEST_F(ForwarderTest, AnIcmpErrorSendsADatagramToTheNextBackend) {
  Start();
  UdpServer alive(At("127.0.0.3", 0), "+");
  // Nobody is there: ICMP port unreachable.
  Put(MakeSlot(1, {At("127.0.0.2", 9), alive.place(), At("127.0.0.4", 9)}, true));
  for (int i = 0; i < 6; ++i)
    EXPECT_EQ(UdpAsk(ConnectUdp(Place(1)), "q"), "+:q");
  EXPECT_GE(link_->Statistics().udp_retries, 1U);
}

TEST_F(ForwarderTest, AClientThatAsksAgainGetsAnotherBackend) {
  Start();
  UdpServer silent(At("127.0.0.2", 0), "silent", /*silent=*/true);
  UdpServer alive(At("127.0.0.3", 0), "+");
  Put(MakeSlot(1, {silent.place(), alive.place()}, true));
  const UniqueFd client = ConnectUdp(Place(1));
  // A resolver that asks each second.
  std::string answer;
  for (int i = 0; i < 5 && answer.empty(); ++i) {
    Send(client, "q");
    pollfd item{client.get(), POLLIN, 0};
    if (::poll(&item, 1, 1100) == 1) answer = Receive(client, 3);
  }
  EXPECT_EQ(answer, "+:q");
  EXPECT_GE(silent.received(), 1U);
}

TEST_F(ForwarderTest, FlowsMoveAtOnceWhenTheirBackendGoes) {
  settings_.udp_idle_timeout = 1h;
  Start();
  UdpServer a(At("127.0.0.2", 0), "a");
  UdpServer b(At("127.0.0.3", 0), "b");
  Put(MakeSlot(1, {a.place()}, true));
  EchoServer stream(At("127.0.0.2", 0), "s");
  EchoServer other(At("127.0.0.3", 0), "o");
  Put(MakeSlot(2, {stream.place()}));
  const UniqueFd client = ConnectUdp(Place(1));
  EXPECT_EQ(UdpAsk(client, "q"), "a:q");
  const UniqueFd connection = ConnectTcp(Place(2));
  EXPECT_EQ(Receive(connection, 1), "s");
  Put(MakeSlot(1, {b.place()}, true));
  Put(MakeSlot(2, {other.place()}));
  EXPECT_EQ(UdpAsk(client, "q"), "b:q");
  // A TCP connection stays where it is.
  Send(connection, "!");
  EXPECT_EQ(Receive(connection, 1), "!");
  EXPECT_EQ(Greeting(2), "o");
  link_->Change({}, {1, 2}, 2);
  Send(connection, "?");
  EXPECT_EQ(Receive(connection, 1), "?");
  EXPECT_EQ(link_->Statistics().udp_flows, 0U);
}

TEST_F(ForwarderTest, FlowsAreBounded) {
  settings_.max_files = 256;  // 48 flows
  settings_.udp_idle_timeout = 1h;
  Start();
  UdpServer server(At("127.0.0.2", 0), "+");
  UdpServer silent(At("127.0.0.3", 0), "", /*silent=*/true);
  Put(MakeSlot(1, {server.place()}, true));
  Put(MakeSlot(2, {silent.place()}, true));
  std::vector<UniqueFd> used;
  for (int i = 0; i < 20; ++i) {
    used.push_back(ConnectUdp(Place(1)));
    EXPECT_EQ(UdpAsk(used.back(), "q"), "+:q");
  }
  // A flood of clients that nobody answers.
  std::vector<UniqueFd> flood;
  for (int i = 0; i < 200; ++i) {
    flood.push_back(ConnectUdp(Place(2)));
    Send(flood.back(), "x");
  }
  ASSERT_TRUE(Eventually([&] { return silent.received() == 200; }));
  EXPECT_EQ(link_->Statistics().udp_flows, 48U);
  // What is in use is not pushed out: the same sockets are still there.
  const uint64_t failures = link_->Statistics().datagrams_dropped;
  for (const UniqueFd& client : used)
    EXPECT_EQ(UdpAsk(client, "q"), "+:q");
  EXPECT_EQ(link_->Statistics().datagrams_dropped, failures);
}

// Nor what waits for its first answer, from another Service than the one that is flooded.
TEST_F(ForwarderTest, AFloodOfOneServiceEndsNoFlowsOfAnother) {
  settings_.max_files = 256;  // 48 flows
  settings_.udp_idle_timeout = 1h;
  Start();
  const UniqueFd server = testing::BindUdp(At("127.0.0.2", 0));
  UdpServer silent(At("127.0.0.3", 0), "", /*silent=*/true);
  Put(MakeSlot(1, {At("127.0.0.2", testing::PortOf(server))}, true));
  Put(MakeSlot(2, {silent.place()}, true));
  const UniqueFd client = ConnectUdp(Place(1));
  Send(client, "q");
  char buffer[16];
  sockaddr_storage asker{};
  socklen_t size = sizeof asker;
  ASSERT_EQ(::recvfrom(server.get(), buffer, sizeof buffer, 0, reinterpret_cast<sockaddr*>(&asker),
                       &size),
            1);
  std::vector<UniqueFd> flood;
  for (int i = 0; i < 200; ++i) {
    flood.push_back(ConnectUdp(Place(2)));
    Send(flood.back(), "x");
  }
  ASSERT_TRUE(Eventually([&] { return silent.received() == 200; }));
  ASSERT_EQ(::sendto(server.get(), "late", 4, 0, reinterpret_cast<const sockaddr*>(&asker), size),
            4);
  EXPECT_EQ(Receive(client, 4), "late");
}

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

// UDP through the forwarder's program, in a network namespace of its own.
#include <cerrno>
#include <netinet/in.h>
#include <set>
#include <string>
#include <sys/socket.h>
#include <vector>

#include <gtest/gtest.h>
#include <poll.h>

#include "base/unique_fd.h"
#include "kube/testing/eventually.h"
#include "node-agent/userspace/testing/forwarder_fixture.h"
#include "node-agent/userspace/testing/sockets.h"

namespace pointsman::agent {
namespace {

using testing::At;
using testing::ConnectTcp;
using testing::ConnectUdp;
using testing::EchoServer;
using testing::Noise;
using testing::Receive;
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

}  // namespace
}  // namespace pointsman::agent

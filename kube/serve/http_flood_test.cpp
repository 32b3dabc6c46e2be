// Peers that are many, silent or slow.
#include <arpa/inet.h>
#include <deque>
#include <filesystem>
#include <iterator>
#include <latch>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <thread>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "kube/net/socket_address.h"
#include "kube/serve/http_server.h"
#include "kube/testing/eventually.h"

namespace pointsman::kube {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
using namespace std::chrono_literals;
using std::chrono::steady_clock;

constexpr std::string_view kHealthz =
    "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

// A client's connection.
class Peer {
 public:
  // `from`: the local address, of the server's family.
  Peer(int port, const std::string& from) : Peer(net::IpAddress::Parse(from).value()) {
    Connect(port);
  }
  // Not connected yet.
  explicit Peer(const net::IpAddress& from)
      : from_(from), fd_(socket(from.is_v4() ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    EXPECT_TRUE(fd_) << std::generic_category().message(errno);
    const timeval limit{20, 0};
    setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    const sockaddr_storage local = net::ToSocketAddress(from, 0);
    EXPECT_EQ(
        bind(fd_.get(), reinterpret_cast<const sockaddr*>(&local), net::SocketAddressSize(from)),
        0);
  }

  void Connect(int port) const {
    const net::IpAddress to =
        from_.is_v4() ? net::IpAddress::V4(INADDR_LOOPBACK) : net::IpAddress::Parse("::1").value();
    const sockaddr_storage address = net::ToSocketAddress(to, static_cast<uint16_t>(port));
    EXPECT_EQ(
        connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), net::SocketAddressSize(to)),
        0)
        << std::generic_category().message(errno);
  }
  // False: the server has ended it.
  bool Send(std::string_view text) const {
    return send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(text.size());
  }
  // Until the end; nullopt: 20 s of silence.
  std::optional<std::string> ReadAll() const {
    std::string answer;
    std::array<char, 65536> buffer{};
    while (true) {
      const ssize_t got = recv(fd_.get(), buffer.data(), buffer.size(), 0);
      if (got < 0 && errno == EAGAIN) return std::nullopt;
      if (got <= 0) return answer;
      answer.append(buffer.data(), static_cast<size_t>(got));
    }
  }
  std::string Read() const {
    std::array<char, 4096> buffer{};
    const ssize_t got = recv(fd_.get(), buffer.data(), buffer.size(), 0);
    return got <= 0 ? "" : std::string(buffer.data(), static_cast<size_t>(got));
  }
  // The server has ended it.
  bool Ended(std::chrono::milliseconds within) const {
    const auto deadline = steady_clock::now() + within;
    for (pollfd item{fd_.get(), POLLIN, 0}; steady_clock::now() < deadline;) {
      if (poll(&item, 1, 20) > 0) return Read().empty();
    }
    return false;
  }
  int fd() const { return fd_.get(); }

 private:
  const net::IpAddress from_;
  UniqueFd fd_;
};

std::string Ask(int port, const std::string& from, std::string_view request = kHealthz) {
  const Peer peer(port, from);
  if (!peer.Send(request)) return "not taken";
  return peer.ReadAll().value_or("no answer");
}

size_t OpenDescriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<size_t>(std::distance(begin(all), end(all)));
}

struct Flood {
  const char* name;
  // Local addresses of the peers, one after the other.
  std::vector<std::string> from;
  // What each sends, and whether it reads the answer.
  std::string request;
  bool reads = false;
  std::string honest = "127.0.0.1";
};

std::vector<std::string> Loopbacks(int count) {
  std::vector<std::string> addresses;
  addresses.reserve(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i)
    addresses.push_back(fmt::format("127.0.{}.{}", 1 + i / 200, 1 + i % 200));
  return addresses;
}

class HttpFloodTest : public ::testing::TestWithParam<Flood> {
 protected:
  static std::unique_ptr<HttpServer> Serve(const std::string& address, const HttpLimits& limits) {
    auto server = std::make_unique<HttpServer>(address, 2, limits);
    server->HandleAtOnce("/healthz",
                         [](const ServedRequest&) { return ServedResponse{.body = "ok"}; });
    server->Handle("/big", [](const ServedRequest&) {
      return ServedResponse{.body = std::string(size_t{8} << 20, 'x')};
    });
    server->Start();
    return server;
  }
};

TEST_P(HttpFloodTest, TakesNobodyElsesAnswer) {
  const Flood& flood = GetParam();
  constexpr size_t kMost = 40;
  const auto server = Serve("[::]:0", {.connections = kMost});
  const size_t descriptors = OpenDescriptors();
  std::vector<Peer> peers;
  for (size_t i = 0; i < 10 * kMost; ++i) {
    const Peer& peer = peers.emplace_back(server->port(), flood.from[i % flood.from.size()]);
    if (!flood.request.empty()) peer.Send(flood.request);
    if (flood.reads) {
      EXPECT_THAT(peer.Read(), StartsWith("HTTP/1.1 200 "));
    }
    if (i % 20 == 19) {
      ASSERT_THAT(Ask(server->port(), flood.honest), HasSubstr("\r\n\r\nok"))
          << "after " << i + 1 << " connections";
    }
  }
  EXPECT_LE(OpenDescriptors() - descriptors - peers.size(), kMost) << "of the server";
  // One that is kept, as Prometheus does, by who has only this one.
  const Peer kept(server->port(), flood.honest);
  ASSERT_TRUE(kept.Send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"));
  EXPECT_THAT(kept.Read(), HasSubstr("ok"));
}

INSTANTIATE_TEST_SUITE_P(
    Peers, HttpFloodTest,
    ::testing::Values(Flood{.name = "SilentOfOneAddress", .from = {"127.0.0.2"}},
                      Flood{.name = "SilentOfTheAskersAddress", .from = {"127.0.0.1"}},
                      Flood{.name = "SilentOfManyAddresses", .from = Loopbacks(400)},
                      Flood{.name = "SilentOfIpv6", .from = {"::1"}},
                      Flood{
                          .name = "SilentOfTheAskersIpv6Address", .from = {"::1"}, .honest = "::1"},
                      Flood{.name = "HalfAHeader",
                            .from = Loopbacks(60),
                            .request = "GET /healthz HTTP/1.1\r\nX: "},
                      Flood{.name = "KeptOpen",
                            .from = Loopbacks(60),
                            .request = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
                            .reads = true},
                      Flood{.name = "AnswersNotRead",
                            .from = Loopbacks(60),
                            .request = "GET /big HTTP/1.1\r\nHost: x\r\n\r\n"}),
    [](const auto& test) { return test.param.name; });

TEST_F(HttpFloodTest, ManyNewConnectionsASecondTakeNobodysAnswer) {
  const auto server = Serve("127.0.0.1:0", {});
  std::atomic<bool> end = false;
  std::atomic<int> opened = 0;
  std::jthread flood([&] {
    const std::vector<std::string> from = Loopbacks(200);
    std::deque<Peer> peers;
    for (size_t i = 0; !end; ++i) {
      peers.emplace_back(server->port(), from[i % from.size()]);
      if (peers.size() > 400) peers.pop_front();
      ++opened;
    }
  });
  for (int i = 0; i < 200 || opened < 3000; ++i)
    ASSERT_THAT(Ask(server->port(), "127.0.0.1"), HasSubstr("\r\n\r\nok")) << i;
  end = true;
}

TEST_F(HttpFloodTest, AHandlerThatHangsHoldsUpNoneThatAnswersAtOnce) {
  HttpServer server("127.0.0.1:0", 2);
  std::latch go(1);
  std::atomic<int> called = 0;
  server.Handle("/metrics", [&](const ServedRequest&) {
    ++called;
    go.wait();
    return ServedResponse{.body = "late"};
  });
  server.HandleAtOnce("/livez", [](const ServedRequest&) { return ServedResponse{.body = "ok"}; });
  server.Start();
  std::vector<Peer> waiting;
  for (int i = 0; i < 10; ++i) {
    waiting.emplace_back(server.port(), "127.0.0.1");
    ASSERT_TRUE(
        waiting.back().Send("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
  }
  ASSERT_TRUE(Eventually([&] { return called >= 2; }));
  EXPECT_THAT(Ask(server.port(), "127.0.0.1",
                  "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
              HasSubstr("ok"));
  go.count_down();
  for (const Peer& peer : waiting)
    EXPECT_THAT(peer.ReadAll().value_or(""), HasSubstr("late"));
}

// One byte now and then is not a request.
TEST_F(HttpFloodTest, AHeaderHasItsTimeAsAWhole) {
  const auto server = Serve("127.0.0.1:0", {.header = 500ms});
  const Peer peer(server->port(), "127.0.0.1");
  EXPECT_TRUE(Eventually([&] { return !peer.Send("G") || peer.Ended(50ms); }, kAtOnce));
}

TEST_F(HttpFloodTest, AnAnswerHasItsTimeAsAWhole) {
  const auto server = Serve("127.0.0.1:0", {.answer = 500ms});
  const Peer peer(server->port(), "127.0.0.1");
  ASSERT_TRUE(peer.Send("GET /big HTTP/1.1\r\nHost: x\r\n\r\n"));
  size_t got = 0;
  for (std::string piece; !(piece = peer.Read()).empty();) {
    got += piece.size();
    poll(nullptr, 0, 20);  // a slow reader
  }
  EXPECT_LT(got, size_t{8} << 20);
}

TEST_F(HttpFloodTest, AnswersThatAreNotReadHoldNoMoreThanTheBound) {
  const auto server = Serve("127.0.0.1:0", {.unsent_bytes = size_t{20} << 20});
  std::vector<Peer> peers;
  for (int i = 0; i < 4; ++i) {
    peers.emplace_back(server->port(), fmt::format("127.0.0.{}", 2 + i));
    ASSERT_TRUE(peers.back().Send("GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
    EXPECT_THAT(peers.back().Read(), StartsWith("HTTP/1.1 200 "));
  }
  // Two of 8 MiB fit: the first two had to give way, whatever the kernel has of theirs.
  EXPECT_LT(peers[0].ReadAll().value_or("").size(), size_t{8} << 20);
  EXPECT_LT(peers[1].ReadAll().value_or("").size(), size_t{8} << 20);
  EXPECT_GT(peers[3].ReadAll().value_or("").size(), (size_t{8} << 20) - 8192);
}

TEST_F(HttpFloodTest, WithoutADescriptorASilentPeerMakesRoom) {
  const auto server = Serve("127.0.0.1:0", {});
  std::vector<Peer> peers;
  peers.reserve(20);
  for (int i = 0; i < 20; ++i)
    peers.emplace_back(server->port(), "127.0.0.2");
  ASSERT_THAT(Ask(server->port(), "127.0.0.1"), HasSubstr("ok")) << "all before are accepted";
  const Peer asker(net::IpAddress::V4(INADDR_LOOPBACK));
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const int next = UniqueFd(dup(asker.fd())).get();  // closed again
  const rlimit none{static_cast<rlim_t>(next), before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  asker.Connect(server->port());
  EXPECT_TRUE(asker.Send(kHealthz));
  EXPECT_THAT(asker.ReadAll().value_or("no answer"), HasSubstr("\r\n\r\nok"));
  setrlimit(RLIMIT_NOFILE, &before);
}

}  // namespace
}  // namespace pointsman::kube

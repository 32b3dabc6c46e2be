#include "node-agent/handover/probe.h"

#include <memory>
#include <netinet/in.h>
#include <sys/socket.h>
#include <thread>

#include <gmock/gmock.h>

#include "base/unique_fd.h"

namespace pointsman::agent {
namespace {

using std::chrono_literals::operator""ms;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

const net::IpAddress kLoopback = net::IpAddress::Parse("127.0.0.1").value();

// A socket on 127.0.0.1 that listens, unless told not to: the kernel opens connections to it, and
// nothing reads them.
class Listener {
 public:
  explicit Listener(bool listening = true) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const sockaddr_storage any = net::ToSocketAddress(kLoopback, 0);
    sockaddr_storage bound{};
    socklen_t size = net::SocketAddressSize(kLoopback);
    EXPECT_EQ(bind(fd_.get(), reinterpret_cast<const sockaddr*>(&any), size), 0);
    if (listening) {
      EXPECT_EQ(listen(fd_.get(), 8), 0);
    }
    EXPECT_EQ(getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&bound), &size), 0);
    place_ = net::FromSocketAddress(bound);
  }
  const net::IpPort& place() const { return place_; }
  UniqueFd Accept() const { return UniqueFd(accept(fd_.get(), nullptr, nullptr)); }

 private:
  UniqueFd fd_;
  net::IpPort place_;
};

// Answers one connection with what it is given to do.
class Server {
 public:
  explicit Server(void (*answer)(const UniqueFd&))
      : thread_([this, answer] { answer(listener_.Accept()); }) {}
  ~Server() { thread_.join(); }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  const net::IpPort& place() const { return listener_.place(); }

 private:
  const Listener listener_;
  std::thread thread_;
};

void Greet(const UniqueFd& client) {
  EXPECT_EQ(send(client.get(), "hello\n", 6, MSG_NOSIGNAL), 6);
}

void CloseAfterTheClient(const UniqueFd& client) {
  char byte = 0;
  EXPECT_EQ(recv(client.get(), &byte, 1, 0), 0);
}

void ResetAfterTheClient(const UniqueFd& client) {
  CloseAfterTheClient(client);
  const linger reset{1, 0};
  EXPECT_EQ(setsockopt(client.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset), 0);
}

TEST(Probe, DistinguishesWhatOpensFromWhatRefuses) {
  const Listener open, closed(false);
  EXPECT_THAT(RunTcpProbes({closed.place(), open.place(), open.place()}, ProbeDepth::kOpen, 500ms),
              ElementsAre(ProbeOutcome::kNotOpened, ProbeOutcome::kSilent, ProbeOutcome::kSilent));
  EXPECT_THAT(RunTcpProbes({}, ProbeDepth::kOpen, 500ms), IsEmpty());
}

TEST(Probe, SaysWhatComesAfterTheClientsEnd) {
  const Listener silent, closed(false);
  const Server greets(Greet), closes(CloseAfterTheClient), resets(ResetAfterTheClient);
  EXPECT_THAT(
      RunTcpProbes({closed.place(), silent.place(), greets.place(), closes.place(), resets.place()},
                   ProbeDepth::kResponse, 500ms),
      ElementsAre(ProbeOutcome::kNotOpened, ProbeOutcome::kSilent, ProbeOutcome::kSpoke,
                  ProbeOutcome::kSpoke, ProbeOutcome::kReset));
}

}  // namespace
}  // namespace pointsman::agent

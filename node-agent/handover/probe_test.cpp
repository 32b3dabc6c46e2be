#include "node-agent/handover/probe.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <gtest/gtest.h>
#include <unistd.h>

namespace pointsman::agent {
namespace {

using std::chrono_literals::operator""ms;

// A socket on 127.0.0.1; listens unless told not to.
class Listener {
 public:
  explicit Listener(bool listening) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&address), size), 0);
    if (listening) {
      EXPECT_EQ(listen(fd_, 8), 0);
    }
    EXPECT_EQ(getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
  }
  ~Listener() { close(fd_); }
  uint16_t port() const { return port_; }

 private:
  int fd_;
  uint16_t port_ = 0;
};

TEST(Probe, TellsWhatAnswersFromWhatRefuses) {
  const Listener open(true), closed(false);
  const auto loopback = *net::IpAddress::Parse("127.0.0.1");
  const std::vector<Probe> probes = {{"refused", loopback, closed.port()},
                                     {"open", loopback, open.port()},
                                     {"again", loopback, open.port()}};
  EXPECT_EQ(PassingTcpProbes(probes, 500ms), (std::vector<std::string>{"open", "again"}));
  EXPECT_TRUE(PassingTcpProbes({}, 500ms).empty());
}

}  // namespace
}  // namespace pointsman::agent

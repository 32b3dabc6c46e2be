#include "node-agent/testing/steady_clients.h"

#include <algorithm>
#include <cerrno>
#include <sys/socket.h>
#include <utility>
#include <vector>

#include <poll.h>

#include "base/throw_errno.h"
#include "base/unique_fd.h"
#include "node-agent/testing/test_network.h"

namespace pointsman::agent::testing {
namespace {

using SteadyClock = std::chrono::steady_clock;

struct OpenTry {
  UniqueFd fd;
  SteadyClock::time_point until;
};

// Not even begun: no file descriptor.
UniqueFd BeginConnection(const net::IpPort& to) {
  const sockaddr_storage address = net::ToSocketAddress(to.ip, to.port);
  UniqueFd fd(socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) ThrowErrno("socket");
  const linger reset{1, 0};  // no port stays taken
  setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address),
              net::SocketAddressSize(to.ip)) != 0 &&
      errno != EINPROGRESS)
    return UniqueFd();
  return fd;
}

bool IsOpen(int fd) {
  int error = 0;
  socklen_t size = sizeof error;
  return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0;
}

}  // namespace

SteadyClient::SteadyClient(const std::string& host, const net::IpPort& place, const Habits& habits)
    : place_(place), habits_(habits) {
  thread_ = std::thread([in = TestNetwork::At(host), this] {
    in.Enter();
    Run();
  });
}

SteadyClient::~SteadyClient() {
  stop_ = true;
  thread_.join();
}

void SteadyClient::Run() {
  std::vector<OpenTry> open;
  std::vector<pollfd> items;
  uint16_t port = 0;
  auto next = SteadyClock::now();
  while (!stop_) {
    const auto now = SteadyClock::now();
    if (now >= next) {
      const net::IpPort to{place_.ip, static_cast<uint16_t>(place_.port + port)};
      port = static_cast<uint16_t>((port + 1) % habits_.ports);
      UniqueFd fd = BeginConnection(to);
      if (fd) {
        open.push_back({std::move(fd), now + habits_.patience});
      } else {
        ++failed_;
      }
      next = std::max(next + habits_.every, now);
    }
    items.clear();
    for (const OpenTry& each : open)
      items.push_back({each.fd.get(), POLLOUT, 0});
    const auto wait = std::chrono::ceil<std::chrono::milliseconds>(next - now);
    if (poll(items.data(), items.size(), static_cast<int>(std::max<int64_t>(wait.count(), 0))) < 0)
      ThrowErrno("poll");
    size_t i = 0;
    std::erase_if(open, [&](const OpenTry& each) {
      const short events = items[i++].revents;
      if (events == 0 && SteadyClock::now() < each.until) return false;
      ++(events != 0 && IsOpen(each.fd.get()) ? opened_ : failed_);
      return true;
    });
  }
}

}  // namespace pointsman::agent::testing

#include "node-agent/handover/probe.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <sys/socket.h>
#include <system_error>
#include <utility>

#include <poll.h>

#include "base/throw_errno.h"
#include "base/unique_fd.h"

namespace pointsman::agent {
namespace {

// One connection.
class Attempt {
 public:
  // Throws std::system_error if there is no socket.
  Attempt(const net::IpPort& to, ProbeDepth depth, ProbeOutcome& outcome)
      : depth_(depth),
        outcome_(outcome),
        socket_(::socket(to.ip.family() == net::Family::kIPv4 ? AF_INET : AF_INET6,
                         SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) {
    if (!socket_) ThrowErrno("probe: socket");
    const sockaddr_storage address = net::ToSocketAddress(to.ip, to.port);
    over_ = connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address),
                    net::SocketAddressSize(to.ip)) != 0 &&
            errno != EINPROGRESS;
  }

  bool over() const { return over_; }
  pollfd Awaits() const { return {socket_.get(), static_cast<short>(open_ ? POLLIN : POLLOUT), 0}; }
  // After poll(2) has returned events.
  void OnEvents() {
    if (open_) {
      OnResponse();
    } else {
      OnConnected();
    }
  }

 private:
  void End(ProbeOutcome outcome) {
    outcome_ = outcome;
    over_ = true;
  }

  void OnConnected() {
    int error = 0;
    socklen_t size = sizeof(error);
    getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &error, &size);
    // A connection that does not open is refused (ECONNREFUSED) and not reset.
    if (error == ECONNRESET) return End(ProbeOutcome::kReset);
    if (error != 0) return End(ProbeOutcome::kNotOpened);
    open_ = true;
    outcome_ = ProbeOutcome::kSilent;
    over_ = depth_ == ProbeDepth::kOpen;
    if (over_) return;
    // Where it is reset already, the next recv says so.
    shutdown(socket_.get(), SHUT_WR);
    // A server that does nothing is reset when this ends, and keeps no connection of it.
    const linger reset{1, 0};
    setsockopt(socket_.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  }

  void OnResponse() {
    char byte = 0;
    if (recv(socket_.get(), &byte, 1, 0) >= 0) return End(ProbeOutcome::kSpoke);
    if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) End(ProbeOutcome::kReset);
  }

  ProbeDepth depth_;
  ProbeOutcome& outcome_;
  UniqueFd socket_;
  bool open_ = false;
  bool over_ = false;
};

// One try of those that have not opened.
void TryOnce(const std::vector<net::IpPort>& to, ProbeDepth depth,
             std::chrono::milliseconds timeout, std::vector<ProbeOutcome>& outcomes) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  std::vector<Attempt> attempts;
  for (size_t i = 0; i < to.size(); ++i) {
    if (outcomes[i] == ProbeOutcome::kNotOpened) attempts.emplace_back(to[i], depth, outcomes[i]);
  }
  for (;;) {
    std::vector<pollfd> polls;
    std::vector<Attempt*> polled;
    for (Attempt& attempt : attempts) {
      if (attempt.over()) continue;
      polls.push_back(attempt.Awaits());
      polled.push_back(&attempt);
    }
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (polls.empty() || left.count() <= 0) return;
    if (poll(polls.data(), polls.size(), static_cast<int>(left.count())) < 0) {
      if (errno == EINTR) continue;
      ThrowErrno("probe: poll");
    }
    for (size_t i = 0; i < polls.size(); ++i) {
      if (polls[i].revents != 0) polled[i]->OnEvents();
    }
  }
}

}  // namespace

std::vector<ProbeOutcome> RunTcpProbes(const std::vector<net::IpPort>& to, ProbeDepth depth,
                                       std::chrono::milliseconds timeout) {
  std::vector<ProbeOutcome> outcomes(to.size(), ProbeOutcome::kNotOpened);
  constexpr int kTries = 2;
  for (int i = 0; i < kTries; ++i)
    TryOnce(to, depth, timeout, outcomes);
  return outcomes;
}

}  // namespace pointsman::agent

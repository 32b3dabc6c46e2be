#include "node-agent/handover/probe.h"

#include <cerrno>
#include <sys/socket.h>
#include <system_error>

#include <poll.h>

#include "base/throw_errno.h"
#include "base/unique_fd.h"
#include "kube/net/socket_address.h"

namespace pointsman::agent {
namespace {

UniqueFd OpenSocket(net::Family family) {
  UniqueFd socket(::socket(family == net::Family::kIPv4 ? AF_INET : AF_INET6,
                           SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) ThrowErrno("probe: socket");
  return socket;
}

// True: connected or under way.
bool StartConnect(const UniqueFd& socket, const Probe& probe) {
  const sockaddr_storage to = net::ToSocketAddress(probe.address, probe.port);
  return connect(socket.get(), reinterpret_cast<const sockaddr*>(&to),
                 net::SocketAddressSize(probe.address)) == 0 ||
         errno == EINPROGRESS;
}

// Sets passed[i] for the probes that answer.
void TryOnce(const std::vector<Probe>& probes, std::chrono::milliseconds timeout,
             std::vector<bool>& passed) {
  std::vector<UniqueFd> sockets;
  std::vector<pollfd> polls;
  std::vector<size_t> which;
  for (size_t i = 0; i < probes.size(); ++i) {
    if (passed[i]) continue;
    UniqueFd socket = OpenSocket(probes[i].address.family());
    if (!StartConnect(socket, probes[i])) continue;
    polls.push_back({socket.get(), POLLOUT, 0});
    which.push_back(i);
    sockets.push_back(std::move(socket));
  }
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  size_t open = polls.size();
  while (open > 0) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) return;
    const int ready = poll(polls.data(), polls.size(), static_cast<int>(left.count()));
    if (ready < 0 && errno != EINTR) {
      throw std::system_error(errno, std::generic_category(), "probe: poll");
    }
    for (size_t i = 0; i < polls.size(); ++i) {
      if (polls[i].fd < 0 || polls[i].revents == 0) continue;
      int error = 0;
      socklen_t size = sizeof(error);
      getsockopt(polls[i].fd, SOL_SOCKET, SO_ERROR, &error, &size);
      passed[which[i]] = error == 0;
      polls[i].fd = -1;  // poll ignores negative descriptors
      --open;
    }
  }
}

}  // namespace

std::vector<std::string> PassingTcpProbes(const std::vector<Probe>& probes,
                                          std::chrono::milliseconds timeout) {
  std::vector<bool> passed(probes.size(), false);
  constexpr int kTries = 2;
  for (int i = 0; i < kTries; ++i)
    TryOnce(probes, timeout, passed);
  std::vector<std::string> names;
  for (size_t i = 0; i < probes.size(); ++i) {
    if (passed[i]) names.push_back(probes[i].name);
  }
  return names;
}

}  // namespace pointsman::agent

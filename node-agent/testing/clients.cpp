#include "node-agent/testing/clients.h"

#include <array>
#include <cerrno>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sstream>
#include <sys/socket.h>

#include <poll.h>

#include "base/throw_errno.h"
#include "kube/testing/patient_poll.h"
#include "node-agent/testing/test_address.h"

namespace pointsman::agent::testing {
namespace {

bool WaitFor(int fd, short events, std::chrono::milliseconds timeout) {
  pollfd item{fd, events, 0};
  return Patience(timeout).Poll(item) == 1;
}

// errno of what failed, or 0. A stream: also when the time is over.
int Connect(int fd, const TestAddress& to, const Attempt& attempt) {
  if (attempt.source_port != 0 || !attempt.source.empty()) {
    const TestAddress source = attempt.source.empty()
                                   ? TestAddress::Any(to.family(), attempt.source_port)
                                   : TestAddress(attempt.source, attempt.source_port);
    const int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (to.family() == AF_INET)
      setsockopt(fd, SOL_IP, IP_FREEBIND, &on, sizeof on);
    else
      setsockopt(fd, SOL_IPV6, IPV6_FREEBIND, &on, sizeof on);
    if (bind(fd, source.get(), source.size()) < 0) return errno;
  }
  if (connect(fd, to.get(), to.size()) == 0) return 0;
  if (errno != EINPROGRESS) return errno;
  if (!WaitFor(fd, POLLOUT, attempt.timeout)) return ETIMEDOUT;
  int error = 0;
  socklen_t length = sizeof error;
  if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0) ThrowErrno("SO_ERROR");
  return error;
}

uint32_t Resent(int fd) {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) ThrowErrno("TCP_INFO");
  return info.tcpi_total_retrans;
}

// Of a socket that is connected.
void AskOn(int fd, std::chrono::milliseconds timeout, Reply& reply) {
  if (send(fd, "hi\n", 3, MSG_NOSIGNAL) < 0) {
    reply.error = errno;
    return;
  }
  if (!WaitFor(fd, POLLIN, timeout)) {
    reply.error = ETIMEDOUT;
    return;
  }
  std::array<char, 256> buffer{};
  const ssize_t size = recv(fd, buffer.data(), buffer.size(), 0);
  if (size <= 0) {
    reply.error = size < 0 ? errno : ECONNRESET;
    return;
  }
  std::istringstream words(std::string(buffer.data(), static_cast<size_t>(size)));
  words >> reply.server >> reply.peer;
}

}  // namespace

Stream::Stream(const NetNamespace& from, const std::string& ip, uint16_t port,
               const Attempt& attempt)
    : transport_(attempt.transport), timeout_(attempt.timeout) {
  const TestAddress to(ip, port);
  fd_ = SocketIn(from, to.family(), SOCK_STREAM | SOCK_NONBLOCK,
                 transport_ == Transport::kSctp ? IPPROTO_SCTP : 0);
  error_ = Connect(fd_.get(), to, attempt);
}

Reply Stream::Ask() {
  Reply reply{.transport = transport_, .error = error_};
  if (error_ == 0) AskOn(fd_.get(), timeout_, reply);
  if (transport_ == Transport::kTcp) reply.resent = Resent(fd_.get());
  return reply;
}

int Stream::AskForError(std::chrono::milliseconds timeout) {
  if (error_ != 0) return error_;
  // Else the kernel keeps to itself what ICMP says of an open connection.
  const int on = 1;
  setsockopt(fd_.get(), IPPROTO_IP, IP_RECVERR, &on, sizeof on);
  if (send(fd_.get(), "hi\n", 3, MSG_NOSIGNAL) < 0) return errno;
  if (!WaitFor(fd_.get(), POLLIN, timeout)) return 0;  // POLLERR comes unasked
  int error = 0;
  socklen_t length = sizeof error;
  getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &length);
  return error;
}

Reply Ask(const NetNamespace& from, const std::string& ip, uint16_t port, const Attempt& attempt) {
  if (attempt.transport != Transport::kUdp) return Stream(from, ip, port, attempt).Ask();
  const TestAddress to(ip, port);
  const UniqueFd fd = SocketIn(from, to.family(), SOCK_DGRAM);
  Reply reply{.transport = Transport::kUdp, .error = Connect(fd.get(), to, attempt)};
  if (reply.ok()) AskOn(fd.get(), attempt.timeout, reply);
  return reply;
}

}  // namespace pointsman::agent::testing

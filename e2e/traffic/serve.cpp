#include "e2e/traffic/serve.h"

#include <array>
#include <cerrno>
#include <list>
#include <netinet/in.h>
#include <string_view>
#include <sys/epoll.h>
#include <system_error>
#include <utility>

#include <signal.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "e2e/traffic/event_loop.h"
#include "e2e/traffic/socket.h"

namespace pointsman::e2e {
namespace {

// What one connection may have in flight; a client that does not read is not read from.
constexpr std::size_t kMaxBuffered = std::size_t{64} * 1024;

class Server {
 public:
  explicit Server(const ServeOptions& options) : options_(options) {}

  int Run() {
    for (const std::uint16_t port : options_.tcp)
      Accept(Protocol::kTcp, port, false);
    for (const std::uint16_t port : options_.sctp)
      Accept(Protocol::kSctp, port, false);
    if (options_.http != 0) Accept(Protocol::kTcp, options_.http, true);
    for (const std::uint16_t port : options_.udp)
      Answer(port);
    loop_.OnSignals({SIGTERM, SIGINT}, [this](int signal) {
      if (signal == SIGINT || terminating_) return loop_.Stop();
      terminating_ = true;
      loop_.After(options_.linger, [this] { StopAccepting(); });
    });
    loop_.Run();
    return 0;
  }

 private:
  struct Connection {
    UniqueFd fd;
    bool http = false;
    bool read_ended = false;
    std::string pending;  // to be sent
    std::string request;  // HTTP only
  };
  struct Listener {
    UniqueFd fd;
    bool http;
  };
  using Handle = std::list<Connection>::iterator;

  void Accept(Protocol protocol, std::uint16_t port, bool http) {
    listeners_.push_back({Listen(protocol, MakeEndpoint(options_.bind, port)), http});
    const int listener = listeners_.back().fd.get();
    loop_.Watch(listener, EPOLLIN,
                [this, listener, http](std::uint32_t) { AcceptAll(listener, http); });
  }

  void AcceptAll(int listener, bool http) {
    for (;;) {
      Endpoint peer;
      peer.size = sizeof peer.address;
      UniqueFd fd(accept4(listener, reinterpret_cast<sockaddr*>(&peer.address), &peer.size,
                          SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (!fd.valid()) {
        if (errno == EINTR || errno == ECONNABORTED) continue;
        if (errno != EAGAIN) spdlog::error("accept: {}", std::generic_category().message(errno));
        return;
      }
      const Handle connection = connections_.insert(connections_.end(), Connection{});
      connection->fd = std::move(fd);
      connection->http = http;
      if (!http) connection->pending = options_.name + " " + peer.ToString() + "\n";
      loop_.Watch(connection->fd.get(), EPOLLIN,
                  [this, connection](std::uint32_t) { Serve(connection); });
      Serve(connection);
    }
  }

  void Serve(Handle connection) {
    std::array<char, std::size_t{16} * 1024> buffer;
    while (!connection->read_ended && connection->pending.size() < kMaxBuffered) {
      const ssize_t got = read(connection->fd.get(), buffer.data(), buffer.size());
      if (got < 0 && errno == EINTR) continue;
      if (got < 0 && errno == EAGAIN) break;
      if (got < 0) return Close(connection);
      if (got == 0) {
        connection->read_ended = true;
        break;
      }
      const std::string_view data(buffer.data(), static_cast<std::size_t>(got));
      if (connection->http) {
        connection->request.append(data);
        if (connection->request.find("\r\n\r\n") != std::string::npos) {
          const std::string body = options_.name + "\n";
          connection->pending =
              "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: "
              "close\r\nContent-Length: " +
              std::to_string(body.size()) + "\r\n\r\n" + body;
          connection->read_ended = true;
        } else if (connection->request.size() > kMaxBuffered) {
          return Close(connection);
        }
      } else {
        connection->pending.append(data);
      }
    }
    while (!connection->pending.empty()) {
      const ssize_t sent = send(connection->fd.get(), connection->pending.data(),
                                connection->pending.size(), MSG_NOSIGNAL);
      if (sent < 0 && errno == EINTR) continue;
      if (sent < 0 && errno == EAGAIN) break;
      if (sent < 0) return Close(connection);
      connection->pending.erase(0, static_cast<std::size_t>(sent));
    }
    if (connection->read_ended && connection->pending.empty()) return Close(connection);
    const bool read_more = !connection->read_ended && connection->pending.size() < kMaxBuffered;
    loop_.Modify(connection->fd.get(),
                 (read_more ? EPOLLIN : 0U) | (connection->pending.empty() ? 0U : EPOLLOUT));
  }

  void Close(Handle connection) {
    loop_.Unwatch(connection->fd.get());
    connections_.erase(connection);
    StopWhenDrained();
  }

  void StopAccepting() {
    for (const auto& listener : listeners_) {
      // What waits in the queue would be reset by the close.
      AcceptAll(listener.fd.get(), listener.http);
      loop_.Unwatch(listener.fd.get());
    }
    listeners_.clear();
    stopped_accepting_ = true;
    StopWhenDrained();
  }

  void StopWhenDrained() {
    if (stopped_accepting_ && connections_.empty()) loop_.Stop();
  }

  void Answer(std::uint16_t port) {
    udp_.push_back(Listen(Protocol::kUdp, MakeEndpoint(options_.bind, port)));
    const int socket = udp_.back().get();
    loop_.Watch(socket, EPOLLIN, [this, socket](std::uint32_t) {
      for (;;) {
        std::array<char, 2048> payload;
        std::array<char, 256> control;
        Endpoint peer;
        iovec data{payload.data(), payload.size()};
        msghdr message{};
        message.msg_name = &peer.address;
        message.msg_namelen = sizeof peer.address;
        message.msg_iov = &data;
        message.msg_iovlen = 1;
        message.msg_control = control.data();
        message.msg_controllen = control.size();
        const ssize_t got = recvmsg(socket, &message, 0);
        if (got < 0 && errno == EAGAIN) return;
        if (got < 0) continue;  // EINTR, or an ICMP error of an earlier answer
        peer.size = message.msg_namelen;
        std::string answer = options_.name + " " + peer.ToString() + " ";
        answer.append(payload.data(), static_cast<std::size_t>(got));
        data = {answer.data(), answer.size()};
        // Sent back with the control message as received: the answer then comes from the address
        // that was asked, whatever route leads back. ipi_ifindex would pin the interface as well.
        for (cmsghdr* item = CMSG_FIRSTHDR(&message); item != nullptr;
             item = CMSG_NXTHDR(&message, item)) {
          if (item->cmsg_level == IPPROTO_IP && item->cmsg_type == IP_PKTINFO) {
            auto* info = reinterpret_cast<in_pktinfo*>(CMSG_DATA(item));
            info->ipi_spec_dst = info->ipi_addr;
            info->ipi_ifindex = 0;
          } else if (item->cmsg_level == IPPROTO_IPV6 && item->cmsg_type == IPV6_PKTINFO) {
            reinterpret_cast<in6_pktinfo*>(CMSG_DATA(item))->ipi6_ifindex = 0;
          }
        }
        // A lost answer is an ordinary thing in UDP: the client counts it.
        sendmsg(socket, &message, MSG_NOSIGNAL);
      }
    });
  }

  ServeOptions options_;
  EventLoop loop_;
  std::vector<Listener> listeners_;
  std::vector<UniqueFd> udp_;
  std::list<Connection> connections_;
  bool terminating_ = false;
  bool stopped_accepting_ = false;
};

}  // namespace

int Serve(const ServeOptions& options) {
  return Server(options).Run();
}

}  // namespace pointsman::e2e

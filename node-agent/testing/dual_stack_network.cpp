#include "node-agent/testing/dual_stack_network.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sstream>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <system_error>
#include <thread>

#include <fmt/format.h>
#include <poll.h>
#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include "base/throw_errno.h"
#include "kube/net/socket_address.h"
#include "node-agent/sysctl/sysctl.h"
#include "node-agent/testing/run_tool.h"

namespace pointsman::agent::testing {
namespace {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;

  sockaddr* raw() { return reinterpret_cast<sockaddr*>(&storage); }

  static SocketAddress Of(const std::string& text, uint16_t port) {
    const net::IpAddress ip = net::IpAddress::Parse(text).value();
    return {net::ToSocketAddress(ip, port), net::SocketAddressSize(ip)};
  }

  // Without the "::ffff:" of IPv4 on a socket of both families.
  std::string Text() const {
    const net::IpAddress ip = net::FromSocketAddress(storage).ip;
    constexpr uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    const bool mapped = !ip.is_v4() && std::memcmp(ip.data(), kMapped, sizeof kMapped) == 0;
    return (mapped ? net::IpAddress::FromBytes(ip.data() + 12, 4) : ip).ToString();
  }
};

uint32_t Resent(int fd) {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) ThrowErrno("TCP_INFO");
  return info.tcpi_total_retrans;
}

UniqueFd Dial(const std::string& address, uint16_t port, const Attempt& attempt, Reply& reply) {
  SocketAddress to = SocketAddress::Of(address, port);
  const bool udp = attempt.transport == Transport::kUdp;
  UniqueFd fd(::socket(to.storage.ss_family, (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0));
  if (!fd) ThrowErrno("socket");
  const timeval timeout{attempt.timeout.count() / 1000, attempt.timeout.count() % 1000 * 1000};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
  if (attempt.source_port != 0 || !attempt.source.empty()) {
    const int on = 1;
    ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    std::string any = to.storage.ss_family == AF_INET ? "0.0.0.0" : "::";
    if (!attempt.source.empty()) any = attempt.source;
    SocketAddress from = SocketAddress::Of(any, attempt.source_port);
    if (::bind(fd.get(), from.raw(), from.size) != 0) ThrowErrno("bind");
  }
  reply.transport = attempt.transport;
  char buffer[256];
  ssize_t count = -1;
  if (::connect(fd.get(), to.raw(), to.size) == 0 && (!udp || ::send(fd.get(), "?", 1, 0) == 1)) {
    count = ::recv(fd.get(), buffer, sizeof buffer, 0);
  }
  if (count <= 0) reply.error = count == 0 ? ECONNRESET : errno;
  if (!udp) reply.resent = Resent(fd.get());
  if (count <= 0) return {};
  std::istringstream words(std::string(buffer, static_cast<size_t>(count)));
  words >> reply.server >> reply.peer;
  return fd;
}

}  // namespace

// Tells every client its name and the client's address, then echoes.
class DualStackNetwork::EchoServer {
 public:
  EchoServer(const NetNamespace& where, std::string name, const std::vector<SocketAddress>& on)
      : name_(std::move(name)) {
    where.Run([&] {
      for (SocketAddress address : on) {
        for (const int type : {SOCK_STREAM, SOCK_DGRAM}) {
          const UniqueFd& fd =
              (type == SOCK_STREAM ? listeners_ : datagrams_)
                  .emplace_back(::socket(address.storage.ss_family, type | SOCK_CLOEXEC, 0));
          if (!fd) ThrowErrno("socket");
          if (::bind(fd.get(), address.raw(), address.size) != 0) ThrowErrno("bind");
          if (type == SOCK_STREAM && ::listen(fd.get(), 1024) != 0) ThrowErrno("listen");
        }
      }
    });
    stop_.Reset(::eventfd(0, EFD_CLOEXEC));
    thread_ = std::thread([this] { Serve(); });
  }
  ~EchoServer() {
    const uint64_t one = 1;
    if (::write(stop_.get(), &one, sizeof one) != sizeof one) std::terminate();
    thread_.join();
  }
  EchoServer(const EchoServer&) = delete;
  EchoServer& operator=(const EchoServer&) = delete;

 private:
  void Serve() {
    char buffer[256];
    while (true) {
      std::vector<pollfd> fds{{stop_.get(), POLLIN, 0}};
      for (const std::vector<UniqueFd>* more : {&listeners_, &datagrams_, &clients_}) {
        for (const UniqueFd& fd : *more)
          fds.push_back({fd.get(), POLLIN, 0});
      }
      ::poll(fds.data(), fds.size(), -1);
      if (fds[0].revents != 0) return;
      for (size_t i = 1; i < fds.size(); ++i) {
        if (fds[i].revents == 0) continue;
        SocketAddress peer;
        if (i <= listeners_.size()) {
          UniqueFd fd(::accept4(fds[i].fd, peer.raw(), &peer.size, SOCK_CLOEXEC));
          if (!fd) continue;
          const std::string line = name_ + " " + peer.Text() + "\n";
          ::send(fd.get(), line.data(), line.size(), MSG_NOSIGNAL);
          clients_.push_back(std::move(fd));
        } else if (i <= listeners_.size() + datagrams_.size()) {
          if (::recvfrom(fds[i].fd, buffer, sizeof buffer, 0, peer.raw(), &peer.size) <= 0)
            continue;
          const std::string line = name_ + " " + peer.Text() + "\n";
          ::sendto(fds[i].fd, line.data(), line.size(), 0, peer.raw(), peer.size);
        } else {
          const ssize_t count = ::recv(fds[i].fd, buffer, sizeof buffer, 0);
          if (count > 0) {
            ::send(fds[i].fd, buffer, static_cast<size_t>(count), MSG_NOSIGNAL);
          } else {
            std::erase_if(clients_,
                          [&](const UniqueFd& client) { return client.get() == fds[i].fd; });
          }
        }
      }
    }
  }

  const std::string name_;
  std::vector<UniqueFd> listeners_;
  std::vector<UniqueFd> datagrams_;
  std::vector<UniqueFd> clients_;
  UniqueFd stop_;
  std::thread thread_;
};

net::IpAddress DualStackNetwork::PodIp(int k, net::Family family) {
  return net::IpAddress::Parse(family == net::Family::kIPv4 ? fmt::format("10.244.{}.2", k)
                                                            : fmt::format("fd00:244:{:x}::2", k))
      .value();
}

DualStackNetwork::DualStackNetwork(int pods) {
  // User-Mode Linux has IPv6 as a module; where it is built in there is nothing to load.
  TryTool({"modprobe", "ipv6"});
  const std::vector<SocketAddress> everywhere{SocketAddress::Of("::", 8080)};
  // The links' own addresses would wait a second for duplicates, and neighbours be unknown till
  // then.
  const auto no_waiting = [] { WriteSysctl("net.ipv6.conf.default.accept_dad", "0"); };
  outside_.Run(no_waiting);
  node_.Run([&] {
    no_waiting();
    // `v4`, `v6`: the network, without the host's number.
    const auto wire = [](const std::string& link, const NetNamespace& peer, const std::string& v4,
                         const std::string& v6) {
      IpTool(
          fmt::format("link add {0} type veth peer name eth0 netns {1}\n"
                      "addr add {2}1/24 dev {0}\n"
                      "addr add {3}1/64 dev {0} nodad\n"
                      "link set {0} up\n",
                      link, peer.path(), v4, v6));
      peer.Run([&] {
        IpTool(
            fmt::format("addr add {0}2/24 dev eth0\n"
                        "addr add {1}2/64 dev eth0 nodad\n"
                        "link set eth0 up\n"
                        "route add default via {0}1\n"
                        "route add default via {1}1\n",
                        v4, v6));
      });
    };
    // Every refusal is to be seen, and redirects use up the rate at which the node may send them.
    WriteSysctl("net.ipv4.icmp_ratelimit", "0");
    WriteSysctl("net.ipv6.icmp.ratelimit", "0");
    WriteSysctl("net.ipv4.conf.all.send_redirects", "0");
    WriteSysctl("net.ipv4.conf.default.send_redirects", "0");
    wire("outside", outside_, "192.168.77.", "fd00:77::");
    for (int k = 0; k < pods; ++k) {
      pods_.push_back(std::make_unique<NetNamespace>());
      pods_.back()->Run(no_waiting);
      wire(fmt::format("pod{}", k), *pods_.back(), fmt::format("10.244.{}.", k),
           fmt::format("fd00:244:{:x}::", k));
      servers_.push_back(
          std::make_unique<EchoServer>(*pods_.back(), fmt::format("pod{}", k), everywhere));
    }
    WriteSysctl("net.ipv4.ip_forward", "1");
    WriteSysctl("net.ipv6.conf.all.forwarding", "1");
    // Without a route the node itself could not send to a Service's address at all.
    IpTool("route add default via 192.168.77.2\nroute add default via fd00:77::2\n");
  });
  servers_.push_back(std::make_unique<EchoServer>(node_, "node", everywhere));
  servers_.push_back(
      std::make_unique<EchoServer>(node_, "loopback",
                                   std::vector<SocketAddress>{SocketAddress::Of("127.0.0.1", 8081),
                                                              SocketAddress::Of("::1", 8081)}));
}

void DualStackNetwork::AddPathPastNode(int k) {
  const NetNamespace& there = pod(k);
  const auto take_from_anywhere = [](const char* link) {
    WriteSysctl("net.ipv4.conf.all.rp_filter", "0");
    WriteSysctl(fmt::format("net.ipv4.conf.{}.rp_filter", link), "0");
  };
  outside_.Run([&] {
    IpTool(
        fmt::format("link add past type veth peer name past netns {}\n"
                    "addr add 10.99.0.1/30 dev past\n"
                    "addr add fd00:99::1/64 dev past nodad\n"
                    "link set past up\n",
                    there.path()));
    take_from_anywhere("eth0");
  });
  there.Run([&] {
    IpTool(
        "addr add 10.99.0.2/30 dev past\n"
        "addr add fd00:99::2/64 dev past nodad\n"
        "link set past up\n");
    take_from_anywhere("past");
  });
  outside_.Run([&] {
    IpTool(fmt::format(
        "route add {}/32 via 10.99.0.2 src 192.168.77.2\n"
        "route add {}/128 via fd00:99::2 src fd00:77::2\n",
        PodIp(k, net::Family::kIPv4).ToString(), PodIp(k, net::Family::kIPv6).ToString()));
  });
}

DualStackNetwork::~DualStackNetwork() = default;

Reply Ask(const NetNamespace& from, const std::string& address, uint16_t port,
          const Attempt& attempt) {
  Reply reply;
  from.Run([&] { Dial(address, port, attempt, reply); });
  return reply;
}

OpenStream::OpenStream(const NetNamespace& from, const std::string& address, uint16_t port) {
  Reply reply;
  from.Run([&] { fd_ = Dial(address, port, {}, reply); });
  if (!fd_) throw std::system_error(reply.error, std::generic_category(), "connect " + address);
  server_ = reply.server;
  peer_ = reply.peer;
}

bool OpenStream::Echo() {
  char byte = 'x';
  return ::send(fd_.get(), &byte, 1, MSG_NOSIGNAL) == 1 && ::recv(fd_.get(), &byte, 1, 0) == 1;
}

}  // namespace pointsman::agent::testing

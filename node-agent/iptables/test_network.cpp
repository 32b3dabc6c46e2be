#include "node-agent/iptables/test_network.h"

#include <arpa/inet.h>
#include <cerrno>
#include <exception>
#include <netinet/in.h>
#include <sstream>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <thread>

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <unistd.h>

#include "node-agent/iptables/child_process.h"
#include "node-agent/sysctl/sysctl.h"

namespace pointsman::agent {
namespace {

constexpr uint16_t kPort = 8080;

[[noreturn]] void ThrowErrno(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

void InThread(const std::function<void()>& work) {
  std::exception_ptr error;
  std::thread thread([&] {
    try {
      work();
    } catch (...) {
      error = std::current_exception();  // thrown again in the caller
    }
  });
  thread.join();
  if (error) std::rethrow_exception(error);
}

sockaddr_in AddressOf(const std::string& address, uint16_t port) {
  sockaddr_in result{};
  result.sin_family = AF_INET;
  result.sin_port = htons(port);
  if (::inet_pton(AF_INET, address.c_str(), &result.sin_addr) != 1) {
    throw std::invalid_argument(address);
  }
  return result;
}

int OpenNamespace() {
  int fd = ::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
  if (fd < 0) ThrowErrno("open namespace");
  return fd;
}

Answer ParseAnswer(const std::string& text) {
  std::istringstream stream(text);
  Answer answer;
  stream >> answer.server >> answer.peer;
  return answer;
}

void SetTimeout(int fd, std::chrono::milliseconds timeout) {
  timeval value{timeout.count() / 1000, timeout.count() % 1000 * 1000};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &value, sizeof value);
  ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &value, sizeof value);
}

// The connected socket and the first line, or errno.
int Dial(const std::string& address, uint16_t port, bool udp, std::chrono::milliseconds timeout,
         int& error, std::string& line) {
  int fd = ::socket(AF_INET, (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
  if (fd < 0) ThrowErrno("socket");
  SetTimeout(fd, timeout);
  const sockaddr_in to = AddressOf(address, port);
  char buffer[256];
  ssize_t count = -1;
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0 &&
      (!udp || ::send(fd, "?", 1, 0) == 1)) {
    count = ::recv(fd, buffer, sizeof buffer, 0);
  }
  if (count <= 0) {
    error = count == 0 ? ECONNRESET : errno;
    ::close(fd);
    return -1;
  }
  line.assign(buffer, static_cast<size_t>(count));
  return fd;
}

}  // namespace

NetNamespace::NetNamespace() {
  InThread([this] {
    if (::unshare(CLONE_NEWNET) != 0) ThrowErrno("unshare(CLONE_NEWNET)");
    fd_ = OpenNamespace();
    Ip("link set lo up");
  });
}

NetNamespace::~NetNamespace() {
  ::close(fd_);
}

void NetNamespace::Run(const std::function<void()>& work) const {
  InThread([&] {
    if (::setns(fd_, CLONE_NEWNET) != 0) ThrowErrno("setns");
    work();
  });
}

std::string NetNamespace::path() const {
  return fmt::format("/proc/{}/fd/{}", ::getpid(), fd_);
}

void Ip(const std::string& words) {
  std::vector<std::string> argv{"/sbin/ip"};
  std::istringstream stream(words);
  for (std::string word; stream >> word;)
    argv.push_back(word);
  ChildExit exit = RunChild(argv, {}, nullptr);
  if (exit.status != 0) throw std::runtime_error("ip " + words + ": " + exit.error_output);
}

// Tells every client its name and the client's address, then echoes.
class Server {
 public:
  Server(const NetNamespace& where, std::string name) : name_(std::move(name)) {
    where.Run([this] {
      tcp_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      udp_ = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
      const sockaddr_in any = AddressOf("0.0.0.0", kPort);
      for (int fd : {tcp_, udp_}) {
        if (::bind(fd, reinterpret_cast<const sockaddr*>(&any), sizeof any) != 0) {
          ThrowErrno("bind");
        }
      }
      if (::listen(tcp_, 128) != 0) ThrowErrno("listen");
    });
    stop_ = ::eventfd(0, EFD_CLOEXEC);
    thread_ = std::thread([this] { Serve(); });
  }
  ~Server() {
    const uint64_t one = 1;
    if (::write(stop_, &one, sizeof one) != sizeof one) spdlog::error("eventfd");
    thread_.join();
    for (int fd : {tcp_, udp_, stop_})
      ::close(fd);
    for (int fd : clients_)
      ::close(fd);
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

 private:
  std::string Line(const sockaddr_in& peer) const {
    char text[INET_ADDRSTRLEN];
    ::inet_ntop(AF_INET, &peer.sin_addr, text, sizeof text);
    return name_ + " " + text + "\n";
  }

  void Serve() {
    for (;;) {
      std::vector<pollfd> fds{{stop_, POLLIN, 0}, {tcp_, POLLIN, 0}, {udp_, POLLIN, 0}};
      for (int fd : clients_)
        fds.push_back({fd, POLLIN, 0});
      ::poll(fds.data(), fds.size(), -1);
      if (fds[0].revents != 0) return;
      sockaddr_in peer{};
      socklen_t length = sizeof peer;
      char buffer[256];
      if (fds[1].revents != 0) {
        int fd = ::accept4(tcp_, reinterpret_cast<sockaddr*>(&peer), &length, SOCK_CLOEXEC);
        if (fd >= 0) {
          clients_.push_back(fd);
          const std::string line = Line(peer);
          ::send(fd, line.data(), line.size(), MSG_NOSIGNAL);
        }
      }
      if (fds[2].revents != 0) {
        length = sizeof peer;
        if (::recvfrom(udp_, buffer, sizeof buffer, 0, reinterpret_cast<sockaddr*>(&peer),
                       &length) > 0) {
          const std::string line = Line(peer);
          ::sendto(udp_, line.data(), line.size(), 0, reinterpret_cast<sockaddr*>(&peer), length);
        }
      }
      for (size_t i = 3; i < fds.size(); ++i) {
        if (fds[i].revents == 0) continue;
        ssize_t count = ::recv(fds[i].fd, buffer, sizeof buffer, 0);
        if (count > 0) {
          ::send(fds[i].fd, buffer, static_cast<size_t>(count), MSG_NOSIGNAL);
        } else {
          ::close(fds[i].fd);
          clients_.erase(std::find(clients_.begin(), clients_.end(), fds[i].fd));
        }
      }
    }
  }

  const std::string name_;
  int tcp_ = -1;
  int udp_ = -1;
  int stop_ = -1;
  std::vector<int> clients_;
  std::thread thread_;
};

Stream::~Stream() {
  ::close(fd_);
}

bool Stream::Echo() {
  char byte = 'x';
  return ::send(fd_, &byte, 1, MSG_NOSIGNAL) == 1 && ::recv(fd_, &byte, 1, 0) == 1;
}

net::IpAddress TestNetwork::PodIp(int k) {
  return net::IpAddress::V4(0x0af40002U + (static_cast<uint32_t>(k) << 8));
}

TestNetwork::TestNetwork(int pods) {
  node_.Run([&] {
    auto wire = [](const std::string& link, const NetNamespace& peer, const std::string& ours,
                   const std::string& theirs) {
      Ip(fmt::format("link add {} type veth peer name eth0 netns {}", link, peer.path()));
      Ip(fmt::format("addr add {}/24 dev {}", ours, link));
      Ip(fmt::format("link set {} up", link));
      peer.Run([&] {
        Ip(fmt::format("addr add {}/24 dev eth0", theirs));
        Ip("link set eth0 up");
        Ip(fmt::format("route add default via {}", ours));
      });
    };
    // Redirects would use up the rate at which the node may send ICMP errors.
    WriteSysctl("net.ipv4.conf.all.send_redirects", "0");
    WriteSysctl("net.ipv4.conf.default.send_redirects", "0");
    wire("outside", outside_, "192.168.77.1", "192.168.77.2");
    for (int k = 0; k < pods; ++k) {
      pods_.push_back(std::make_unique<NetNamespace>());
      wire(fmt::format("pod{}", k), *pods_.back(), fmt::format("10.244.{}.1", k),
           fmt::format("10.244.{}.2", k));
      servers_.push_back(std::make_unique<Server>(*pods_.back(), fmt::format("pod{}", k)));
    }
    WriteSysctl("net.ipv4.ip_forward", "1");
    // Without a route the node itself could not send to a Service's address at all.
    Ip("route add default via 192.168.77.2");
  });
}

TestNetwork::~TestNetwork() = default;

TestNetwork::Outcome TestNetwork::Connect(const NetNamespace& from, const std::string& address,
                                          uint16_t port, bool udp,
                                          std::chrono::milliseconds timeout) {
  Outcome outcome;
  from.Run([&] {
    const auto start = std::chrono::steady_clock::now();
    std::string line;
    int fd = Dial(address, port, udp, timeout, outcome.error, line);
    outcome.took = std::chrono::duration_cast<std::chrono::milliseconds>(
        std::chrono::steady_clock::now() - start);
    if (fd < 0) return;
    ::close(fd);
    outcome.answer = ParseAnswer(line);
  });
  return outcome;
}

std::unique_ptr<Stream> TestNetwork::Open(const NetNamespace& from, const std::string& address,
                                          uint16_t port) {
  std::unique_ptr<Stream> stream;
  from.Run([&] {
    int error = 0;
    std::string line;
    int fd = Dial(address, port, false, std::chrono::seconds(3), error, line);
    if (fd < 0) throw std::system_error(error, std::generic_category(), "connect " + address);
    stream = std::make_unique<Stream>(fd);
    stream->answer = ParseAnswer(line);
  });
  return stream;
}

}  // namespace pointsman::agent

#include "node-agent/testing/test_network.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <netinet/in.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <system_error>

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <unistd.h>

#include "base/throw_errno.h"
#include "kube/net/socket_address.h"
#include "node-agent/testing/run_tool.h"

namespace pointsman::agent::testing {
namespace {

// As the socket calls take it.
struct Address {
  sockaddr_storage storage;
  socklen_t size;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  int family() const { return storage.ss_family; }
};

Address MakeAddress(const std::string& text, uint16_t port) {
  const net::IpAddress ip = net::IpAddress::Parse(text).value();
  return {net::ToSocketAddress(ip, port), net::SocketAddressSize(ip)};
}

bool WaitFor(int fd, short events, std::chrono::milliseconds timeout) {
  pollfd item{fd, events, 0};
  return poll(&item, 1, static_cast<int>(timeout.count())) == 1;
}

Answer Parse(const char* data, ssize_t size) {
  Answer answer;
  const std::string text(data, static_cast<size_t>(size));
  const size_t blank = text.find(' ');
  answer.host = text.substr(0, blank);
  if (blank != std::string::npos)
    answer.source = text.substr(blank + 1, text.find('\n') - blank - 1);
  return answer;
}

}  // namespace

TestNetwork::TestNetwork() : wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!wake_) ThrowErrno("eventfd");
  thread_ = std::thread([this] { Loop(); });
}

TestNetwork::~TestNetwork() {
  stop_ = true;
  eventfd_write(wake_.get(), 1);
  thread_.join();
  servers_.clear();
  for (const std::string& host : hosts_) {
    // The kernel ends a namespace and what is in it some time later; the next test has this name
    // too.
    TryTool({"ip", "link", "del", "v" + host});
    TryTool({"ip", "netns", "del", host});
  }
}

void TestNetwork::AddHost(const std::string& name, const std::string& ip,
                          const std::string& gateway) {
  RunTool({"ip", "netns", "add", name});
  hosts_.push_back(name);
  const std::string node_side = "v" + name;
  RunTool({"ip", "link", "add", node_side, "type", "veth", "peer", "name", "eth0", "netns", name});
  RunTool({"ip", "link", "set", node_side, "up"});
  RunTool({"ip", "-n", name, "link", "set", "lo", "up"});
  RunTool({"ip", "-n", name, "link", "set", "eth0", "up"});
  SetTimeWaitBuckets(name, kTimeWaitBuckets);
  AddAddress(name, ip, gateway);
}

void TestNetwork::SetTimeWaitBuckets(const std::string& host, int buckets) {
  RunTool({"ip", "netns", "exec", host, "sysctl", "-qw",
           "net.ipv4.tcp_max_tw_buckets=" + std::to_string(buckets)});
}

void TestNetwork::AddAddress(const std::string& name, const std::string& ip,
                             const std::string& gateway) {
  const bool v6 = ip.find(':') != std::string::npos;
  const std::string node_side = "v" + name;
  const std::string length = v6 ? "/128" : "/32";
  if (v6) {
    RunTool({"ip", "-6", "addr", "add", gateway + length, "dev", node_side, "nodad"});
    RunTool({"ip", "-n", name, "-6", "addr", "add", ip + length, "dev", "eth0", "nodad"});
  } else {
    RunTool({"ip", "addr", "add", gateway + length, "dev", node_side});
    RunTool({"ip", "-n", name, "addr", "add", ip + length, "dev", "eth0"});
  }
  const char* family = v6 ? "-6" : "-4";
  RunTool({"ip", family, "route", "add", ip + length, "dev", node_side});
  RunTool({"ip", "-n", name, family, "route", "add", gateway + length, "dev", "eth0"});
  RunTool({"ip", "-n", name, family, "route", "add", "default", "via", gateway, "dev", "eth0"});
}

UniqueFd TestNetwork::Socket(const std::string& host, int family, int type, int protocol) {
  UniqueFd fd;
  int error = 0;
  // A socket belongs to the namespace that its maker is in; a thread of its own enters it.
  std::thread([&] {
    if (!host.empty()) {
      const UniqueFd ns(open(("/run/netns/" + host).c_str(), O_RDONLY | O_CLOEXEC));
      if (!ns || setns(ns.get(), CLONE_NEWNET) < 0) {
        error = errno;
        return;
      }
    }
    fd.Reset(socket(family, type | SOCK_CLOEXEC, protocol));
    if (!fd) error = errno;
  }).join();
  if (!fd) throw std::system_error(error, std::generic_category(), "socket in " + host);
  return fd;
}

void TestNetwork::Serve(const std::string& host, const std::string& ip, uint16_t port) {
  Bind(host, ip, port, SOCK_STREAM, 0);
  Bind(host, ip, port, SOCK_DGRAM, 0);
}

void TestNetwork::ServeSctp(const std::string& host, const std::string& ip, uint16_t port) {
  Bind(host, ip, port, SOCK_STREAM, IPPROTO_SCTP);
}

void TestNetwork::Bind(const std::string& host, const std::string& ip, uint16_t port, int type,
                       int protocol) {
  const Address address = MakeAddress(ip, port);
  const bool stream = type == SOCK_STREAM;
  UniqueFd fd = Socket(host, address.family(), type | SOCK_NONBLOCK, protocol);
  const int on = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd.get(), address.get(), address.size) < 0) ThrowErrno("bind " + host + " " + ip);
  if (stream && listen(fd.get(), 128) < 0) ThrowErrno("listen");
  {
    const std::lock_guard lock(mutex_);
    servers_.push_back({host, std::move(fd), stream, stream});
  }
  eventfd_write(wake_.get(), 1);
}

void TestNetwork::StopServing(const std::string& host) {
  const std::lock_guard lock(mutex_);
  std::erase_if(servers_, [&](const Server& server) { return server.host == host; });
  eventfd_write(wake_.get(), 1);
}

void TestNetwork::Loop() {
  std::array<char, 4096> buffer{};
  while (!stop_) {
    std::vector<pollfd> items{{wake_.get(), POLLIN, 0}};
    {
      const std::lock_guard lock(mutex_);
      for (const Server& server : servers_)
        items.push_back({server.fd.get(), POLLIN, 0});
    }
    if (poll(items.data(), items.size(), -1) < 0 && errno != EINTR) return;
    const std::lock_guard lock(mutex_);
    for (const pollfd& item : items) {
      if (item.revents == 0) continue;
      if (item.fd == wake_.get()) {
        eventfd_t count = 0;
        eventfd_read(wake_.get(), &count);
        continue;
      }
      const auto found = std::find_if(servers_.begin(), servers_.end(),
                                      [&](const Server& s) { return s.fd.get() == item.fd; });
      if (found == servers_.end()) continue;  // closed meanwhile
      const Server& server = *found;
      sockaddr_storage peer{};
      socklen_t length = sizeof peer;
      auto* peer_address = reinterpret_cast<sockaddr*>(&peer);
      if (server.listening) {
        UniqueFd fd(accept4(item.fd, peer_address, &length, SOCK_NONBLOCK | SOCK_CLOEXEC));
        if (fd) servers_.push_back({std::string(server.host), std::move(fd), true, false});
        continue;
      }
      const ssize_t size =
          recvfrom(item.fd, buffer.data(), buffer.size(), 0, peer_address, &length);
      if (size < 0 && errno == EAGAIN) continue;
      if (server.stream && size <= 0) {
        servers_.erase(found);
        continue;
      }
      if (size < 0) continue;
      if (server.stream) {
        length = sizeof peer;
        if (getpeername(item.fd, peer_address, &length) < 0) continue;
      }
      const std::string answer =
          server.host + " " + net::FromSocketAddress(peer).ip.ToString() + "\n";
      sendto(item.fd, answer.data(), answer.size(), MSG_NOSIGNAL,
             server.stream ? nullptr : peer_address, server.stream ? 0 : length);
    }
  }
}

Stream::Stream(TestNetwork& network, const std::string& host, const std::string& ip, uint16_t port,
               std::chrono::milliseconds timeout, int protocol, uint16_t source_port)
    : timeout_(timeout) {
  const Address address = MakeAddress(ip, port);
  fd_ = network.Socket(host, address.family(), SOCK_STREAM | SOCK_NONBLOCK, protocol);
  if (source_port != 0) {
    const Address source = MakeAddress(address.family() == AF_INET ? "0.0.0.0" : "::", source_port);
    const int on = 1;
    setsockopt(fd_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd_.get(), source.get(), source.size) < 0) {
      error_ = errno;
      return;
    }
  }
  if (connect(fd_.get(), address.get(), address.size) == 0) return;
  if (errno != EINPROGRESS) {
    error_ = errno;
    return;
  }
  if (!WaitFor(fd_.get(), POLLOUT, timeout_)) {
    error_ = ETIMEDOUT;
    return;
  }
  socklen_t length = sizeof error_;
  getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error_, &length);
}

Answer Stream::Ask() {
  Answer answer;
  answer.error = error_;
  if (error_ != 0) return answer;
  std::array<char, 256> buffer{};
  if (send(fd_.get(), "hi\n", 3, MSG_NOSIGNAL) < 0) {
    answer.error = errno;
    return answer;
  }
  if (!WaitFor(fd_.get(), POLLIN, timeout_)) {
    answer.error = ETIMEDOUT;
    return answer;
  }
  const ssize_t size = recv(fd_.get(), buffer.data(), buffer.size(), 0);
  if (size > 0) return Parse(buffer.data(), size);
  answer.error = size < 0 ? errno : EPIPE;
  return answer;
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

Answer AskTcp(TestNetwork& network, const std::string& host, const std::string& ip, uint16_t port) {
  Stream stream(network, host, ip, port);
  return stream.Ask();
}

Answer AskUdp(TestNetwork& network, const std::string& host, const std::string& ip, uint16_t port,
              uint16_t source_port) {
  const Address address = MakeAddress(ip, port);
  const UniqueFd fd = network.Socket(host, address.family(), SOCK_DGRAM);
  Answer answer;
  std::array<char, 256> buffer{};
  const Address source = MakeAddress(address.family() == AF_INET ? "0.0.0.0" : "::", source_port);
  if ((source_port != 0 && bind(fd.get(), source.get(), source.size) < 0) ||
      connect(fd.get(), address.get(), address.size) < 0 || send(fd.get(), "hi\n", 3, 0) < 0) {
    answer.error = errno;
  } else if (!WaitFor(fd.get(), POLLIN, std::chrono::milliseconds(1000))) {
    answer.error = ETIMEDOUT;
  } else {
    const ssize_t size = recv(fd.get(), buffer.data(), buffer.size(), 0);
    if (size > 0)
      answer = Parse(buffer.data(), size);
    else
      answer.error = errno;
  }
  return answer;
}

}  // namespace pointsman::agent::testing

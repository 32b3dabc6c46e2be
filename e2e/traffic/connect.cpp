#include "e2e/traffic/connect.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <linux/errqueue.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <random>
#include <string_view>
#include <system_error>
#include <thread>

#include <nlohmann/json.hpp>
#include <poll.h>

#include "kube/testing/patient_poll.h"

namespace pointsman::e2e {
namespace {

using Clock = std::chrono::steady_clock;

// The ICMP error behind a failed call, "" when there was none. A TCP reset and an ICMP port
// unreachable both are ECONNREFUSED; only the error queue (IP_RECVERR) tells REJECT rules apart.
std::string IcmpError(int fd) {
  std::array<char, 512> control;
  std::array<char, 64> payload;
  iovec data{payload.data(), payload.size()};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  if (recvmsg(fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) return "";
  for (cmsghdr* item = CMSG_FIRSTHDR(&message); item != nullptr;
       item = CMSG_NXTHDR(&message, item)) {
    if (!(item->cmsg_level == IPPROTO_IP && item->cmsg_type == IP_RECVERR) &&
        !(item->cmsg_level == IPPROTO_IPV6 && item->cmsg_type == IPV6_RECVERR)) {
      continue;
    }
    sock_extended_err error{};
    std::memcpy(&error, CMSG_DATA(item), sizeof error);
    if (error.ee_origin == SO_EE_ORIGIN_ICMP && error.ee_type == ICMP_DEST_UNREACH) {
      switch (error.ee_code) {
        case ICMP_PORT_UNREACH:
          return "icmp-port-unreachable";
        case ICMP_HOST_UNREACH:
          return "icmp-host-unreachable";
        case ICMP_NET_UNREACH:
          return "icmp-net-unreachable";
        case ICMP_PKT_FILTERED:
        case ICMP_HOST_ANO:
        case ICMP_NET_ANO:
          return "icmp-admin-prohibited";
        default:
          return "icmp-unreachable-" + std::to_string(error.ee_code);
      }
    }
    if (error.ee_origin == SO_EE_ORIGIN_ICMP6 && error.ee_type == ICMP6_DST_UNREACH) {
      switch (error.ee_code) {
        case ICMP6_DST_UNREACH_NOPORT:
          return "icmp-port-unreachable";
        case ICMP6_DST_UNREACH_ADDR:
          return "icmp-host-unreachable";
        case ICMP6_DST_UNREACH_ADMIN:
          return "icmp-admin-prohibited";
        default:
          return "icmp-unreachable-" + std::to_string(error.ee_code);
      }
    }
  }
  return "";
}

class Prober {
 public:
  Prober(Protocol protocol, const Endpoint& target, const std::string& from,
         std::uint16_t from_port, std::chrono::milliseconds timeout)
      : patience_(timeout), fd_(OpenSocket(protocol, target.family(), from, from_port)) {
    const int on = 1;
    if (target.family() == AF_INET) {
      setsockopt(fd_.get(), IPPROTO_IP, IP_RECVERR, &on, sizeof on);
    } else {
      setsockopt(fd_.get(), IPPROTO_IPV6, IPV6_RECVERR, &on, sizeof on);
    }
  }

  // For the steps to come.
  void SetTimeout(std::chrono::milliseconds timeout) { patience_.Refill(timeout); }

  // Each step: "" or how it failed.
  std::string Connect(const Endpoint& target) {
    if (connect(fd_.get(), reinterpret_cast<const sockaddr*>(&target.address), target.size) == 0)
      return "";
    if (errno != EINPROGRESS) return Failed(errno);
    if (!Wait(POLLOUT)) return "timeout";
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &size);
    return error == 0 ? "" : Failed(error);
  }

  std::string Send(std::string_view data) {
    const ssize_t sent = send(fd_.get(), data.data(), data.size(), MSG_NOSIGNAL);
    return sent < 0 ? Failed(errno) : "";
  }

  // Reads until `whole` says that `text` is complete.
  std::string Read(std::string& text, const std::function<bool(const std::string&)>& whole) {
    std::array<char, 2048> buffer;
    while (!whole(text)) {
      if (!Wait(POLLIN)) return "timeout";
      const ssize_t got = recv(fd_.get(), buffer.data(), buffer.size(), 0);
      if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (got < 0) return Failed(errno);
      if (got == 0) return "closed";
      text.append(buffer.data(), static_cast<std::size_t>(got));
      if (text.size() > 4096) return "wrong";
    }
    return "";
  }

  // 0: it has none yet.
  int LocalPort() const {
    sockaddr_storage local{};
    socklen_t size = sizeof local;
    if (getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&local), &size) != 0)
      throw std::system_error(errno, std::generic_category(), "getsockname");
    return ntohs(local.ss_family == AF_INET
                     ? reinterpret_cast<const sockaddr_in&>(local).sin_port
                     : reinterpret_cast<const sockaddr_in6&>(local).sin6_port);
  }

 private:
  // False: its time is over.
  bool Wait(short events) {
    pollfd entry{fd_.get(), events, 0};
    const int result = patience_.Poll(entry);
    if (result < 0) throw std::system_error(errno, std::generic_category(), "poll");
    return result > 0;
  }
  std::string Failed(int error) {
    const std::string icmp = IcmpError(fd_.get());
    return icmp.empty() ? FailureKind(error) : icmp;
  }

  Patience patience_;
  UniqueFd fd_;
};

// "NAME client:port …"; false: it is none.
bool ReadGreeting(const std::string& text, std::string& backend, std::string& seen_source) {
  const auto space = text.find(' ');
  if (space == std::string::npos) return false;
  backend = text.substr(0, space);
  const auto end = text.find_first_of(" \n", space + 1);
  seen_source = text.substr(space + 1, end - space - 1);
  return true;
}

}  // namespace

nlohmann::json ProbeResult::ToJson() const {
  return {{"ok", ok},       {"backend", backend}, {"seen_source", seen_source},
          {"error", error}, {"ms", ms},           {"local_port", local_port},
          {"sent", sent}};
}

ProbeResult Probe(Protocol protocol, const Endpoint& target, const std::string& from,
                  std::chrono::milliseconds timeout, std::uint16_t from_port,
                  std::chrono::milliseconds resend) {
  const auto start = Clock::now();
  ProbeResult result;
  static std::mt19937_64 random{std::random_device{}()};
  const std::string token = std::to_string(random());
  Prober prober(protocol, target, from, from_port, timeout);
  std::string greeting;
  std::string echo;
  const auto line = [](const std::string& text) { return text.ends_with('\n'); };
  const auto datagram = [](const std::string& text) { return !text.empty(); };
  result.error = prober.Connect(target);
  if (protocol != Protocol::kUdp) {
    if (result.error.empty()) result.error = prober.Read(greeting, line);
    if (result.error.empty()) result.error = prober.Send(token + "\n");
    if (result.error.empty()) result.error = prober.Read(echo, line);
    if (result.error.empty() && echo != token + "\n") result.error = "wrong";
  } else {
    if (resend.count() == 0) resend = timeout;
    for (auto left = timeout;
         left.count() > 0 && (result.error.empty() || result.error == "timeout");) {
      const auto wait = std::min(resend, left);
      left -= wait;
      prober.SetTimeout(wait);
      result.error = prober.Send(token);
      ++result.sent;
      if (result.error.empty()) result.error = prober.Read(greeting, datagram);
      if (result.error.empty()) break;
    }
    if (result.error.empty() && !greeting.ends_with(" " + token)) result.error = "wrong";
  }
  result.ms = std::chrono::duration<double, std::milli>(Clock::now() - start).count();
  result.local_port = prober.LocalPort();
  if (!ReadGreeting(greeting, result.backend, result.seen_source) && result.error.empty())
    result.error = "wrong";
  result.ok = result.error.empty();
  return result;
}

void Hold(Protocol protocol, const Endpoint& target, const std::string& from,
          std::uint16_t from_port, std::chrono::milliseconds interval,
          std::chrono::milliseconds timeout,
          const std::function<void(const nlohmann::json&)>& say) {
  Prober prober(protocol, target, from, from_port, timeout);
  std::int64_t exchanges = 0;
  std::string backend;
  std::string seen_source;
  const auto line = [](const std::string& text) { return text.ends_with('\n'); };
  std::string error = prober.Connect(target);
  if (protocol != Protocol::kUdp && error.empty()) {
    std::string greeting;
    error = prober.Read(greeting, line);
    if (error.empty() && !ReadGreeting(greeting, backend, seen_source)) error = "wrong";
  }
  for (std::int64_t n = 1; error.empty() || protocol == Protocol::kUdp; ++n) {
    const auto next = Clock::now() + interval;
    prober.SetTimeout(timeout);
    const std::string token = std::to_string(n);
    error = prober.Send(protocol == Protocol::kUdp ? token : token + "\n");
    std::string answer;
    if (protocol != Protocol::kUdp) {
      if (error.empty()) error = prober.Read(answer, line);
      if (error.empty() && answer != token + "\n") error = "wrong";
    } else if (error.empty()) {
      // An answer to an earlier datagram that came late is not this one's.
      const auto ours = [&token](const std::string& text) { return text.ends_with(" " + token); };
      error = prober.Read(answer, [&](const std::string& text) {
        if (!text.empty() && !ours(text)) answer.clear();
        return ours(answer);
      });
      if (error.empty() && !ReadGreeting(answer, backend, seen_source)) error = "wrong";
    }
    if (error.empty()) {
      say({{"n", ++exchanges}, {"backend", backend}, {"seen_source", seen_source}});
    } else {
      say({{"n", exchanges}, {"error", error}});
    }
    std::this_thread::sleep_until(next);  // the interval is what was asked for
  }
  if (exchanges == 0 && !error.empty()) say({{"n", 0}, {"error", error}});
}

std::string PlainProbe(const Endpoint& target, const std::string& http_path,
                       std::chrono::milliseconds timeout) {
  Prober prober(Protocol::kTcp, target, "", 0, timeout);
  std::string error = prober.Connect(target);
  if (!error.empty() || http_path.empty()) return error;
  error = prober.Send("GET " + http_path + " HTTP/1.1\r\nHost: " + target.ToString() +
                      "\r\nConnection: close\r\n\r\n");
  std::string answer;
  if (error.empty())
    error = prober.Read(
        answer, [](const std::string& text) { return text.find("\r\n") != std::string::npos; });
  if (!error.empty() && answer.find("\r\n") == std::string::npos) return error;
  const std::string status = answer.size() > 12 ? answer.substr(9, 3) : answer;
  return status >= "200" && status < "400" ? "" : "http " + status;
}

}  // namespace pointsman::e2e

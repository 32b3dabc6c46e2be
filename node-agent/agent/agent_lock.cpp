#include "node-agent/agent/agent_lock.h"

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <fstream>
#include <mutex>
#include <optional>
#include <sys/socket.h>
#include <sys/un.h>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "kube/text/text.h"

namespace pointsman::agent {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kPoll{100};
// What a name that is bound and not listened on is looked for again: its owner is about to.
constexpr int kTries = 10;

struct Address {
  sockaddr_un address{};
  socklen_t size = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&address); }
};

// Abstract: the name begins with a zero byte and is not ended by one.
Address LockAddress() {
  Address lock;
  lock.address.sun_family = AF_UNIX;
  std::memcpy(lock.address.sun_path + 1, AgentLock::kName.data(), AgentLock::kName.size());
  lock.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + AgentLock::kName.size());
  return lock;
}

UniqueFd NewSocket() {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) throw std::system_error(errno, std::generic_category(), "socket of the agent's lock");
  return fd;
}

// Who listens on the name; nullopt: nobody does.
std::optional<ucred> Owner() {
  const UniqueFd fd = NewSocket();
  const Address lock = LockAddress();
  ucred owner{};
  socklen_t size = sizeof owner;
  // EAGAIN: so many look at once that the owner's queue is full. Then nobody knows who it is.
  const bool known = ::connect(fd.get(), lock.get(), lock.size) == 0 &&
                     ::getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &owner, &size) == 0;
  return known ? std::optional<ucred>(owner) : std::nullopt;
}

std::string Describe(const ucred& owner) {
  // Of a process in another PID namespace the kernel gives 0.
  if (owner.pid == 0) return "a process outside of this container";
  std::ifstream file(fmt::format("/proc/{}/cmdline", owner.pid), std::ios::binary);
  std::string command((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  std::replace(command.begin(), command.end(), '\0', ' ');
  return fmt::format("process {} ({})", owner.pid,
                     text::Message(text::TrimSpace(text::Cut(command, 200)), 200));
}

}  // namespace

std::string AgentLock::TryTake() {
  if (fd_) return "";
  const Address lock = LockAddress();
  for (int i = 0; i < kTries; ++i) {
    UniqueFd fd = NewSocket();
    // Listening is for those who ask who it is: the kernel answers them. Nobody is accepted.
    if (::bind(fd.get(), lock.get(), lock.size) == 0 && ::listen(fd.get(), 64) == 0) {
      fd_ = std::move(fd);
      return "";
    }
    const int error = errno;
    fd.Reset();
    if (error != EADDRINUSE) {
      throw std::system_error(error, std::generic_category(), "the agent's lock");
    }
    const std::optional<ucred> owner = Owner();
    if (!owner) {
      ::usleep(1000);
      continue;
    }
    if (owner->uid == ::geteuid()) return Describe(*owner);
    spdlog::warn(
        "the socket @{} belongs to user {}, which is not an agent's: whether another agent runs on "
        "this node is not known",
        kName, owner->uid);
    return "";
  }
  return "a process that cannot be identified";
}

bool AgentLock::Take(std::chrono::milliseconds patience, const std::stop_token& stop) {
  const Clock::time_point deadline = Clock::now() + patience;
  std::string told;
  std::mutex mutex;
  std::condition_variable_any wake;
  while (!stop.stop_requested()) {
    const std::string holder = TryTake();
    if (holder.empty()) {
      if (!told.empty()) spdlog::info("the other agent has ended; this one takes over");
      return true;
    }
    if (Clock::now() >= deadline) {
      throw std::runtime_error(fmt::format(
          "another pointsman-node-agent runs in this network namespace: {}. Both would change the "
          "same rules, so this one exits; stop the other one first (on the node, `ss -xlp` shows "
          "it "
          "as @{})",
          holder, kName));
    }
    if (holder != told) {
      spdlog::warn(
          "another pointsman-node-agent runs in this network namespace: {}; waiting {} s "
          "for it to exit",
          holder, std::chrono::duration<double>(patience).count());
      told = holder;
    }
    std::unique_lock lock(mutex);
    wake.wait_for(lock, stop, kPoll, [] { return false; });
  }
  return false;
}

}  // namespace pointsman::agent

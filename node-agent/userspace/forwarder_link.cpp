#include "node-agent/userspace/forwarder_link.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <random>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "base/throw_errno.h"
#include "base/unique_fd.h"
#include "kube/process/child_wait.h"
#include "node-agent/userspace/forwarder/launcher.h"
#include "node-agent/userspace/forwarder/spawn.h"
#include "node-agent/userspace/running_forwarders.h"

namespace pointsman::agent {
namespace {

using forwarder::ProtocolError;
using forwarder::ServiceBindings;
using forwarder::Slot;
using forwarder::Stats;
using forwarder::Update;

constexpr std::chrono::seconds kStartTimeout{10};
constexpr std::chrono::seconds kReapTimeout{5};
// A socket that nobody listens on is left over from a killed forwarder once it is that old;
// younger, somebody may be about to.
constexpr std::chrono::seconds kLeftOver{10};
constexpr std::chrono::milliseconds kFirstRetry{100};
constexpr std::chrono::milliseconds kLongestRetry{5000};

std::chrono::seconds Age(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) return std::chrono::seconds(0);
  return std::chrono::duration_cast<std::chrono::seconds>(
      std::chrono::system_clock::now() - std::chrono::system_clock::from_time_t(status.st_mtime));
}

}  // namespace

ForwarderLink::ForwarderLink(ForwarderSettings settings)
    : settings_(std::move(settings)),
      netns_(NetnsInode()),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!wake_) ThrowErrno("eventfd");
}

ForwarderLink::~ForwarderLink() {
  if (!watcher_.joinable()) return;
  watcher_.request_stop();
  Wake();
  watcher_.join();
}

void ForwarderLink::Wake() const {
  const uint64_t one = 1;
  if (::write(wake_.get(), &one, sizeof one) < 0 && errno != EAGAIN) ThrowErrno("eventfd");
}

std::vector<ForwarderLink::Known> ForwarderLink::Look(bool clear) {
  std::vector<Known> found;
  for (const std::string& path : ControlSockets(settings_.directory)) {
    if (session_ != nullptr && path == path_) continue;
    try {
      auto session = std::make_unique<ForwarderSession>(path);
      if (session->hello().netns == netns_) found.push_back({path, std::move(session)});
    } catch (const std::system_error& problem) {
      const auto code = problem.code();
      if (code == std::errc::connection_refused &&
          (clear || path == lost_path_ || Age(path) > kLeftOver)) {
        ::unlink(path.c_str());
      } else if (code != std::errc::connection_refused &&
                 code != std::errc::no_such_file_or_directory) {
        spdlog::warn("forwarder at {}: {}", path, problem.what());
      }
    } catch (const ProtocolError& problem) {
      spdlog::warn("forwarder at {}: {}", path, problem.what());
    }
  }
  return found;
}

bool ForwarderLink::AdoptLocked() {
  std::vector<Known> all = Look();
  // One that is not draining first.
  std::stable_sort(all.begin(), all.end(), [](const Known& a, const Known& b) {
    return a.session->hello().draining < b.session->hello().draining;
  });
  for (Known& known : all) {
    const forwarder::HelloReply& hello = known.session->hello();
    if (hello.protocol != forwarder::kProtocolVersion || hello.version != settings_.version) {
      continue;
    }
    const forwarder::PortRange& range = settings_.port_range;
    if (range.first != 0 && (hello.port_v4 < range.first || hello.port_v4 > range.last)) continue;
    session_ = std::move(known.session);
    path_ = known.path;
    port_ = hello.port_v4;
    last_slot_ = hello.last_slot;
    draining_ = hello.draining;
    spdlog::info("adopted the forwarder (process {}, port {})", hello.pid, hello.port_v4);
    return true;
  }
  return false;
}

void ForwarderLink::Reap() {
  if (child_ > 0 && ::waitpid(child_, nullptr, WNOHANG) != 0) child_ = -1;
}

void ForwarderLink::Lost() {
  session_.reset();
  lost_path_ = std::exchange(path_, "");
  Reap();
  Wake();
}

void ForwarderLink::Start() {
  CheckControlDirectory(settings_.directory, /*make=*/true);
  std::random_device random;
  const std::string path =
      fmt::format("{}/forwarder-{:08x}{:08x}.sock", settings_.directory, random(), random());
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) ThrowErrno("pipe2");
  UniqueFd ready(ends[0]);
  UniqueFd child_ready(ends[1]);

  std::vector<std::string> arguments{"--control",
                                     path,
                                     "--udp-idle-timeout",
                                     std::to_string(settings_.udp_idle_timeout.count()),
                                     "--mark",
                                     std::to_string(settings_.mark),
                                     "--max-files",
                                     std::to_string(settings_.max_files),
                                     "--instance-version",
                                     settings_.version,
                                     "--log-format",
                                     settings_.log_format};
  if (port_ != 0) arguments.insert(arguments.end(), {"--port", std::to_string(port_)});
  if (settings_.port_range.first != 0) {
    arguments.insert(arguments.end(),
                     {"--port-range",
                      fmt::format("{}-{}", settings_.port_range.first, settings_.port_range.last)});
  }
  pid_t pid = -1;  // of our child
  try {
    if (settings_.launcher.empty()) {
      pid = forwarder::Spawn(settings_.program, std::move(arguments), child_ready.get());
    } else {
      forwarder::Launch(settings_.launcher, arguments, child_ready.get(),
                        settings_.launcher_patience);
    }
  } catch (const std::system_error& error) {
    throw std::runtime_error(fmt::format("the forwarder cannot be started: {}", error.what()));
  }
  child_ready.Reset();

  std::string said;
  const auto deadline = std::chrono::steady_clock::now() + kStartTimeout;
  while (said != "+") {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    pollfd item{ready.get(), POLLIN, 0};
    const int polled = ::poll(&item, 1, static_cast<int>(std::max<int64_t>(left.count(), 0)));
    if (polled < 0 && errno == EINTR) continue;
    std::array<char, 1024> buffer;
    const ssize_t count = polled > 0 ? ::read(ready.get(), buffer.data(), buffer.size()) : -1;
    if (count > 0 && said.size() < 4096) {
      said.append(buffer.data(), static_cast<size_t>(count));
      continue;
    }
    if (pid > 0 && !kube::KillChild(pid, /*group=*/false, kReapTimeout)) {
      spdlog::error("the forwarder (process {}) was killed and does not end", pid);
    }
    throw std::runtime_error(
        fmt::format("the forwarder did not start: {}",
                    said.empty() ? "it ended, or did not answer in time" : said));
  }
  Reap();
  child_ = pid;
  session_ = std::make_unique<ForwarderSession>(path);
  path_ = path;
  port_ = session_->hello().port_v4;
  draining_ = false;
  spdlog::info("started the forwarder (process {}, port {})", session_->hello().pid, port_);
}

ForwarderLink::Found ForwarderLink::Ensure() {
  const Lock lock(mutex_);
  want_ = true;
  if (!watcher_.joinable()) {
    watcher_ = std::jthread([this](const std::stop_token& stop) { Watch(stop); });
  }
  if (session_ != nullptr) {
    try {
      session_->Statistics();
    } catch (const std::exception& error) {
      spdlog::warn("forwarder: {}", error.what());
      Lost();
    }
  }
  Found found = Found::kConnected;
  if (session_ == nullptr) {
    found = AdoptLocked() ? Found::kAdopted : Found::kStarted;
    if (found == Found::kStarted) Start();
    Wake();
  }
  try {
    if (draining_) session_->Resume();
    draining_ = false;
    if (found == Found::kAdopted) session_->SetUdpIdleTimeout(settings_.udp_idle_timeout);
    if (found != Found::kConnected && table_known_) PushAll();
  } catch (...) {
    Lost();
    throw;
  }
  return found;
}

bool ForwarderLink::Adopt() {
  const Lock lock(mutex_);
  return session_ != nullptr || AdoptLocked();
}

uint16_t ForwarderLink::port(net::Family family) {
  const Lock lock(mutex_);
  if (session_ == nullptr) return 0;
  return family == net::Family::kIPv4 ? session_->hello().port_v4 : session_->hello().port_v6;
}

uint32_t ForwarderLink::last_slot() {
  const Lock lock(mutex_);
  return last_slot_;
}

pid_t ForwarderLink::pid() {
  const Lock lock(mutex_);
  return session_ == nullptr ? 0 : static_cast<pid_t>(session_->hello().pid);
}

template <typename Call>
auto ForwarderLink::WithSession(const Call& call)
    -> decltype(call(std::declval<ForwarderSession&>())) {
  if (session_ == nullptr) throw std::runtime_error("there is no forwarder");
  try {
    return call(*session_);
  } catch (...) {
    // A half-read answer makes the connection useless.
    Lost();
    throw;
  }
}

std::vector<Slot> ForwarderLink::Dump() {
  const Lock lock(mutex_);
  std::vector<Slot> slots = WithSession([](ForwarderSession& session) { return session.Dump(); });
  table_.clear();
  for (const Slot& slot : slots)
    table_.emplace(slot.number, slot);
  table_known_ = true;
  return slots;
}

void ForwarderLink::PushAll() {
  Update update{.to = session_->hello().generation + 1, .whole = true, .last_slot = last_slot_};
  update.set.reserve(table_.size());
  for (const auto& [number, slot] : table_)
    update.set.push_back(slot);
  session_->Apply(update);
}

void ForwarderLink::Change(std::vector<Slot> set, const std::vector<uint32_t>& removed,
                           uint32_t last_slot) {
  const Lock lock(mutex_);
  // First into our own table: if the forwarder ends now, its successor gets all of it.
  for (uint32_t number : removed)
    table_.erase(number);
  for (const Slot& slot : set)
    table_.insert_or_assign(slot.number, slot);
  table_known_ = true;
  last_slot_ = last_slot;
  WithSession([&](ForwarderSession& session) {
    const uint64_t from = session.hello().generation;
    session.Apply({.from = from,
                   .to = from + 1,
                   .last_slot = last_slot,
                   .set = std::move(set),
                   .removed = removed});
    return true;
  });
}

Stats ForwarderLink::Statistics() {
  const Lock lock(mutex_);
  return WithSession([](ForwarderSession& session) { return session.Statistics(); });
}

std::vector<ServiceBindings> ForwarderLink::Bindings() {
  std::vector<std::string> paths = ControlSockets(settings_.directory);
  {
    const Lock lock(mutex_);
    if (session_ != nullptr) paths = {path_};
  }
  // Nobody waits for a slow one here, and by a session of its own: a half-read answer must not cost
  // us the one that we have.
  std::string problem = "there is no forwarder that serves new connections";
  for (const std::string& path : paths) {
    try {
      ForwarderSession session(path, kLookTimeout);
      const forwarder::HelloReply& hello = session.hello();
      if (hello.netns != netns_ || hello.draining) continue;
      // An older one would end the session at a question that it does not know.
      if (hello.protocol != forwarder::kProtocolVersion) {
        problem =
            fmt::format("the forwarder (process {}, version {}) speaks protocol {}, not {}",
                        hello.pid, hello.version, hello.protocol, forwarder::kProtocolVersion);
        continue;
      }
      return session.Bindings();
    } catch (const std::system_error& error) {
      // One that ended leaves its socket.
      if (error.code() == std::errc::connection_refused) continue;
      problem =
          error.code() == std::errc::resource_unavailable_try_again
              ? fmt::format("forwarder at {}: no answer within {} s", path, kLookTimeout.count())
              : fmt::format("forwarder at {}: {}", path, error.what());
    } catch (const std::runtime_error& error) {
      problem = fmt::format("forwarder at {}: {}", path, error.what());
    }
  }
  throw std::runtime_error(problem);
}

size_t ForwarderLink::Bind(const std::vector<ServiceBindings>& given) {
  const Lock lock(mutex_);
  return WithSession([&](ForwarderSession& session) { return session.Bind(given); });
}

Stats ForwarderLink::Drain(std::chrono::seconds longest) {
  const Lock lock(mutex_);
  want_ = false;
  Stats left;
  if (session_ != nullptr || AdoptLocked()) {
    try {
      draining_ = true;
      left = session_->Drain(longest);
    } catch (const std::system_error&) {
      // It ended, as it does when it has drained.
      Lost();
    }
  }
  for (Known& other : Look()) {
    const Stats more = other.session->Drain(longest);
    left.tcp_connections += more.tcp_connections;
    left.udp_flows += more.udp_flows;
  }
  return left;
}

void ForwarderLink::RetireOthers(std::chrono::seconds longest) {
  const Lock lock(mutex_);
  for (Known& known : Look()) {
    const forwarder::HelloReply& hello = known.session->hello();
    if (hello.draining) continue;
    const Stats left = known.session->Drain(longest);
    spdlog::info(
        "another forwarder (process {}, version {}) keeps its {} connections until they "
        "end",
        hello.pid, hello.version, left.tcp_connections + left.udp_flows);
  }
}

size_t ForwarderLink::ExitAll() {
  Lock lock(mutex_);
  want_ = false;
  size_t ended = 0;
  for (Known& known : Look(/*clear=*/true)) {
    known.session->Exit();
    ++ended;
  }
  if (session_ != nullptr) {
    session_->Exit();
    ++ended;
  }
  session_.reset();
  path_.clear();
  const pid_t child = std::exchange(child_, -1);
  table_.clear();
  table_known_ = false;
  draining_ = false;
  port_ = 0;
  Wake();
  // Somebody else's files may be in it.
  ::rmdir(settings_.directory.c_str());
  lock.unlock();
  // It has closed its sockets: nothing is left to do for it but to end. One that does not is not
  // waited for; it is not in anybody's way any more.
  if (child > 0 && !kube::WaitForChild(child, kReapTimeout) &&
      !kube::KillChild(child, /*group=*/false, kReapTimeout)) {
    spdlog::error("the forwarder (process {}) was killed and does not end", child);
  }
  return ended;
}

bool ForwarderLink::AnyPresent() {
  const Lock lock(mutex_);
  return session_ != nullptr || !Look().empty();
}

void ForwarderLink::Watch(const std::stop_token& stop) {
  std::chrono::milliseconds retry{0};
  while (!stop.stop_requested()) {
    int fd = -1;
    {
      const Lock lock(mutex_);
      if (session_ != nullptr) {
        fd = session_->fd();
        retry = std::chrono::milliseconds(0);
      } else if (want_) {
        retry = std::clamp(retry * 2, kFirstRetry, kLongestRetry);
      } else {
        retry = std::chrono::milliseconds(0);
      }
    }
    std::array<pollfd, 2> items{{{wake_.get(), POLLIN, 0}, {fd, POLLRDHUP, 0}}};
    ::poll(items.data(), items.size(), retry.count() > 0 ? static_cast<int>(retry.count()) : -1);
    uint64_t woken = 0;
    if ((items[0].revents & POLLIN) != 0 && ::read(wake_.get(), &woken, sizeof woken) < 0 &&
        errno != EAGAIN) {
      spdlog::error("forwarder: the watcher's eventfd: {}", std::generic_category().message(errno));
      return;
    }
    if (!stop.stop_requested()) Recover();
  }
}

void ForwarderLink::Recover() {
  const Lock lock(mutex_);
  if (session_ != nullptr) {
    if (!session_->HungUp(std::chrono::milliseconds(0))) return;
    spdlog::warn("the forwarder (process {}) ended", session_->hello().pid);
    session_.reset();
    lost_path_ = std::exchange(path_, "");
  }
  Reap();
  if (!want_ || !table_known_) return;
  try {
    if (!AdoptLocked()) Start();
    if (draining_) session_->Resume();
    draining_ = false;
    PushAll();
  } catch (const std::exception& error) {
    spdlog::error("the forwarder could not be started again: {}", error.what());
    session_.reset();
    path_.clear();
  }
}

}  // namespace pointsman::agent

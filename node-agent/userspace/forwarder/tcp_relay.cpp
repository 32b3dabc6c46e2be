#include "node-agent/userspace/forwarder/tcp_relay.h"

#include <array>
#include <cerrno>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "base/unique_fd.h"

namespace pointsman::forwarder {
namespace {

constexpr std::array<std::chrono::milliseconds, 4> kAttemptTimeouts{
    std::chrono::milliseconds(250), std::chrono::milliseconds(500), std::chrono::milliseconds(1000),
    std::chrono::milliseconds(2000)};
static_assert(kAttemptTimeouts[0] + kAttemptTimeouts[1] + kAttemptTimeouts[2] +
                  kAttemptTimeouts[3] ==
              TcpRelay::kGivesUpAfter);
// Refusals come at once; more than this many backends in a row that refuse is a Service that is
// down.
constexpr size_t kMaxRefusals = 64;
// How much one connection may move before others have their turn.
constexpr size_t kTurn = size_t{1} << 20;
constexpr size_t kSplice = size_t{1} << 20;  // as much as the pipe holds
constexpr size_t kCopy = size_t{64} << 10;
constexpr int kAcceptsPerTurn = 256;
// How long accepting rests when the kernel has no memory or descriptors for it.
constexpr std::chrono::milliseconds kRest{100};

constexpr uint32_t kAll = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;

bool WouldBlock() {
  return errno == EAGAIN || errno == EWOULDBLOCK;
}

// Our own lack of something, which no other backend can help with.
bool IsOwnFailure(int error) {
  return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM ||
         error == EPERM || error == EACCES;
}

}  // namespace

class TcpRelay::Connection final {
 public:
  // `path`: whose it is, for shares_.
  Connection(TcpRelay& relay, UniqueFd client, uint32_t slot, const net::IpAddress& client_ip,
             std::span<const net::ShareKey> path)
      : relay_(relay),
        slot_(slot),
        client_ip_(client_ip),
        place_(relay.shares_.Add(path, this)),
        last_active_(relay.loop_.now()),
        client_(*this, std::move(client)),
        backend_(*this, UniqueFd()) {}
  ~Connection() { Abort(); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // False: the connection is over already.
  bool Start() {
    if (!relay_.loop_.Add(client_.fd.get(), kAll, &client_)) return Finish();
    return TryNext();
  }

  // Makes room for another.
  void GiveWay() { End(); }
  uint32_t slot() const { return slot_; }
  Clock::time_point last_active() const { return last_active_; }

 private:
  struct Side final : EventHandler {
    Side(Connection& of, UniqueFd socket) : connection(of), fd(std::move(socket)) {}
    void OnEvents(uint32_t events) override { connection.OnEvents(*this, events); }
    Connection& connection;
    UniqueFd fd;
    // What epoll last said, until a call said otherwise.
    bool readable = false;
    bool writable = false;
    bool broken = false;  // reset by its peer
  };
  // Bytes on their way from one side to the other.
  struct Direction {
    std::unique_ptr<Pipe> pipe;
    size_t held = 0;    // bytes in the pipe
    bool eof = false;   // the sender has closed its half
    bool done = false;  // and the receiver knows
  };

  struct Attempts {
    std::vector<IpPort> refused;  // not asked again
    std::vector<IpPort> round;    // asked since all others were; some of them did not answer
    size_t timeouts = 0;
    IpPort backend;
    EventLoop::Timer timer;
    bool timer_set = false;
  };

  void OnEvents(Side& side, uint32_t events) {
    if (over_) return;
    if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) side.readable = true;
    if ((events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0) side.writable = true;
    if ((events & EPOLLERR) != 0 && attempts_ == nullptr) side.broken = true;
    if (attempts_ != nullptr) {
      if (&side == &backend_) {
        OnConnected(events);
      } else if ((events & (EPOLLERR | EPOLLHUP)) != 0) {
        End();  // the client gave up
      }
      return;
    }
    Relay();
  }

  // Asks the next backend; false: there is none and the connection is over.
  bool TryNext() {
    if (attempts_ == nullptr) attempts_ = std::make_unique<Attempts>();
    Attempts& attempts = *attempts_;
    for (;;) {
      std::vector<IpPort> not_again = attempts.refused;
      not_again.insert(not_again.end(), attempts.round.begin(), attempts.round.end());
      std::optional<IpPort> backend;
      if (attempts.timeouts < kAttemptTimeouts.size() && attempts.refused.size() < kMaxRefusals) {
        backend = relay_.table_.Choose(slot_, client_ip_, not_again, relay_.loop_.now());
        if (!backend && !attempts.round.empty()) {
          // All were asked once: those that did not answer may do so now.
          attempts.round.clear();
          backend = relay_.table_.Choose(slot_, client_ip_, attempts.refused, relay_.loop_.now());
        }
      }
      if (!backend) {
        ++relay_.stats_.without_backend;
        return Finish();
      }
      attempts.backend = *backend;
      const int error = Connect(*backend);
      if (error == 0) return true;
      ++relay_.stats_.connect_failures;
      if (IsOwnFailure(error)) {
        if (const auto times = relay_.socket_log_.Happened(relay_.loop_.now())) {
          spdlog::warn("no socket to a backend, {} times: {}", *times,
                       std::generic_category().message(error));
        }
        ++relay_.stats_.refused_at_limit;
        return Finish();
      }
      relay_.table_.Failed(*backend, relay_.loop_.now());
      attempts.refused.push_back(*backend);
    }
  }

  int Connect(const IpPort& backend) {
    backend_.fd = OpenBackendSocket(backend.ip.family(), false, relay_.mark_);
    if (!backend_.fd) return errno;
    backend_.readable = backend_.writable = false;
    const sockaddr_storage address = ToSocketAddress(backend.ip, backend.port);
    const int connected = ::connect(backend_.fd.get(), reinterpret_cast<const sockaddr*>(&address),
                                    SocketAddressSize(backend.ip));
    if ((connected != 0 && errno != EINPROGRESS) ||
        !relay_.loop_.Add(backend_.fd.get(), kAll, &backend_)) {
      const int error = errno;
      backend_.fd.Reset();
      return error;
    }
    const size_t turn = std::min(attempts_->timeouts, kAttemptTimeouts.size() - 1);
    attempts_->timer =
        relay_.loop_.At(relay_.loop_.now() + kAttemptTimeouts[turn], [this] { OnTimeout(); });
    attempts_->timer_set = true;
    return 0;
  }

  void GiveUpBackend() {
    if (std::exchange(attempts_->timer_set, false)) relay_.loop_.Cancel(attempts_->timer);
    relay_.loop_.Forget(&backend_);
    CloseWithReset(std::move(backend_.fd));
    ++relay_.stats_.connect_failures;
    relay_.table_.Failed(attempts_->backend, relay_.loop_.now());
  }

  void OnTimeout() {
    attempts_->timer_set = false;
    ++attempts_->timeouts;
    attempts_->round.push_back(attempts_->backend);
    GiveUpBackend();
    TryNext();
  }

  void OnConnected(uint32_t events) {
    int error = 0;
    socklen_t size = sizeof error;
    if (::getsockopt(backend_.fd.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
    if (error != 0) {
      attempts_->refused.push_back(attempts_->backend);
      GiveUpBackend();
      // An event of the socket before may still be on its way to backend_: it is a new fd's then,
      // whose state is asked from the kernel anyway.
      TryNext();
      return;
    }
    if ((events & EPOLLOUT) == 0) return;
    if (attempts_->timer_set) relay_.loop_.Cancel(attempts_->timer);
    if (attempts_->timeouts > 0 || !attempts_->refused.empty()) ++relay_.stats_.retried;
    relay_.table_.Reached(slot_, client_ip_, attempts_->backend, relay_.loop_.now());
    attempts_.reset();
    Relay();
  }

  enum class Moved { kIdle, kAgain, kBroken };

  void Relay() {
    last_active_ = relay_.loop_.now();
    const Moved up = Move(client_, backend_, up_, relay_.stats_.bytes_to_backends);
    if (up == Moved::kBroken) return End();
    const Moved down = Move(backend_, client_, down_, relay_.stats_.bytes_to_clients);
    if (down == Moved::kBroken) return End();
    if (up_.done && down_.done) {
      End(/*reset=*/false);
    } else if (client_.broken || backend_.broken) {
      // The other side has not taken what came before, and would not hear of it otherwise.
      End();
    } else if (up == Moved::kAgain || down == Moved::kAgain) {
      if (!std::exchange(again_, true)) relay_.loop_.Again(&turn_);
    }
  }

  void ReleasePipe(Direction& direction) {
    if (direction.pipe == nullptr) return;
    if (direction.held == 0) {
      relay_.pipes_.GiveBack(std::move(direction.pipe));
    } else {
      relay_.pipes_.Discard(std::move(direction.pipe));
    }
  }

  Moved Move(Side& from, Side& to, Direction& direction, uint64_t& counter) {
    size_t moved = 0;
    for (;;) {
      while (direction.held > 0) {
        if (!to.writable) return Moved::kIdle;
        const ssize_t count = ::splice(direction.pipe->read_end.get(), nullptr, to.fd.get(),
                                       nullptr, direction.held, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        if (count > 0) {
          direction.held -= static_cast<size_t>(count);
          counter += static_cast<uint64_t>(count);
          moved += static_cast<size_t>(count);
        } else if (count < 0 && WouldBlock()) {
          to.writable = false;
        } else if (count >= 0 || errno != EINTR) {
          return Moved::kBroken;
        }
      }
      if (direction.eof) {
        ReleasePipe(direction);
        if (!std::exchange(direction.done, true) && ::shutdown(to.fd.get(), SHUT_WR) != 0) {
          return Moved::kBroken;
        }
        return Moved::kIdle;
      }
      if (!from.readable || moved >= kTurn) {
        ReleasePipe(direction);
        return from.readable ? Moved::kAgain : Moved::kIdle;
      }
      if (direction.pipe == nullptr) direction.pipe = relay_.pipes_.Take();
      if (direction.pipe == nullptr) {
        const ssize_t count = Copy(from, to, direction.eof);
        if (count < 0) return Moved::kBroken;
        if (!to.writable && !direction.eof) return Moved::kIdle;
        counter += static_cast<uint64_t>(count);
        moved += static_cast<size_t>(count);
        continue;
      }
      // Into an empty pipe only: EAGAIN then means that the socket is empty, and not the pipe full.
      const ssize_t count = ::splice(from.fd.get(), nullptr, direction.pipe->write_end.get(),
                                     nullptr, kSplice, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
      if (count > 0) {
        direction.held = static_cast<size_t>(count);
      } else if (count == 0) {
        direction.eof = true;
      } else if (WouldBlock()) {
        from.readable = false;
      } else if (errno != EINTR) {
        return Moved::kBroken;
      }
    }
  }

  // Without a pipe: what the receiver takes is removed from the sender's socket after it was sent,
  // so that nothing is held here. Bytes moved, or -1.
  ssize_t Copy(Side& from, Side& to, bool& eof) {
    if (!to.writable) return 0;
    std::vector<char>& buffer = relay_.copy_buffer_;
    const ssize_t there = ::recv(from.fd.get(), buffer.data(), buffer.size(), MSG_PEEK);
    if (there == 0) {
      eof = true;
      return 0;
    }
    if (there < 0) {
      if (!WouldBlock()) return errno == EINTR ? 0 : -1;
      from.readable = false;
      return 0;
    }
    const ssize_t sent =
        ::send(to.fd.get(), buffer.data(), static_cast<size_t>(there), MSG_NOSIGNAL);
    if (sent < 0) {
      if (!WouldBlock()) return errno == EINTR ? 0 : -1;
      to.writable = false;
      return 0;
    }
    // MSG_TRUNC: dropped without being copied (tcp(7)).
    for (ssize_t taken = 0; taken < sent;) {
      const ssize_t count = ::recv(from.fd.get(), nullptr, static_cast<size_t>(sent - taken),
                                   MSG_TRUNC | MSG_DONTWAIT);
      if (count <= 0) return -1;
      taken += count;
    }
    return sent;
  }

  struct Turn final : EventHandler {
    explicit Turn(Connection& of) : connection(of) {}
    void OnEvents(uint32_t) override {
      connection.again_ = false;
      if (!connection.over_) connection.Relay();
    }
    Connection& connection;
  };

  bool Finish() {
    End();
    return false;
  }

  void Abort(bool reset = true) {
    if (std::exchange(over_, true)) return;
    relay_.shares_.Remove(place_);
    if (attempts_ != nullptr && attempts_->timer_set) relay_.loop_.Cancel(attempts_->timer);
    if (again_) relay_.loop_.NotAgain(&turn_);
    for (Side* side : {&client_, &backend_}) {
      if (!side->fd) continue;
      relay_.loop_.Forget(side);
      if (reset) {
        CloseWithReset(std::move(side->fd));
      } else {
        side->fd.Reset();
      }
    }
    for (Direction* direction : {&up_, &down_})
      ReleasePipe(*direction);
  }

  void End(bool reset = true) {
    Abort(reset);
    const auto found = relay_.connections_.find(this);
    if (found == relay_.connections_.end()) return;
    relay_.loop_.Destroy(std::move(found->second));
    relay_.connections_.erase(found);
  }

  TcpRelay& relay_;
  const uint32_t slot_;
  const net::IpAddress client_ip_;
  const net::FairShares<Connection>::Place place_;
  Clock::time_point last_active_;
  Side client_;
  Side backend_;
  Turn turn_{*this};
  Direction up_;                        // client → backend
  Direction down_;                      // backend → client
  std::unique_ptr<Attempts> attempts_;  // until a backend answered
  bool again_ = false;
  bool over_ = false;
};

class TcpRelay::Listener final : public EventHandler {
 public:
  Listener(TcpRelay& relay, UniqueFd socket) : relay_(relay), socket_(std::move(socket)) {
    if (!relay_.loop_.Add(socket_.get(), EPOLLIN, this)) {
      throw std::system_error(errno, std::generic_category(), "watch the listening socket");
    }
  }
  ~Listener() override {
    relay_.loop_.Forget(this);
    if (resting_) relay_.loop_.Cancel(timer_);
  }
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  void OnEvents(uint32_t) override {
    for (int i = 0; i < kAcceptsPerTurn; ++i) {
      sockaddr_storage peer{};
      socklen_t size = sizeof peer;
      UniqueFd fd(::accept4(socket_.get(), reinterpret_cast<sockaddr*>(&peer), &size,
                            SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (fd) {
        Take(std::move(fd), peer, /*no_files=*/false);
        continue;
      }
      if (errno == EMFILE || errno == ENFILE) {
        if (!TakeWithSpare()) return Rest();
      } else if (errno == ENOBUFS || errno == ENOMEM) {
        return Rest();
      } else if (WouldBlock()) {
        return;
      }
      // Everything else is an error of the connection that was to be taken (accept(2)).
    }
  }

 private:
  // `no_files`: as if there were as many connections as there may be.
  void Take(UniqueFd fd, const sockaddr_storage& peer, bool no_files) {
    sockaddr_storage local{};
    socklen_t size = sizeof local;
    std::optional<uint32_t> number;
    if (::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&local), &size) == 0) {
      number = SlotOf(FromSocketAddress(local).ip);
    }
    const Slot* const slot = number ? relay_.table_.Find(*number) : nullptr;
    // Somebody who found the port itself, or a Service that has just gone.
    if (slot == nullptr) return CloseWithReset(std::move(fd));
    const net::IpAddress client = FromSocketAddress(peer).ip;
    const std::array<net::ShareKey, 3> path = ShareOf(*slot, client);
    if ((no_files || relay_.connections_.size() >= relay_.limits_.connections) &&
        !relay_.MakeRoom(path)) {
      ++relay_.stats_.refused_at_limit;
      if (const auto times = relay_.refused_log_.Happened(relay_.loop_.now())) {
        spdlog::warn(
            "{} connections were refused, the last one from {} to {}: there are {}, and it has as "
            "many of them as anybody",
            *times, client.ToString(), slot->service, relay_.connections_.size());
      }
      return CloseWithReset(std::move(fd));
    }
    ++relay_.stats_.accepted;
    auto connection = std::make_shared<Connection>(relay_, std::move(fd), *number, client, path);
    Connection* const key = connection.get();
    relay_.connections_.emplace(key, std::move(connection));
    key->Start();
  }

  // With the last descriptor, which is given back when somebody made room.
  bool TakeWithSpare() {
    relay_.spare_.Reset();
    sockaddr_storage peer{};
    socklen_t size = sizeof peer;
    UniqueFd fd(::accept4(socket_.get(), reinterpret_cast<sockaddr*>(&peer), &size,
                          SOCK_CLOEXEC | SOCK_NONBLOCK));
    const bool taken = fd.valid();
    if (taken) Take(std::move(fd), peer, /*no_files=*/true);
    relay_.spare_.Reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    return taken;
  }

  void Rest() {
    if (std::exchange(resting_, true)) return;
    relay_.loop_.Change(socket_.get(), 0, this);
    timer_ = relay_.loop_.At(relay_.loop_.now() + kRest, [this] {
      resting_ = false;
      relay_.loop_.Change(socket_.get(), EPOLLIN, this);
    });
  }

  TcpRelay& relay_;
  UniqueFd socket_;
  bool resting_ = false;
  EventLoop::Timer timer_;
};

TcpRelay::TcpRelay(EventLoop& loop, BackendTable& table, Stats& stats, const Limits& limits,
                   uint32_t mark)
    : loop_(loop),
      table_(table),
      stats_(stats),
      limits_(limits),
      mark_(mark),
      pipes_(limits.pipes),
      spare_(::open("/dev/null", O_RDONLY | O_CLOEXEC)),
      copy_buffer_(kCopy) {}

TcpRelay::~TcpRelay() {
  listeners_.clear();
  connections_.clear();
}

bool TcpRelay::MakeRoom(std::span<const net::ShareKey> newcomer) {
  const auto choice = shares_.Heaviest(
      newcomer, [](const Connection& connection) { return connection.last_active(); });
  if (!choice || (choice->own && loop_.now() - choice->item->last_active() < kIdle)) return false;
  ++stats_.ended_for_room;
  if (const auto times = room_log_.Happened(loop_.now())) {
    const Slot* const slot = table_.Find(choice->item->slot());
    spdlog::warn(
        "{} connections were reset to make room for others, the last one to {}, the heaviest user: "
        "there are {}, as many as can be",
        *times, slot == nullptr ? "a Service that is gone" : slot->service, connections_.size());
  }
  choice->item->GiveWay();
  return true;
}

void TcpRelay::Listen(UniqueFd socket) {
  listeners_.push_back(std::make_unique<Listener>(*this, std::move(socket)));
}

}  // namespace pointsman::forwarder

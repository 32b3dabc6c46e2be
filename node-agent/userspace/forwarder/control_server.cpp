#include "node-agent/userspace/forwarder/control_server.h"

#include <cerrno>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <spdlog/spdlog.h>
#include <unistd.h>

#include "base/throw_errno.h"
#include "base/unique_fd.h"
#include "node-agent/userspace/forwarder/unix_socket.h"

namespace pointsman::forwarder {
namespace {

// An agent, its successor, and a person who looks.
constexpr size_t kMaxSessions = 8;
constexpr size_t kRead = size_t{256} << 10;

}  // namespace

class ControlServer::Session final : public EventHandler {
 public:
  Session(ControlServer& server, UniqueFd socket)
      : server_(server), socket_(std::move(socket)), handler_(server.make_handler_()) {}
  ~Session() override { server_.loop_.Forget(this); }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  bool Start() { return server_.loop_.Add(socket_.get(), EPOLLIN, this); }

  void OnEvents(uint32_t) override {
    if (!Write()) return Close();
    // One question at a time: the next is read when the answer is out, which bounds `out_`.
    if (out_.empty() && !ReadAndAnswer()) Close();
  }

 private:
  bool ReadAndAnswer() {
    std::vector<char> buffer(kRead);
    const ssize_t count = ::recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (count == 0) return false;
    if (count < 0) return errno == EAGAIN || errno == EINTR;
    reader_.Append({buffer.data(), static_cast<size_t>(count)});
    try {
      FrameType type{};
      std::string_view body;
      while (reader_.Next(type, body))
        handler_(type, body, out_);
    } catch (const std::exception& error) {
      spdlog::error("control socket: {}", error.what());
      out_.clear();
      AppendFrame(out_, FrameType::kError, error.what());
      Write();
      return false;
    }
    return Write();
  }

  bool Write() {
    while (written_ < out_.size()) {
      const ssize_t count = ::send(socket_.get(), out_.data() + written_, out_.size() - written_,
                                   MSG_NOSIGNAL | MSG_DONTWAIT);
      if (count < 0) {
        if (errno == EINTR) continue;
        if (errno != EAGAIN) return false;
        server_.loop_.Change(socket_.get(), EPOLLOUT, this);
        waiting_ = true;
        return true;
      }
      written_ += static_cast<size_t>(count);
    }
    out_ = {};
    written_ = 0;
    if (std::exchange(waiting_, false)) server_.loop_.Change(socket_.get(), EPOLLIN, this);
    return true;
  }

  void Close() {
    for (auto session = server_.sessions_.begin(); session != server_.sessions_.end(); ++session) {
      if (session->get() != this) continue;
      server_.loop_.Destroy(std::move(*session));
      server_.sessions_.erase(session);
      server_.loop_.Forget(this);
      socket_.Reset();
      return;
    }
  }

  ControlServer& server_;
  UniqueFd socket_;
  const Handler handler_;
  FrameReader reader_;
  std::string out_;
  size_t written_ = 0;
  bool waiting_ = false;
};

class ControlServer::Listener final : public EventHandler {
 public:
  explicit Listener(ControlServer& server)
      : server_(server), socket_(UnixSocket(SOCK_STREAM | SOCK_NONBLOCK)) {
    Listen(socket_, server.path_, 16);
    if (!server_.loop_.Add(socket_.get(), EPOLLIN, this)) ThrowErrno("watch the control socket");
  }
  ~Listener() override { server_.loop_.Forget(this); }
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  void OnEvents(uint32_t) override {
    UniqueFd peer(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!peer) return;
    if (const std::optional<ucred> who = Peer(peer); !IsThisUser(who)) {
      spdlog::warn("control socket: rejected process {} with uid {}", who ? who->pid : 0,
                   who ? static_cast<int64_t>(who->uid) : -1);
      return;
    }
    if (server_.sessions_.size() >= kMaxSessions) return;
    auto session = std::make_shared<Session>(server_, std::move(peer));
    if (session->Start()) server_.sessions_.push_back(std::move(session));
  }

 private:
  ControlServer& server_;
  UniqueFd socket_;
};

ControlServer::ControlServer(EventLoop& loop, std::string path,
                             std::function<Handler()> make_handler)
    : loop_(loop), path_(std::move(path)), make_handler_(std::move(make_handler)) {
  listener_ = std::make_unique<Listener>(*this);
}

ControlServer::~ControlServer() {
  ::unlink(path_.c_str());
}

}  // namespace pointsman::forwarder

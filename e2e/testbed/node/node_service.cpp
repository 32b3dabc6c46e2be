#include "e2e/testbed/node/node_service.h"

#include <array>
#include <cerrno>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <system_error>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "e2e/testbed/node/command.h"
#include "e2e/testbed/node/frame.h"
#include "e2e/testbed/node/system_call.h"

namespace pointsman::e2e {
namespace {

using nlohmann::json;

json ToJson(const Children::Status& status) {
  return {{"running", status.running}, {"exit", status.exit}, {"signal", status.signal}};
}

json Put(int fd, const json& request) {
  const std::string path = request.at("path");
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  const UniqueFd file =
      Open(path + ".new", O_WRONLY | O_CREAT | O_TRUNC, request.value("mode", 0644U));
  for (auto frame = ReadFrame(fd); frame && frame->type == 'I'; frame = ReadFrame(fd)) {
    if (write(file.get(), frame->payload.data(), frame->payload.size()) !=
        static_cast<ssize_t>(frame->payload.size()))
      ThrowErrno("write " + path);
  }
  if (fchown(file.get(), request.value("owner", 0U), static_cast<gid_t>(-1)) != 0)
    ThrowErrno("chown " + path);
  std::filesystem::rename(path + ".new", path);
  return json::object();
}

json Get(int fd, const json& request) {
  const UniqueFd file = Open(request.at("path"), O_RDONLY);
  std::string buffer(std::size_t{64} * 1024, '\0');
  for (;;) {
    const ssize_t got = read(file.get(), buffer.data(), buffer.size());
    if (got < 0) ThrowErrno("read " + request.at("path").get<std::string>());
    if (got == 0) return json::object();
    WriteFrame(fd, 'O', std::string_view(buffer).substr(0, static_cast<std::size_t>(got)));
  }
}

}  // namespace

void NodeService::Serve() {
  const Endpoint local = MakeEndpoint(address_, kNodePort);
  const UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener.get(), reinterpret_cast<const sockaddr*>(&local.address), local.size) != 0 ||
      listen(listener.get(), 128) != 0) {
    ThrowErrno("listen on " + local.ToString());
  }
  for (;;) {
    UniqueFd connection(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!connection.valid()) continue;
    setsockopt(connection.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    std::thread([this, fd = std::move(connection)]() mutable { ServeOne(fd.get()); }).detach();
  }
}

void NodeService::ServeOne(int fd) {
  try {
    const auto first = ReadFrame(fd);
    if (!first) return;
    try {
      const json request = json::parse(first->payload);
      // A node's processes share its address: without the token a pod could run commands.
      if (first->type != 'R' || request.at("token") != token_)
        throw std::runtime_error("wrong token");
      WriteFrame(fd, 'X', Answer(fd, request).dump());
    } catch (const std::system_error& error) {
      WriteFrame(fd, '!', error.what());
    } catch (const std::exception& error) {
      WriteFrame(fd, '!', error.what());
    }
  } catch (const std::exception& error) {
    // The other side has gone: only the console is left to write to.
    std::fprintf(stderr, "node-init: %s\n", error.what());
  }
}

json NodeService::Answer(int fd, const json& request) {
  const std::string op = request.at("op");
  if (op == "ping") return {{"boot", boot_id_}};
  if (op == "exec") return Exec(fd, request);
  if (op == "start") return Start(request);
  if (op == "status") return ToJson(StatusOf(request.at("pid")));
  if (op == "signal") return Signal(request);
  if (op == "put") return Put(fd, request);
  if (op == "get") return Get(fd, request);
  throw std::invalid_argument("unknown op '" + op + "'");
}

Children::Status NodeService::StatusOf(pid_t pid) {
  const auto status = children_.Get(pid);
  if (!status) throw std::runtime_error("no process " + std::to_string(pid) + " was started here");
  return *status;
}

json NodeService::Start(const json& request) {
  Command command(request);
  const UniqueFd in = Open("/dev/null", O_RDONLY);
  const UniqueFd log = Open(request.at("log"), O_WRONLY | O_CREAT | O_APPEND);
  return {{"pid", children_.Start([&] { command.Exec(in.get(), log.get(), log.get()); })}};
}

json NodeService::Signal(const json& request) {
  const pid_t pid = request.at("pid");
  // The group: a wrapper's children too. Ended meanwhile is no error.
  if (StatusOf(pid).running && kill(-pid, request.at("signal").get<int>()) != 0 && errno != ESRCH)
    ThrowErrno("kill");
  return json::object();
}

json NodeService::Exec(int fd, const json& request) {
  Command command(request);
  auto [in_read, in_write] = Pipe();
  auto [out_read, out_write] = Pipe();
  auto [error_read, error_write] = Pipe();
  const pid_t pid = children_.Start([&, in = in_read.get(), out = out_write.get(),
                                     error = error_write.get()] { command.Exec(in, out, error); });
  in_read.Reset();
  out_write.Reset();
  error_write.Reset();
  const UniqueFd ended = children_.EndEvent(pid);
  std::string buffer(std::size_t{64} * 1024, '\0');
  // Copies what is there; false at the end of the pipe.
  const auto copy = [&](int from, char type) {
    const ssize_t got = read(from, buffer.data(), buffer.size());
    if (got > 0)
      WriteFrame(fd, type, std::string_view(buffer).substr(0, static_cast<std::size_t>(got)));
    return got > 0;
  };
  // Stdin is written as the program takes it, and the next piece is read from the caller only
  // then: a program that writes before it reads must not be held up by its own input.
  fcntl(in_write.get(), F_SETFL, O_NONBLOCK);
  std::string input;
  bool input_ended = false;
  bool done = false;
  try {
    while (true) {
      const bool takes_frame = !done && input.empty();
      const bool feeds = !done && in_write.valid() && !input.empty();
      std::array<pollfd, 5> entries{{{out_read.get(), POLLIN, 0},
                                     {error_read.get(), POLLIN, 0},
                                     {done ? -1 : ended.get(), POLLIN, 0},
                                     {takes_frame ? fd : -1, POLLIN, 0},
                                     {feeds ? in_write.get() : -1, POLLOUT, 0}}};
      // After the end only what the pipes still hold: a daemon it left may keep them open.
      const int ready = poll(entries.data(), entries.size(), done ? 0 : -1);
      if (ready < 0 && errno != EINTR) ThrowErrno("poll");
      if (ready == 0 && done) break;
      if (entries[0].revents != 0 && !copy(out_read.get(), 'O')) out_read.Reset();
      if (entries[1].revents != 0 && !copy(error_read.get(), 'e')) error_read.Reset();
      if (entries[2].revents != 0) {
        done = true;
        continue;
      }
      if (done && !out_read.valid() && !error_read.valid()) break;
      if (entries[4].revents != 0) {
        const ssize_t wrote = write(in_write.get(), input.data(), input.size());
        if (wrote > 0) input.erase(0, static_cast<std::size_t>(wrote));
        if (wrote < 0 && errno != EAGAIN && errno != EINTR) {
          in_write.Reset();  // it reads no more
          input.clear();
        }
      }
      if (entries[3].revents != 0) {
        auto frame = ReadFrame(fd);
        if (!frame) throw std::system_error(ECONNRESET, std::generic_category(), "caller left");
        if (frame->type == 'I' && in_write.valid()) input = std::move(frame->payload);
        if (frame->type == 'E') input_ended = true;
      }
      if (input_ended && input.empty()) in_write.Reset();
    }
  } catch (const std::exception&) {
    // The caller has gone (Ctrl-C): what it ran for goes too.
    if (!done) kill(-pid, SIGKILL);
    children_.Forget(pid);
    throw;
  }
  const auto status = children_.Get(pid);
  children_.Forget(pid);
  return ToJson(*status);
}

}  // namespace pointsman::e2e

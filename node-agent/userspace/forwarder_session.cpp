#include "node-agent/userspace/forwarder_session.h"

#include <array>
#include <cerrno>
#include <sys/socket.h>

#include <fmt/format.h>
#include <poll.h>

#include "base/throw_errno.h"
#include "node-agent/userspace/forwarder/unix_socket.h"

namespace pointsman::agent {
namespace {

using forwarder::FrameType;
using forwarder::ProtocolError;
using forwarder::ServiceBindings;
using forwarder::Slot;
using forwarder::Stats;
using forwarder::Update;

// It resets its connections first, of which there may be many.
constexpr std::chrono::seconds kEndTimeout{30};

}  // namespace

ForwarderSession::ForwarderSession(const std::string& path, std::chrono::seconds timeout)
    : socket_(forwarder::UnixSocket(SOCK_STREAM)) {
  const timeval limit{timeout.count(), 0};
  ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  ::setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  if (!forwarder::Connect(socket_, path)) ThrowErrno(path);
  const std::optional<ucred> peer = forwarder::Peer(socket_);
  if (!peer) ThrowErrno(path);
  if (!forwarder::IsThisUser(peer)) {
    errno = EPERM;
    ThrowErrno(fmt::format("{} belongs to user {}", path, peer->uid));
  }
  hello_ = forwarder::DecodeHelloReply(Ask(FrameType::kHello,
                                           forwarder::EncodeU32(forwarder::kProtocolVersion),
                                           FrameType::kHelloReply));
}

void ForwarderSession::Send(std::string_view frames) {
  while (!frames.empty()) {
    const ssize_t count = ::send(socket_.get(), frames.data(), frames.size(), MSG_NOSIGNAL);
    if (count < 0) {
      if (errno == EINTR) continue;
      ThrowErrno("ask the forwarder");
    }
    frames.remove_prefix(static_cast<size_t>(count));
  }
}

std::string ForwarderSession::Receive(FrameType wanted) {
  FrameType type{};
  std::string_view body;
  std::array<char, size_t{64} << 10> buffer;
  while (!reader_.Next(type, body)) {
    const ssize_t count = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      if (count == 0) errno = ECONNRESET;
      ThrowErrno("the forwarder's answer");
    }
    reader_.Append({buffer.data(), static_cast<size_t>(count)});
  }
  if (type == FrameType::kError) throw ProtocolError("the forwarder says: " + std::string(body));
  if (type != wanted) {
    throw ProtocolError(fmt::format("the forwarder's answer is of type {}, not {}",
                                    static_cast<int>(type), static_cast<int>(wanted)));
  }
  return std::string(body);
}

std::string ForwarderSession::Ask(FrameType question, std::string_view body, FrameType wanted) {
  std::string frame;
  forwarder::AppendFrame(frame, question, body);
  Send(frame);
  return Receive(wanted);
}

bool ForwarderSession::Apply(const Update& update) {
  std::string frames;
  forwarder::AppendUpdate(frames, update);
  if (!update.whole && update.from != hello_.generation) return false;
  Send(frames);
  Receive(FrameType::kDone);
  hello_.generation = update.to;
  hello_.last_slot = update.last_slot;
  return true;
}

std::vector<Slot> ForwarderSession::Dump() {
  std::string frame;
  forwarder::AppendFrame(frame, FrameType::kDump);
  Send(frame);
  std::vector<Slot> slots;
  while (!forwarder::DecodeDumpPart(Receive(FrameType::kDumpPart), slots)) {
    if (slots.size() > forwarder::kMaxSlot) throw ProtocolError("a dump has too many slots");
  }
  return slots;
}

Stats ForwarderSession::Statistics() {
  return forwarder::DecodeStats(Ask(FrameType::kStats, {}, FrameType::kStatsReply));
}

void ForwarderSession::SetUdpIdleTimeout(std::chrono::nanoseconds timeout) {
  Ask(FrameType::kSettings, forwarder::EncodeU64(static_cast<uint64_t>(timeout.count())),
      FrameType::kDone);
}

Stats ForwarderSession::Drain(std::chrono::seconds longest) {
  const Stats stats = forwarder::DecodeStats(
      Ask(FrameType::kDrain, forwarder::EncodeU32(static_cast<uint32_t>(longest.count())),
          FrameType::kStatsReply));
  hello_.draining = true;
  return stats;
}

void ForwarderSession::Resume() {
  Ask(FrameType::kResume, {}, FrameType::kDone);
  hello_.draining = false;
}

void ForwarderSession::Exit() {
  Ask(FrameType::kExit, {}, FrameType::kDone);
  if (!HungUp(kEndTimeout)) {
    throw std::runtime_error(fmt::format("the forwarder (process {}) does not end", hello_.pid));
  }
}

bool ForwarderSession::HungUp(std::chrono::milliseconds wait) const {
  pollfd item{socket_.get(), POLLRDHUP, 0};
  return ::poll(&item, 1, static_cast<int>(wait.count())) > 0;
}

std::vector<ServiceBindings> ForwarderSession::Bindings() {
  std::string frame;
  forwarder::AppendFrame(frame, FrameType::kBindings);
  Send(frame);
  std::vector<ServiceBindings> services;
  size_t clients = 0;
  for (bool last = false; !last;) {
    const size_t before = services.size();
    last = forwarder::DecodeBindingsPart(Receive(FrameType::kBindingsPart), services);
    for (size_t i = before; i < services.size(); ++i)
      clients += services[i].bindings.size();
    if (!last && services.size() == before) throw ProtocolError("a part without any client");
    if (clients > forwarder::BackendTable::kMaxAffineClients) {
      throw ProtocolError("the forwarder has more clients than it may");
    }
  }
  return services;
}

size_t ForwarderSession::Bind(const std::vector<ServiceBindings>& given) {
  size_t without_place = 0;
  // One at a time: neither side holds more than a frame.
  for (const std::string& part : forwarder::EncodeBindings(given)) {
    without_place += forwarder::DecodeU32(Ask(FrameType::kBind, part, FrameType::kBindReply));
  }
  return without_place;
}

}  // namespace pointsman::agent

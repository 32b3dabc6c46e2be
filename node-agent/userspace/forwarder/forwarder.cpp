#include "node-agent/userspace/forwarder/forwarder.h"

#include <cerrno>
#include <sys/stat.h>

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "base/unique_fd.h"

namespace pointsman::forwarder {
namespace {

// Backends of all slots together, 24 bytes each.
constexpr size_t kMaxBackends = 8'000'000;
// A first packet may have passed the rules just before they went: it still gets its connection.
constexpr std::chrono::seconds kDrainAtLeast{2};
constexpr std::chrono::milliseconds kDrainPoll{500};

uint64_t NetnsInode() {
  struct stat status {};
  if (::stat("/proc/thread-self/ns/net", &status) != 0) {
    throw std::system_error(errno, std::generic_category(), "/proc/thread-self/ns/net");
  }
  return status.st_ino;
}

size_t BackendsOf(const std::vector<Slot>& slots) {
  size_t count = 0;
  for (const Slot& slot : slots)
    count += slot.backends.size();
  return count;
}

}  // namespace

FileBudget ShareFiles(uint64_t files) {
  // Listening sockets, control, log, and room for what a connection needs for a moment.
  constexpr uint64_t kReserved = 64;
  const uint64_t shared = files > kReserved ? files - kReserved : 0;
  // Five eighths for TCP (two each), two for UDP flows, one for pipes (two each).
  return {.tcp_connections = static_cast<size_t>(shared * 5 / 16),
          .pipes = static_cast<size_t>(std::min<uint64_t>(shared / 16, 8192)),
          .udp_flows = static_cast<size_t>(std::min<uint64_t>(shared / 4, 131'072))};
}

Forwarder::Forwarder(const ForwarderOptions& options)
    : options_(options), budget_(ShareFiles(RaiseFileLimit(options.max_files))) {
  // Said now, and not with each connection.
  if (const UniqueFd marked = OpenBackendSocket(net::Family::kIPv4, /*udp=*/true, options.mark);
      !marked) {
    throw std::system_error(errno, std::generic_category(),
                            fmt::format("mark {:#x} on a socket", options.mark));
  }
  Listeners listeners = OpenListeners(options.port, options.port_range);
  port_v4_ = listeners.port;
  tcp_ = std::make_unique<TcpRelay>(
      loop_, table_, stats_,
      TcpRelay::Limits{.connections = budget_.tcp_connections, .pipes = budget_.pipes},
      options.mark);
  udp_ = std::make_unique<UdpRelay>(loop_, table_, stats_, budget_.udp_flows, options.mark);
  udp_->SetIdleTimeout(options.udp_idle_timeout);
  tcp_->Listen(std::move(listeners.tcp_v4));
  udp_->Listen(std::move(listeners.udp_v4), net::Family::kIPv4);
  if (listeners.tcp_v6 && listeners.udp_v6) {
    port_v6_ = listeners.port;
    tcp_->Listen(std::move(listeners.tcp_v6));
    udp_->Listen(std::move(listeners.udp_v6), net::Family::kIPv6);
  }
  // Last: who finds the control socket finds a forwarder that works.
  control_ = std::make_unique<ControlServer>(loop_, options.control_path, [this] {
    return [this, partial = std::make_shared<Partial>()](FrameType type, std::string_view body,
                                                         std::string& out) {
      Handle(*partial, type, body, out);
    };
  });
}

HelloReply Forwarder::Hello() const {
  return {.protocol = kProtocolVersion,
          .version = options_.version,
          .pid = static_cast<uint32_t>(::getpid()),
          .netns = NetnsInode(),
          .port_v4 = port_v4_,
          .port_v6 = port_v6_,
          .generation = generation_,
          .last_slot = last_slot_,
          .draining = drain_deadline_.has_value()};
}

Stats Forwarder::Statistics() const {
  Stats stats = stats_;
  stats.tcp_connections = tcp_->connections();
  stats.udp_flows = udp_->flows();
  stats.pipes = tcp_->pipes();
  stats.slots = table_.size();
  stats.connection_limit = budget_.tcp_connections;
  return stats;
}

void Forwarder::HandleUpdate(Partial& partial, std::string_view body, std::string& out) {
  Update part = DecodeUpdate(body);
  const bool last = part.last;
  if (!partial) {
    partial = std::move(part);
  } else {
    if (part.to != partial->to || part.whole != partial->whole) {
      partial.reset();
      throw ProtocolError("an update was broken off by another one");
    }
    std::move(part.set.begin(), part.set.end(), std::back_inserter(partial->set));
    partial->removed.insert(partial->removed.end(), part.removed.begin(), part.removed.end());
  }
  if (partial->set.size() > kMaxSlot || partial->removed.size() > kMaxSlot ||
      BackendsOf(partial->set) > kMaxBackends) {
    partial.reset();
    throw ProtocolError("an update has more slots or backends than the forwarder takes");
  }
  if (!last) return;
  Update update = std::move(*partial);
  partial.reset();
  if (!update.whole && update.from != generation_) {
    return AppendFrame(
        out, FrameType::kError,
        fmt::format("the table's generation is {}, not {}", generation_, update.from));
  }
  Apply(std::move(update));
  AppendFrame(out, FrameType::kDone);
}

void Forwarder::Handle(Partial& partial, FrameType type, std::string_view body, std::string& out) {
  switch (type) {
    case FrameType::kHello:
      DecodeU32(body);
      partial.reset();
      return AppendFrame(out, FrameType::kHelloReply, Encode(Hello()));
    case FrameType::kUpdate:
      return HandleUpdate(partial, body, out);
    case FrameType::kDump: {
      std::vector<const Slot*> slots;
      table_.ForEach([&](const Slot& slot) { slots.push_back(&slot); });
      return AppendDump(out, slots);
    }
    case FrameType::kStats:
      return AppendFrame(out, FrameType::kStatsReply, Encode(Statistics()));
    case FrameType::kSettings:
      udp_->SetIdleTimeout(std::chrono::nanoseconds(std::min<uint64_t>(
          DecodeU64(body), std::chrono::nanoseconds(std::chrono::hours(24)).count())));
      return AppendFrame(out, FrameType::kDone);
    case FrameType::kDrain:
      Drain(std::chrono::seconds(DecodeU32(body)));
      return AppendFrame(out, FrameType::kStatsReply, Encode(Statistics()));
    case FrameType::kResume:
      if (drain_deadline_) {
        drain_deadline_.reset();
        loop_.Cancel(drain_timer_);
      }
      return AppendFrame(out, FrameType::kDone);
    case FrameType::kBindings: {
      const std::vector<std::string> parts = EncodeBindings(table_.Bindings(loop_.now()));
      for (const std::string& part : parts)
        AppendFrame(out, FrameType::kBindingsPart, part);
      return;
    }
    case FrameType::kBind: {
      std::vector<ServiceBindings> given;
      DecodeBindingsPart(body, given);
      const size_t without_place = table_.Bind(given, loop_.now());
      return AppendFrame(out, FrameType::kBindReply,
                         EncodeU32(static_cast<uint32_t>(without_place)));
    }
    case FrameType::kExit:
      loop_.Stop();
      return AppendFrame(out, FrameType::kDone);
    default:
      throw ProtocolError(
          fmt::format("a question of type {} is not known", static_cast<int>(type)));
  }
}

void Forwarder::Apply(Update update) {
  if (update.whole) {
    std::unordered_set<uint32_t> kept;
    for (const Slot& slot : update.set)
      kept.insert(slot.number);
    table_.RemoveUnless([&](uint32_t number) { return kept.contains(number); });
  }
  for (uint32_t number : update.removed)
    table_.Remove(number);
  for (Slot& slot : update.set)
    table_.Set(std::move(slot));
  generation_ = update.to;
  last_slot_ = update.last_slot;
  udp_->TableChanged();
}

// New connections are still taken: that none come is the rules' doing.
void Forwarder::Drain(std::chrono::seconds longest) {
  const bool drains = drain_deadline_.has_value();
  drain_deadline_ = Clock::now() + longest;
  if (drains) return;
  drain_timer_ = loop_.At(Clock::now() + std::min<std::chrono::seconds>(kDrainAtLeast, longest),
                          [this] { PollDrain(); });
}

void Forwarder::PollDrain() {
  if (!drain_deadline_) return;
  const size_t left = tcp_->connections() + udp_->flows();
  // An agent that waits for it first makes conntrack forget the datagrams that would still come.
  if ((left == 0 && !control_->asked_by_anyone()) || loop_.now() >= *drain_deadline_) {
    spdlog::info("forwarder {}: drained, {} connections are left", ::getpid(), left);
    loop_.Stop();
    return;
  }
  drain_timer_ =
      loop_.At(std::min(loop_.now() + kDrainPoll, *drain_deadline_), [this] { PollDrain(); });
}

}  // namespace pointsman::forwarder

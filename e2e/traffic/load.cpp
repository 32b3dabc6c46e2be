#include "e2e/traffic/load.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <list>
#include <map>
#include <string_view>
#include <sys/epoll.h>
#include <system_error>

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <signal.h>
#include <unistd.h>

#include "e2e/traffic/event_loop.h"
#include "e2e/traffic/histogram.h"

namespace pointsman::e2e {
namespace {

using Clock = EventLoop::Clock;
constexpr std::size_t kFirstFailures = 20;
constexpr std::size_t kMaxLine = 4096;
constexpr std::chrono::milliseconds kTick{5};
constexpr std::chrono::milliseconds kProgressPeriod{250};

std::string TimeStamp() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  tm parts{};
  gmtime_r(&now.tv_sec, &parts);
  std::array<char, 32> text{};
  const std::size_t size = strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S", &parts);
  std::array<char, 32> fraction{};
  std::snprintf(fraction.data(), fraction.size(), ".%03ldZ", now.tv_nsec / 1'000'000);
  return std::string(text.data(), size) + fraction.data();
}

struct Tally {
  std::uint64_t started = 0;
  std::uint64_t succeeded = 0;
  std::uint64_t failed = 0;
};

// One connection of either kind. A new connection ends after its first echo, a stream goes on.
struct Flow {
  Protocol protocol = Protocol::kTcp;
  const Endpoint* target = nullptr;
  bool stream = false;
  std::uint64_t number = 0;
  UniqueFd fd;
  bool connected = false;
  std::string backend;  // "" until the greeting
  std::string received;
  std::uint64_t sequence = 0;  // of the message last sent
  bool awaiting_echo = false;
  Clock::time_point sent;  // for a new connection: when it was started
  EventLoop::TimerId timer;
};
using Handle = std::list<Flow>::iterator;

class LoadRun {
 public:
  explicit LoadRun(const LoadOptions& options) : options_(options) {}

  nlohmann::json Run() {
    start_ = Clock::now();
    for (int i = 0; i < options_.streams; ++i)
      Start(true);
    loop_.OnSignals({SIGTERM, SIGINT}, [this](int) { Finish(); });
    if (options_.duration) loop_.After(*options_.duration, [this] { Finish(); });
    if (options_.new_per_second > 0) Tick();
    if (options_.progress) Progress();
    if (!finishing_) loop_.Run();
    nlohmann::json report = Report();
    if (!options_.report.empty()) Write(report);
    return report;
  }

 private:
  void Tick() {
    if (finishing_) return;
    const double elapsed = std::chrono::duration<double>(Clock::now() - start_).count();
    const auto due = static_cast<std::uint64_t>(elapsed * options_.new_per_second) + 1;
    while (new_started_ < due) {
      ++new_started_;
      Start(false);
    }
    loop_.After(kTick, [this] { Tick(); });
  }

  void Progress() {
    nlohmann::json line = {{"seconds", Seconds()},
                           {"started", total_.started},
                           {"succeeded", total_.succeeded},
                           {"failed", total_.failed},
                           {"streams", streams_.started - streams_.failed},
                           {"brokenStreams", streams_.failed},
                           {"messages", messages_},
                           {"p99Ms", latency_.QuantileMs(0.99)}};
    std::puts(line.dump().c_str());
    std::fflush(stdout);
    loop_.After(kProgressPeriod, [this] { Progress(); });
  }

  Tally& TallyOf(Protocol protocol) { return protocol == Protocol::kTcp ? tcp_ : udp_; }

  void Start(bool stream) {
    const std::uint64_t turn = stream ? streams_.started : total_.started;
    // Every target meets every protocol, also when their numbers have a common divisor.
    const std::size_t protocol = turn % options_.protocols.size();
    const std::size_t target = turn / options_.protocols.size() % options_.targets.size();
    const Handle flow = flows_.insert(flows_.end(), Flow{});
    flow->protocol = options_.protocols[protocol];
    flow->target = &options_.targets[target];
    flow->stream = stream;
    flow->number = turn;
    flow->sent = Clock::now();
    if (stream) {
      ++streams_.started;
    } else {
      ++total_.started;
      ++TallyOf(flow->protocol).started;
    }
    try {
      flow->fd = OpenSocket(flow->protocol, flow->target->family(), options_.from);
    } catch (const std::system_error& error) {
      return Fail(flow, FailureKind(error.code().value()));
    }
    SetTimeout(flow);
    const int result =
        connect(flow->fd.get(), reinterpret_cast<const sockaddr*>(&flow->target->address),
                flow->target->size);
    if (result != 0 && errno != EINPROGRESS) return Fail(flow, FailureKind(errno));
    loop_.Watch(flow->fd.get(), result == 0 ? EPOLLIN : EPOLLOUT,
                [this, flow](std::uint32_t) { Continue(flow); });
    if (result == 0) {
      flow->connected = true;
      if (flow->protocol == Protocol::kUdp) SendNext(flow);
    }
  }

  void SetTimeout(Handle flow) {
    loop_.Cancel(flow->timer);
    flow->timer = loop_.At(flow->sent + options_.timeout, [this, flow] { Fail(flow, "timeout"); });
  }

  // What a message looks like: unlike any other flow's and any other message of this one.
  static std::string Message(const Flow& flow) {
    return (flow.stream ? "stream-" : "new-") + std::to_string(flow.number) + "-" +
           std::to_string(flow.sequence);
  }

  // False when that failed and the flow has ended.
  bool SendNext(Handle flow) {
    ++flow->sequence;
    if (flow->stream) flow->sent = Clock::now();
    flow->awaiting_echo = true;
    if (flow->stream) SetTimeout(flow);
    std::string message = Message(*flow);
    if (flow->protocol == Protocol::kTcp) message += '\n';
    // At most one small message is under way, so it always fits into the socket's buffer.
    const ssize_t sent = send(flow->fd.get(), message.data(), message.size(), MSG_NOSIGNAL);
    if (sent != static_cast<ssize_t>(message.size())) return Fail(flow, FailureKind(errno)), false;
    return true;
  }

  void Continue(Handle flow) {
    if (!flow->connected) {
      int error = 0;
      socklen_t size = sizeof error;
      getsockopt(flow->fd.get(), SOL_SOCKET, SO_ERROR, &error, &size);
      if (error != 0) return Fail(flow, FailureKind(error));
      flow->connected = true;
      loop_.Modify(flow->fd.get(), EPOLLIN);
    }
    std::array<char, kMaxLine> buffer;
    for (;;) {
      const ssize_t got = recv(flow->fd.get(), buffer.data(), buffer.size(), 0);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0 && errno == EAGAIN) return;
      if (got < 0) return Fail(flow, FailureKind(errno));
      const std::string_view data(buffer.data(), static_cast<std::size_t>(got));
      if (flow->protocol == Protocol::kUdp) {
        if (!TakeDatagram(flow, data)) return;
        continue;
      }
      if (got == 0) return Fail(flow, "closed");
      flow->received.append(data);
      if (flow->received.size() > kMaxLine) return Fail(flow, "wrong");
      for (auto end = flow->received.find('\n'); end != std::string::npos;
           end = flow->received.find('\n')) {
        const std::string line = flow->received.substr(0, end);
        flow->received.erase(0, end + 1);
        if (!TakeLine(flow, line)) return;
      }
    }
  }

  // These return false when the flow has ended and `flow` is no longer valid.
  bool TakeLine(Handle flow, const std::string& line) {
    if (flow->backend.empty()) {
      flow->backend = line.substr(0, line.find(' '));
      if (flow->backend.empty()) return Fail(flow, "wrong"), false;
      if (finishing_ && flow->stream) return End(flow), false;
      return SendNext(flow);
    }
    if (!flow->awaiting_echo || line != Message(*flow)) return Fail(flow, "wrong"), false;
    return TakeEcho(flow);
  }

  bool TakeDatagram(Handle flow, std::string_view data) {
    const auto first = data.find(' ');
    const auto last = data.rfind(' ');
    if (first == std::string_view::npos || first == last || !flow->awaiting_echo ||
        data.substr(last + 1) != Message(*flow)) {
      return Fail(flow, "wrong"), false;
    }
    flow->backend = data.substr(0, first);
    return TakeEcho(flow);
  }

  bool TakeEcho(Handle flow) {
    flow->awaiting_echo = false;
    const auto took = Clock::now() - flow->sent;
    if (!flow->stream) {
      ++total_.succeeded;
      ++TallyOf(flow->protocol).succeeded;
      latency_.Add(took);
      ++backends_[flow->backend];
      End(flow);
      return false;
    }
    ++messages_;
    if (flow->sequence == 1) ++stream_backends_[flow->backend];
    max_echo_ = std::max(max_echo_, took);
    if (finishing_) return End(flow), false;
    loop_.Cancel(flow->timer);
    flow->timer = loop_.At(std::max(flow->sent + options_.stream_interval, Clock::now()),
                           [this, flow] { SendNext(flow); });
    return true;
  }

  void Fail(Handle flow, const std::string& kind) {
    if (flow->stream) {
      ++streams_.failed;
      ++stream_failures_[kind];
    } else {
      ++total_.failed;
      ++TallyOf(flow->protocol).failed;
      ++failures_[kind];
    }
    if (first_failures_.size() < kFirstFailures) {
      first_failures_.push_back({{"time", TimeStamp()},
                                 {"kind", kind},
                                 {"target", flow->target->ToString()},
                                 {"protocol", Name(flow->protocol)},
                                 {"of", flow->stream ? "stream" : "connection"},
                                 {"backend", flow->backend}});
    }
    End(flow);
  }

  void End(Handle flow) {
    loop_.Cancel(flow->timer);
    if (flow->fd.valid()) loop_.Unwatch(flow->fd.get());
    flows_.erase(flow);
    if (finishing_ && flows_.empty()) loop_.Stop();
  }

  void Finish() {
    if (finishing_) return;
    finishing_ = true;
    ended_ = Clock::now();
    // Streams between two messages are whole; the others end with their echo, or their timeout.
    for (auto flow = flows_.begin(); flow != flows_.end();) {
      const auto current = flow++;
      if (current->stream && !current->backend.empty() && !current->awaiting_echo) {
        End(current);
      }
    }
    if (flows_.empty()) loop_.Stop();
  }

  double Seconds() const {
    return std::chrono::duration<double>((finishing_ ? ended_ : Clock::now()) - start_).count();
  }

  nlohmann::json Report() const {
    const auto tally = [](const Tally& of) {
      return nlohmann::json{
          {"started", of.started}, {"succeeded", of.succeeded}, {"failed", of.failed}};
    };
    nlohmann::json connections = tally(total_);
    connections["tcp"] = tally(tcp_);
    connections["udp"] = tally(udp_);
    connections["failures"] = failures_;
    connections["backends"] = backends_;
    connections["latencyMs"] = {
        {"p50", latency_.QuantileMs(0.5)},  {"p90", latency_.QuantileMs(0.9)},
        {"p99", latency_.QuantileMs(0.99)}, {"p999", latency_.QuantileMs(0.999)},
        {"max", latency_.MaxMs()},          {"mean", latency_.MeanMs()}};
    return {{"seconds", Seconds()},
            {"connections", connections},
            {"streams",
             {{"opened", streams_.started},
              {"alive", streams_.started - streams_.failed},
              {"broken", streams_.failed},
              {"failures", stream_failures_},
              {"messages", messages_},
              {"backends", stream_backends_},
              {"maxEchoMs", std::chrono::duration<double, std::milli>(max_echo_).count()}}},
            {"firstFailures", first_failures_}};
  }

  void Write(const nlohmann::json& report) const {
    const std::string temporary = options_.report + ".new";
    UniqueFd fd(open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (!fd.valid()) throw std::system_error(errno, std::generic_category(), "open " + temporary);
    const std::string text = report.dump(2) + "\n";
    for (std::size_t done = 0; done < text.size();) {
      const ssize_t wrote = write(fd.get(), text.data() + done, text.size() - done);
      if (wrote < 0) throw std::system_error(errno, std::generic_category(), "write " + temporary);
      done += static_cast<std::size_t>(wrote);
    }
    // Closed first: on hostfs the data reaches the machine with the close.
    fd.Reset();
    if (rename(temporary.c_str(), options_.report.c_str()) != 0)
      throw std::system_error(errno, std::generic_category(), "rename to " + options_.report);
  }

  LoadOptions options_;
  EventLoop loop_;
  std::list<Flow> flows_;
  Clock::time_point start_;
  Clock::time_point ended_;
  bool finishing_ = false;
  std::uint64_t new_started_ = 0;
  std::uint64_t messages_ = 0;
  Clock::duration max_echo_{0};
  Tally total_, tcp_, udp_, streams_;
  std::map<std::string, std::uint64_t> failures_, stream_failures_, backends_, stream_backends_;
  Histogram latency_;
  std::vector<nlohmann::json> first_failures_;
};

}  // namespace

nlohmann::json Load(const LoadOptions& options) {
  return LoadRun(options).Run();
}

}  // namespace pointsman::e2e

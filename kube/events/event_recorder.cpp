#include "kube/events/event_recorder.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <deque>
#include <list>
#include <map>
#include <optional>
#include <thread>
#include <tuple>
#include <utility>

#include <spdlog/spdlog.h>

#include "kube/client/kube_time.h"
#include "kube/events/lru_map.h"

namespace pointsman::kube {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using std::chrono::seconds;

// client-go's numbers.
constexpr size_t kQueueLength = 1000;
constexpr size_t kRemembered = 4096;
constexpr double kBurst = 25;
constexpr double kTokensPerSecond = 1.0 / 300;
constexpr int kMaxTries = 12;

struct Occurrence {
  ObjectReference about;
  EventType type;
  std::string reason;
  std::string message;
  std::chrono::system_clock::time_point when;

  // What makes two of them the same Event, which counts rather than repeats.
  using Key = std::tuple<std::string, std::string, std::string, std::string, std::string, EventType,
                         std::string, std::string>;
  Key MakeKey() const {
    return {about.api_version, about.kind, about.ns, about.name, about.uid, type, reason, message};
  }
  std::string ObjectKey() const {
    return about.kind + "/" + about.ns + "/" + about.name + "/" + about.uid;
  }
};

struct Sent {
  std::string name;
  int count = 0;
};

struct Bucket {
  double tokens = kBurst;
  Clock::time_point filled = Clock::now();

  bool Take() {
    const Clock::time_point now = Clock::now();
    const std::chrono::duration<double> passed = now - filled;
    tokens = std::min(kBurst, tokens + passed.count() * kTokensPerSecond);
    filled = now;
    if (tokens < 1) return false;
    tokens -= 1;
    return true;
  }
};

}  // namespace

ObjectReference ReferenceTo(const Json& object) {
  const auto text = [](const Json& in, const char* field) {
    const auto it = in.find(field);
    return it != in.end() && it->is_string() ? it->get<std::string>() : std::string();
  };
  ObjectReference reference{text(object, "apiVersion"), text(object, "kind"), "", "", ""};
  if (const auto metadata = object.find("metadata");
      metadata != object.end() && metadata->is_object()) {
    reference.ns = text(*metadata, "namespace");
    reference.name = text(*metadata, "name");
    reference.uid = text(*metadata, "uid");
  }
  return reference;
}

class EventRecorder::Impl {
 public:
  Impl(Client& client, std::string component, std::string host)
      : client_(client.WithStop(abort_.get_token())),
        component_(std::move(component)),
        host_(std::move(host)),
        thread_([this] { Run(); }) {}

  ~Impl() {
    std::unique_lock lock(mutex_);
    closing_ = true;
    changed_.notify_all();
    changed_.wait_for(lock, seconds(2), [&] { return finished_; });
    const size_t left = queue_.size();
    lock.unlock();
    abort_.request_stop();
    thread_.join();
    if (left > 0) spdlog::warn("events: {} not sent at the end", left);
  }

  void Emit(Occurrence occurrence) {
    const std::lock_guard lock(mutex_);
    // Counted before the queue, so that what floods does not push out what others say.
    if (!buckets_[occurrence.ObjectKey()].Take()) {
      Drop("too many about " + occurrence.ObjectKey());
      return;
    }
    if (queue_.size() >= kQueueLength) {
      queue_.pop_front();
      Drop("the queue is full, the oldest goes");
    }
    queue_.push_back(std::move(occurrence));
    changed_.notify_all();
  }

  uint64_t Dropped() const {
    const std::lock_guard lock(mutex_);
    return dropped_;
  }

 private:
  // With mutex_ held. Says so at most once a minute: a flood must not become one of the log.
  void Drop(const std::string& why) {
    ++dropped_;
    const Clock::time_point now = Clock::now();
    if (dropped_ > 1 && now - drop_logged_ < seconds(60)) return;
    drop_logged_ = now;
    spdlog::warn("events: dropped {} so far: {}", dropped_, why);
  }

  void Run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return closing_ || !queue_.empty(); });
      if (queue_.empty() || abort_.stop_requested()) break;
      const Occurrence occurrence = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      const std::optional<std::string> failure = Send(occurrence);
      lock.lock();
      if (failure) Drop(*failure);
    }
    finished_ = true;
    changed_.notify_all();
  }

  // Tries until it is sent, refused or hopeless; then says why.
  std::optional<std::string> Send(const Occurrence& occurrence) {
    for (int attempt = 1;; ++attempt) {
      std::string error;
      try {
        Write(occurrence);
        return std::nullopt;
      } catch (const ApiError& e) {
        error = e.what();
        if (!e.IsTooManyRequests() && e.code() < 500) attempt = kMaxTries;
      } catch (const std::exception& e) {
        error = e.what();
      }
      if (attempt >= kMaxTries || abort_.stop_requested()) {
        return occurrence.reason + " about " + occurrence.ObjectKey() + ": " + error;
      }
      std::unique_lock lock(mutex_);
      pause_.wait_for(lock, abort_.get_token(), std::min(seconds(1 << attempt), seconds(10)),
                      [] { return false; });
    }
  }

  void Write(const Occurrence& occurrence) {
    const std::string ns = occurrence.about.ns.empty() ? "default" : occurrence.about.ns;
    const std::string when = FormatTime(occurrence.when);
    Sent& sent = sent_[occurrence.MakeKey()];
    if (sent.count > 0) {
      try {
        client_.Patch(resources::kEvents, ns, sent.name, PatchType::kMerge,
                      {{"count", sent.count + 1}, {"lastTimestamp", when}});
        ++sent.count;
        return;
      } catch (const ApiError& e) {
        if (!e.IsNotFound()) throw;
        sent = {};  // it has expired: the server keeps Events for an hour
      }
    }
    if (sent.name.empty()) sent.name = NewName(occurrence);
    try {
      client_.Create(resources::kEvents, ns, Event(occurrence, sent.name, ns, when));
    } catch (const ApiError& e) {
      // An earlier try arrived, only its answer did not: the name is ours alone.
      if (!e.IsAlreadyExists()) throw;
    }
    sent.count = 1;
  }

  static std::string NewName(const Occurrence& occurrence) {
    char hex[32];
    std::snprintf(
        hex, sizeof hex, ".%llx",
        static_cast<unsigned long long>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                            std::chrono::system_clock::now().time_since_epoch())
                                            .count()));
    return occurrence.about.name + hex;
  }

  Json Event(const Occurrence& occurrence, const std::string& name, const std::string& ns,
             const std::string& when) const {
    Json source{{"component", component_}};
    if (!host_.empty()) source["host"] = host_;
    Json about{{"apiVersion", occurrence.about.api_version},
               {"kind", occurrence.about.kind},
               {"name", occurrence.about.name}};
    if (!occurrence.about.ns.empty()) about["namespace"] = occurrence.about.ns;
    if (!occurrence.about.uid.empty()) about["uid"] = occurrence.about.uid;
    return {{"metadata", {{"name", name}, {"namespace", ns}}},
            {"involvedObject", std::move(about)},
            {"type", occurrence.type == EventType::kNormal ? "Normal" : "Warning"},
            {"reason", occurrence.reason},
            {"message", occurrence.message},
            {"source", std::move(source)},
            {"reportingComponent", component_},
            {"reportingInstance", host_},
            {"firstTimestamp", when},
            {"lastTimestamp", when},
            {"count", 1}};
  }

  std::stop_source abort_;
  Client client_;
  const std::string component_;
  const std::string host_;
  LruMap<Occurrence::Key, Sent> sent_{kRemembered};  // the sender's thread only

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::condition_variable_any pause_;
  std::deque<Occurrence> queue_;
  LruMap<std::string, Bucket> buckets_{kRemembered};
  bool closing_ = false;
  bool finished_ = false;
  uint64_t dropped_ = 0;
  Clock::time_point drop_logged_{};
  std::thread thread_;  // last: uses all of the above
};

EventRecorder::EventRecorder(Client& client, std::string component, std::string host)
    : impl_(std::make_unique<Impl>(client, std::move(component), std::move(host))) {}

EventRecorder::~EventRecorder() = default;

void EventRecorder::Emit(const ObjectReference& about, EventType type, const std::string& reason,
                         const std::string& message) {
  impl_->Emit({about, type, reason, message, std::chrono::system_clock::now()});
}

uint64_t EventRecorder::Dropped() const {
  return impl_->Dropped();
}

}  // namespace pointsman::kube

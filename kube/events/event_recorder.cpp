#include "kube/events/event_recorder.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <deque>
#include <list>
#include <map>
#include <optional>
#include <thread>
#include <tuple>
#include <utility>

#include <spdlog/spdlog.h>

#include "kube/events/lru_map.h"
#include "kube/text/text.h"
#include "kube/time/rfc3339.h"

namespace pointsman::kube {
namespace {

using std::chrono::seconds;

// client-go's numbers.
constexpr size_t kQueueLength = 1000;
constexpr size_t kRemembered = 4096;
constexpr int kMaxTries = 12;

// How many Events may come of one source at once, and how soon another.
struct Rate {
  double burst = 0;
  double per_second = 0;
};
constexpr Rate kPerObject{25, 1.0 / 300};  // client-go's
// Who may write objects in a namespace can make any number of them, and each of 5,000 agents tells
// of each: the server keeps it all for an hour.
constexpr Rate kPerNamespace{100, 1.0 / 60};

// What the API server takes (pkg/apis/core/validation/events.go), in bytes. With them, the counts
// above bound the memory too: about 4 MiB.
constexpr size_t kMostMessage = 1024;
constexpr size_t kMostReason = 128;
constexpr size_t kMostInstance = 128;
constexpr size_t kMostName = 253;  // a DNS subdomain, as the Event's own name

struct Occurrence {
  ObjectReference about;
  EventType type;
  std::string reason;
  std::string message;
  std::chrono::system_clock::time_point when;

  // What makes two of them the same Event, which counts rather than repeats. A hash stands for the
  // message: 4096 of these are kept.
  using Key = std::tuple<std::string, EventType, std::string, size_t>;
  Key MakeKey() const {
    return {about.api_version + "/" + ObjectKey(), type, reason, std::hash<std::string>()(message)};
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
  std::optional<double> tokens;  // nullopt: full
  TimeSource::time_point filled;

  bool Take(const Rate& rate, TimeSource::time_point now) {
    const std::chrono::duration<double> passed = now - filled;
    tokens = std::min(rate.burst, tokens.value_or(rate.burst) + passed.count() * rate.per_second);
    filled = now;
    if (*tokens < 1) return false;
    *tokens -= 1;
    return true;
  }
};

// As a server takes it. Names are cut just in case: no object has longer ones.
Occurrence Bounded(Occurrence occurrence) {
  occurrence.message = text::Message(occurrence.message, kMostMessage);
  occurrence.reason = text::Message(occurrence.reason, kMostReason);
  ObjectReference& about = occurrence.about;
  for (std::string* name : {&about.api_version, &about.kind, &about.ns, &about.name, &about.uid})
    *name = text::Cut(*name, kMostName);
  return occurrence;
}

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
  Impl(Client& client, std::string component, std::string host, TimeSource& time)
      : client_(client.WithStop(abort_.get_token())),
        component_(std::move(component)),
        host_(std::move(host)),
        instance_(text::Cut(host_, kMostInstance)),
        time_(time),
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
    const TimeSource::time_point now = time_.Now();
    // Counted before the queue, so that what floods does not push out what others say.
    if (!objects_[occurrence.ObjectKey()].Take(kPerObject, now)) {
      Drop("too many about " + occurrence.ObjectKey());
      return;
    }
    const std::string& ns = occurrence.about.ns;
    if (!ns.empty() && !namespaces_[ns].Take(kPerNamespace, now)) {
      Drop("too many about objects in the namespace " + ns);
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
    const TimeSource::time_point now = time_.Now();
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
      } catch (const TransportError& e) {
        error = e.what();
      } catch (const std::exception& e) {
        // It is this Event's fault and would be the next time: the others must not wait for it.
        error = e.what();
        attempt = kMaxTries;
      }
      if (attempt >= kMaxTries || abort_.stop_requested()) {
        return occurrence.reason + " about " + occurrence.ObjectKey() + ": " + error;
      }
      time_.Sleep(std::min(seconds(1 << attempt), seconds(10)), abort_.get_token());
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
    // It has to end in a letter or digit before the point, as each part of such a name.
    std::string_view name = text::Cut(occurrence.about.name, kMostName - std::strlen(hex));
    while (!name.empty() && (name.back() == '.' || name.back() == '-'))
      name.remove_suffix(1);
    return std::string(name) + hex;
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
            {"reportingInstance", instance_},
            {"firstTimestamp", when},
            {"lastTimestamp", when},
            {"count", 1}};
  }

  std::stop_source abort_;
  Client client_;
  const std::string component_;
  const std::string host_;
  const std::string instance_;
  TimeSource& time_;
  LruMap<Occurrence::Key, Sent> sent_{kRemembered};  // the sender's thread only

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Occurrence> queue_;
  LruMap<std::string, Bucket> objects_{kRemembered};
  LruMap<std::string, Bucket> namespaces_{kRemembered};
  bool closing_ = false;
  bool finished_ = false;
  uint64_t dropped_ = 0;
  TimeSource::time_point drop_logged_{};
  std::thread thread_;  // last: uses all of the above
};

EventRecorder::EventRecorder(Client& client, std::string component, std::string host,
                             TimeSource& time)
    : impl_(std::make_unique<Impl>(client, std::move(component), std::move(host), time)) {}

EventRecorder::~EventRecorder() = default;

void EventRecorder::Emit(const ObjectReference& about, EventType type, const std::string& reason,
                         const std::string& message) {
  impl_->Emit(Bounded({about, type, reason, message, std::chrono::system_clock::now()}));
}

uint64_t EventRecorder::Dropped() const {
  return impl_->Dropped();
}

}  // namespace pointsman::kube

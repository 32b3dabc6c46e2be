#include <algorithm>
#include <random>
#include <utility>

#include <simdjson.h>
#include <spdlog/spdlog.h>

#include "kube/cache/informer.h"

namespace pointsman::kube {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// A watch that lasts less is a failure, whatever it said: a server or proxy that ends each watch at
// once must not be asked again at once.
constexpr seconds kShortWatch{1};

// Sets `version` to the object's metadata.resourceVersion; leaves it when there is none.
void ReadResourceVersion(simdjson::ondemand::parser& parser, std::string_view object,
                         std::string& version) {
  simdjson::ondemand::document document;
  std::string_view text;
  if (parser.iterate(object.data(), object.size(), object.size() + kJsonPadding).get(document) ==
          simdjson::SUCCESS &&
      document.find_field_unordered("metadata")
              .find_field_unordered("resourceVersion")
              .get_string()
              .get(text) == simdjson::SUCCESS &&
      !text.empty()) {
    version = text;
  }
}

// A list at an exact or newer version that this server does not have: too old (410), or newer than
// its cache (504 with this cause; kubernetes#85074).
bool VersionUnavailable(const ApiError& e) {
  return e.IsExpired() || std::any_of(e.causes().begin(), e.causes().end(), [](const auto& cause) {
           return cause.reason == "ResourceVersionTooLarge";
         });
}

}  // namespace

Reflector::Reflector(Client& client, Resource resource, ReflectorOptions options, ObjectSink& sink)
    : client_(client), resource_(std::move(resource)), options_(std::move(options)), sink_(sink) {}

Reflector::~Reflector() = default;

void Reflector::Start() {
  if (thread_.joinable()) throw std::logic_error("Reflector::Start called twice");
  thread_ = std::jthread([this](std::stop_token stop) { Run(std::move(stop)); });
}

ReflectorStats Reflector::Stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

void Reflector::Run(std::stop_token stop) {
  std::minstd_rand random{std::random_device{}()};
  // client-go's rules: the first list may come from any server's cache ("0"), a later one must not
  // be older than what was seen, and "" is the fallback that always works.
  std::string list_version = "0";
  std::string version;
  bool listed = false;
  bool expired = false;  // the error before this one was that the version is gone
  int failures = 0;

  while (!stop.stop_requested()) {
    std::string error;
    const bool expired_before = std::exchange(expired, false);
    const char* doing = "list";
    const TimeSource::time_point begin = options_.clock->Now();
    try {
      if (!listed) {
        version = List(list_version, stop);
        listed = true;
      }
      doing = "watch";
      const TimeSource::time_point watch_begin = options_.clock->Now();
      Watch(version, random, stop);
      if (options_.clock->Now() - watch_begin < kShortWatch) error = "the server ended it at once";
    } catch (const ApiError& e) {
      error = e.what();
      if (VersionUnavailable(e)) {
        // A server that was restarted has no history: each watch gets this. It answers, so the
        // waits for a server that did not count no more (unless this is all that it answers). The
        // list may come from its cache, which is as new as what was seen; only one that the cache
        // does not have has to come from etcd: thousands of agents ask at once then.
        if (!expired_before) failures = 0;
        expired = true;
        list_version = listed ? version : "";
        listed = false;
      } else if (!e.IsTooManyRequests() && e.code() < 500) {
        if (listed) list_version = version;
        listed = false;
      }
    } catch (const TransportError& e) {
      error = e.what();  // the watch goes on where it was
    } catch (const std::exception& e) {
      // The sink failed: what it holds is not known.
      error = e.what();
      if (listed) list_version = version;
      listed = false;
    }
    if (stop.stop_requested()) return;
    if (error.empty()) {
      failures = 0;
      continue;
    }
    if (options_.clock->Now() - begin >=
        std::max<TimeSource::time_point::duration>(kShortWatch * 5, options_.max_backoff)) {
      failures = 0;  // it went well for long
    }
    milliseconds delay = options_.max_backoff;
    if (failures < 20) delay = std::min(delay, options_.min_backoff * (1 << failures));
    ++failures;
    delay = milliseconds(std::uniform_int_distribution<milliseconds::rep>(
        delay.count() - delay.count() / 4, delay.count() + delay.count() / 4)(random));
    spdlog::warn("{} {}: {}; trying again in {} ms", doing, resource_.plural, error, delay.count());
    {
      const std::lock_guard lock(mutex_);
      ++stats_.errors;
      stats_.last_error = std::move(error);
    }
    options_.clock->Sleep(delay, stop);
  }
}

std::string Reflector::List(const std::string& resource_version, const std::stop_token& stop) {
  {
    const std::lock_guard lock(mutex_);
    ++stats_.lists;
  }
  ListOptions options;
  options.label_selector = options_.label_selector;
  options.field_selector = options_.field_selector;
  options.resource_version = resource_version;
  // With a limit a server takes a version for exactly that one, and asks etcd; without, its cache
  // answers with that version or a newer one.
  if (!resource_version.empty() && resource_version != "0") options.limit = 0;
  sink_.OnListBegin();
  std::string version = client_.ListItems(
      resource_, options_.ns, options,
      [&](std::string_view item) {
        Contact();
        sink_.OnListItem(item);
      },
      [&] { sink_.OnListBegin(); }, stop);
  Contact();
  sink_.OnListEnd(version);
  const std::lock_guard lock(mutex_);
  stats_.last_error.clear();
  return version;
}

void Reflector::Watch(std::string& version, std::minstd_rand& random, const std::stop_token& stop) {
  {
    const std::lock_guard lock(mutex_);
    ++stats_.watches;
  }
  WatchOptions options;
  options.label_selector = options_.label_selector;
  options.field_selector = options_.field_selector;
  options.resource_version = version;
  // Spread, so that the watches of 5,000 agents do not all end at once (client-go does the same).
  options.timeout = seconds(std::uniform_int_distribution<int>(300, 600)(random));
  simdjson::ondemand::parser parser;
  client_.Watch(
      resource_, options_.ns, options,
      [&](WatchEventType type, std::string_view object) {
        Contact();
        if (type != WatchEventType::kBookmark) {
          sink_.OnEvent(type, object);
          const std::lock_guard lock(mutex_);
          ++stats_.events;
        }
        ReadResourceVersion(parser, object, version);
        return true;
      },
      stop);
  Contact();
}

void Reflector::Contact() {
  const std::lock_guard lock(mutex_);
  stats_.last_contact = options_.clock->Now();
  stats_.last_error.clear();
}

}  // namespace pointsman::kube

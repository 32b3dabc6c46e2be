// The verb watch.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "e2e/control-plane/api/api_server.h"

namespace pointsman::e2e {
namespace {

using WatchClock = std::chrono::steady_clock;

constexpr std::size_t kMaxPending = 1u << 20;  // bytes that are gathered before they are written

struct WatchParameters {
  std::string version;
  bool bookmarks = false;
  bool initial_events = false;
  std::chrono::seconds timeout{};
};

WatchParameters WatchParametersOf(const HttpRequest& request, const ApiServer::Options& options) {
  WatchParameters parameters;
  parameters.version = request.Parameter("resourceVersion").value_or("");
  parameters.bookmarks = IsTrue(request.Parameter("allowWatchBookmarks"));
  parameters.initial_events =
      options.emulation.AtLeast(32) && IsTrue(request.Parameter("sendInitialEvents"));
  // Checked since 1.19. Clients that ask for a streamed list notice by this that an older server
  // does not know how.
  const std::string match = request.Parameter("resourceVersionMatch").value_or("");
  if (!request.Parameter("continue").value_or("").empty())
    throw InvalidListOption("continue", "continue is forbidden for watch");
  if (parameters.initial_events && match != "NotOlderThan") {
    throw ForbiddenMatch("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
  }
  if (!parameters.version.empty() &&
      parameters.version.find_first_not_of("0123456789") != std::string::npos) {
    throw StatusError(500, "",
                      "resourceVersion: Invalid value: " + Json(parameters.version).dump());
  }
  if (!parameters.initial_events && !match.empty()) {
    throw ForbiddenMatch(options.emulation.AtLeast(27)
                             ? "resourceVersionMatch is forbidden for watch unless "
                               "sendInitialEvents is provided"
                             : "resourceVersionMatch is forbidden for watch");
  }
  parameters.timeout = options.max_watch;
  if (const auto text = request.Parameter("timeoutSeconds"); text && !text->empty()) {
    const auto seconds = static_cast<std::int64_t>(ParseVersion("timeoutSeconds", *text));
    if (seconds > 0)
      parameters.timeout = std::min(parameters.timeout, std::chrono::seconds(seconds));
  }
  return parameters;
}

// The events of one watch as the client wants them, gathered and written in large pieces.
class WatchStream {
 public:
  WatchStream(RequestContext& context, const Target& target)
      : context_(context), target_(target), selector_(SelectorOf(context.request, target)) {}

  bool Wants(const StoredObject& object) const {
    return (target_.ns.empty() || object.ns == target_.ns) &&
           (target_.name.empty() || object.name == target_.name) && selector_.Matches(object);
  }

  // False: the peer is gone.
  bool Add(const char* kind, const StoredObject& object) {
    pending_ += "{\"type\":\"";
    pending_ += kind;
    pending_ += "\",\"object\":";
    pending_ += RenderEventObject(*target_.type, object, context_.rendering, first_table_);
    pending_ += "}\n";
    first_table_ = false;
    return pending_.size() <= kMaxPending || Flush();
  }

  void AddBookmark(std::uint64_t at, bool initial_end) {
    Json object = {{"kind", target_.type->kind},
                   {"apiVersion", target_.type->GroupVersion()},
                   {"metadata", {{"resourceVersion", std::to_string(at)}}}};
    if (context_.rendering.form == Rendering::Form::kTable) {
      object = {{"kind", "Table"},
                {"apiVersion", "meta.k8s.io/v1"},
                {"metadata", {{"resourceVersion", std::to_string(at)}}},
                {"columnDefinitions", Json::array()},
                {"rows", Json::array()}};
    }
    if (initial_end) object["metadata"]["annotations"] = {{"k8s.io/initial-events-end", "true"}};
    pending_ += Json{{"type", "BOOKMARK"}, {"object", object}}.dump() + "\n";
  }

  // False: the peer is gone.
  bool Flush() {
    const bool there = context_.exchange.Write(pending_);
    pending_.clear();
    return there;
  }

  // What the subscription has now. `versions`: of what was added, if not null. False: the peer is
  // gone.
  bool Drain(Subscription& subscription, std::vector<std::uint64_t>* versions) {
    while (const auto event = subscription.TryNext()) {
      if (event->resource_version <= after_) continue;
      const bool after = event->type != EventType::kDeleted && Wants(*event->object);
      const bool before = event->previous && Wants(*event->previous);
      if (!after && !before) continue;
      if (versions != nullptr) versions->push_back(event->resource_version);
      if (after || event->type == EventType::kDeleted) {
        if (!Add(after ? (before ? "MODIFIED" : "ADDED") : "DELETED", *event->object)) return false;
      } else if (!Add("DELETED", LastOfSelection(*event))) {
        return false;
      }
    }
    return true;
  }

  // Events up to that version, which is to come yet, are not sent.
  void Await(std::uint64_t version) { after_ = version; }

 private:
  // An object that leaves the selection is shown as it was in it, with the version of its leaving.
  static StoredObject LastOfSelection(const StoreEvent& event) {
    StoredObject last = *event.previous;
    Json object = last.Parse();
    object["metadata"]["resourceVersion"] = std::to_string(event.resource_version);
    last.resource_version = event.resource_version;
    last.json = object.dump();
    return last;
  }

  RequestContext& context_;
  const Target& target_;
  const Selector selector_;
  std::uint64_t after_ = 0;
  bool first_table_ = true;
  std::string pending_;
};

}  // namespace

void ApiServer::Watch(RequestContext& context, const Target& target) {
  const ResourceType& type = *target.type;
  WatchStream stream(context, target);
  const WatchParameters parameters = WatchParametersOf(context.request, options_);
  const bool synthetic =
      parameters.version.empty() || parameters.version == "0" || parameters.initial_events;
  std::unique_ptr<Subscription> subscription;
  Snapshot snapshot;
  std::string failure;
  try {
    if (synthetic) {
      subscription = store_.ListAndWatch(type.StoreName(), snapshot);
    } else {
      subscription =
          store_.Watch(type.StoreName(), ParseVersion("resourceVersion", parameters.version));
    }
  } catch (const StatusError& error) {
    if (error.code() == 504) {
      // A version that is to come: silence until it has.
      subscription = store_.ListAndWatch(type.StoreName(), snapshot);
      snapshot.objects.clear();
      stream.Await(ParseVersion("resourceVersion", parameters.version));
    } else if (error.code() == 410) {
      failure = Json{{"type", "ERROR"}, {"object", error.ToJson()}}.dump() + "\n";
    } else {
      throw;
    }
  }
  context.exchange.begin(200, context.rendering.ContentType());
  if (!failure.empty()) {
    context.exchange.Write(failure);
    return;
  }
  for (const ObjectPtr& object : snapshot.objects) {
    if (stream.Wants(*object) && !stream.Add("ADDED", *object)) return;
  }
  if (parameters.initial_events && parameters.bookmarks)
    stream.AddBookmark(snapshot.resource_version, true);
  snapshot.objects.clear();
  if (!stream.Flush()) return;

  const auto end = WatchClock::now() + parameters.timeout;
  auto next_bookmark = WatchClock::now() + options_.bookmark_interval;
  std::uint64_t last_sent = 0;
  while (!subscription->Stopped()) {
    const auto now = WatchClock::now();
    if (now >= end) return;
    const auto until = parameters.bookmarks ? std::min(end, next_bookmark) : end;
    const auto wait = std::chrono::duration_cast<std::chrono::milliseconds>(until - now) +
                      std::chrono::milliseconds(1);
    if (!context.exchange.WaitFor(subscription->fd(), std::min<std::chrono::milliseconds>(
                                                          wait, std::chrono::seconds(60))))
      return;
    const std::uint64_t progress = subscription->Progress();
    std::vector<std::uint64_t> versions;
    if (!stream.Drain(*subscription, watch_log_ ? &versions : nullptr)) return;
    if (parameters.bookmarks && WatchClock::now() >= next_bookmark) {
      next_bookmark = WatchClock::now() + options_.bookmark_interval;
      if (progress > last_sent) stream.AddBookmark(progress, false);
      last_sent = progress;
    }
    const auto sent = WatchClock::now();
    if (!stream.Flush()) return;
    if (!versions.empty()) LogSent(context, type, sent, versions);
  }
  if (subscription->Overflowed()) {
    spdlog::warn("a watch of {} by {} was too slow and is ended", type.plural, context.user.name);
  }
}

void ApiServer::LogSent(const RequestContext& context, const ResourceType& type,
                        std::chrono::steady_clock::time_point at,
                        const std::vector<std::uint64_t>& versions) const {
  std::string lines;
  for (const std::uint64_t version : versions) {
    lines += fmt::format("{} {} {} {}\n", std::chrono::nanoseconds(at.time_since_epoch()).count(),
                         type.plural, context.user.name, version);
  }
  // Whole lines reach the file at once: a reader that follows it never sees half of one.
  std::fwrite(lines.data(), 1, lines.size(), watch_log_.get());
  std::fflush(watch_log_.get());
}

}  // namespace pointsman::e2e

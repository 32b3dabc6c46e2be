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
  bool initialEvents = false;
  std::chrono::seconds timeout{};
};

WatchParameters watchParametersOf(const HttpRequest& request, const ApiServer::Options& options) {
  WatchParameters parameters;
  parameters.version = request.parameter("resourceVersion").value_or("");
  parameters.bookmarks = isTrue(request.parameter("allowWatchBookmarks"));
  parameters.initialEvents =
      options.emulation.atLeast(32) && isTrue(request.parameter("sendInitialEvents"));
  // Checked since 1.19. Clients that ask for a streamed list notice by this that an older server
  // does not know how.
  const std::string match = request.parameter("resourceVersionMatch").value_or("");
  if (parameters.initialEvents && match != "NotOlderThan") {
    throw forbiddenMatch("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
  }
  if (!parameters.initialEvents && !match.empty()) {
    throw forbiddenMatch(options.emulation.atLeast(27)
                             ? "resourceVersionMatch is forbidden for watch unless "
                               "sendInitialEvents is provided"
                             : "resourceVersionMatch is forbidden for watch");
  }
  parameters.timeout = options.maxWatch;
  if (const auto text = request.parameter("timeoutSeconds"); text && !text->empty()) {
    const auto seconds = static_cast<std::int64_t>(parseVersion("timeoutSeconds", *text));
    if (seconds > 0)
      parameters.timeout = std::min(parameters.timeout, std::chrono::seconds(seconds));
  }
  return parameters;
}

// The events of one watch as the client wants them, gathered and written in large pieces.
class WatchStream {
 public:
  WatchStream(RequestContext& context, const Target& target)
      : context_(context), target_(target), selector_(selectorOf(context.request, target)) {}

  bool wants(const StoredObject& object) const {
    return (target_.ns.empty() || object.ns == target_.ns) &&
           (target_.name.empty() || object.name == target_.name) && selector_.matches(object);
  }

  // False: the peer is gone.
  bool add(const char* kind, const StoredObject& object) {
    pending_ += "{\"type\":\"";
    pending_ += kind;
    pending_ += "\",\"object\":";
    pending_ += renderEventObject(*target_.type, object, context_.rendering, firstTable_);
    pending_ += "}\n";
    firstTable_ = false;
    return pending_.size() <= kMaxPending || flush();
  }

  void addBookmark(std::uint64_t at, bool initialEnd) {
    Json object = {{"kind", target_.type->kind},
                   {"apiVersion", target_.type->groupVersion()},
                   {"metadata", {{"resourceVersion", std::to_string(at)}}}};
    if (context_.rendering.form == Rendering::Form::kTable) {
      object = {{"kind", "Table"},
                {"apiVersion", "meta.k8s.io/v1"},
                {"metadata", {{"resourceVersion", std::to_string(at)}}},
                {"columnDefinitions", Json::array()},
                {"rows", Json::array()}};
    }
    if (initialEnd) object["metadata"]["annotations"] = {{"k8s.io/initial-events-end", "true"}};
    pending_ += Json{{"type", "BOOKMARK"}, {"object", object}}.dump() + "\n";
  }

  // False: the peer is gone.
  bool flush() {
    const bool there = context_.exchange.write(pending_);
    pending_.clear();
    return there;
  }

  // What the subscription has now. `versions`: of what was added, if not null. False: the peer is
  // gone.
  bool drain(Subscription& subscription, std::vector<std::uint64_t>* versions) {
    while (const auto event = subscription.tryNext()) {
      const bool after = event->type != EventType::kDeleted && wants(*event->object);
      const bool before = event->previous && wants(*event->previous);
      if (!after && !before) continue;
      if (versions != nullptr) versions->push_back(event->resourceVersion);
      if (!add(after ? (before ? "MODIFIED" : "ADDED") : "DELETED", *event->object)) return false;
    }
    return true;
  }

 private:
  RequestContext& context_;
  const Target& target_;
  const Selector selector_;
  bool firstTable_ = true;
  std::string pending_;
};

}  // namespace

void ApiServer::watch(RequestContext& context, const Target& target) {
  const ResourceType& type = *target.type;
  WatchStream stream(context, target);
  const WatchParameters parameters = watchParametersOf(context.request, options_);
  const bool synthetic =
      parameters.version.empty() || parameters.version == "0" || parameters.initialEvents;
  std::unique_ptr<Subscription> subscription;
  Snapshot snapshot;
  std::string failure;
  try {
    if (synthetic) {
      subscription = store_.listAndWatch(type.storeName(), snapshot);
    } else {
      subscription =
          store_.watch(type.storeName(), parseVersion("resourceVersion", parameters.version));
    }
  } catch (const StatusError& error) {
    if (error.code() != 410 && error.code() != 504) throw;
    failure = Json{{"type", "ERROR"}, {"object", error.toJson()}}.dump() + "\n";
  }
  context.exchange.begin(200, context.rendering.contentType());
  if (!failure.empty()) {
    context.exchange.write(failure);
    return;
  }
  for (const ObjectPtr& object : snapshot.objects) {
    if (stream.wants(*object) && !stream.add("ADDED", *object)) return;
  }
  if (parameters.initialEvents && parameters.bookmarks)
    stream.addBookmark(snapshot.resourceVersion, true);
  snapshot.objects.clear();
  if (!stream.flush()) return;

  const auto end = WatchClock::now() + parameters.timeout;
  auto nextBookmark = WatchClock::now() + options_.bookmarkInterval;
  std::uint64_t lastSent = 0;
  while (!subscription->stopped()) {
    const auto now = WatchClock::now();
    if (now >= end) return;
    const auto until = parameters.bookmarks ? std::min(end, nextBookmark) : end;
    const auto wait = std::chrono::duration_cast<std::chrono::milliseconds>(until - now) +
                      std::chrono::milliseconds(1);
    if (!context.exchange.waitFor(subscription->fd(), std::min<std::chrono::milliseconds>(
                                                          wait, std::chrono::seconds(60))))
      return;
    const std::uint64_t progress = subscription->progress();
    std::vector<std::uint64_t> versions;
    if (!stream.drain(*subscription, watchLog_ ? &versions : nullptr)) return;
    if (parameters.bookmarks && WatchClock::now() >= nextBookmark) {
      nextBookmark = WatchClock::now() + options_.bookmarkInterval;
      if (progress > lastSent) stream.addBookmark(progress, false);
      lastSent = progress;
    }
    const auto sent = WatchClock::now();
    if (!stream.flush()) return;
    if (!versions.empty()) logSent(context, type, sent, versions);
  }
  if (subscription->overflowed()) {
    spdlog::warn("a watch of {} by {} was too slow and is ended", type.plural, context.user.name);
  }
}

void ApiServer::logSent(const RequestContext& context, const ResourceType& type,
                        std::chrono::steady_clock::time_point at,
                        const std::vector<std::uint64_t>& versions) const {
  std::string lines;
  for (const std::uint64_t version : versions) {
    lines += fmt::format("{} {} {} {}\n", std::chrono::nanoseconds(at.time_since_epoch()).count(),
                         type.plural, context.user.name, version);
  }
  // Whole lines reach the file at once: a reader that follows it never sees half of one.
  std::fwrite(lines.data(), 1, lines.size(), watchLog_.get());
  std::fflush(watchLog_.get());
}

}  // namespace pointsman::e2e

#include "kube/client/client.h"

#include <algorithm>
#include <charconv>
#include <random>
#include <thread>
#include <utility>

#include <spdlog/spdlog.h>

#include "kube/client/event_splitter.h"
#include "kube/client/list_splitter.h"
#include "kube/client/percent_encode.h"
#include "kube/text/json_text.h"
#include "kube/time/time_source.h"

namespace pointsman::kube {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr int kMaxRetries = 4;
// A server may ask for longer; the caller's own retry comes then.
constexpr seconds kMaxRetryAfter{10};
// Real servers send no bookmark for a type in which nothing changes. A dead peer is noticed by TCP;
// this is for a proxy in between that keeps the connection and lost the server. 5,000 agents must
// not begin their watches anew all the time for it.
constexpr seconds kWatchSilence{240};
// A wait for the rate limit that somebody who looks for a delay should read of (client-go's
// longThrottleLatency).
constexpr milliseconds kLongWait{1000};

// "?a=b&c=d" from the parameters that are not empty.
class Query {
 public:
  Query& Add(std::string_view name, std::string_view value) {
    if (value.empty()) return *this;
    text_ += text_.empty() ? '?' : '&';
    text_ += name;
    text_ += '=';
    text_ += PercentEncode(value);
    return *this;
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

std::optional<seconds> RetryAfter(const HttpResponse& response) {
  const std::string_view text = response.Header("retry-after");
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) return std::nullopt;
  return seconds(value);
}

bool IsVersionTooLarge(std::string_view body) {
  const auto causes = ApiError::FromBody(504, body).causes();
  return std::any_of(causes.begin(), causes.end(),
                     [](const auto& cause) { return cause.reason == "ResourceVersionTooLarge"; });
}

// How long to wait before trying again; nullopt: do not.
std::optional<milliseconds> RetryDelay(const HttpResponse& response, bool idempotent, int attempt) {
  const bool throttled = response.status == 429;
  const bool failed = response.status >= 500 && response.status != 501;
  if (!throttled && !failed) return std::nullopt;
  // Has waited already, for a version that the server's cache does not reach: 1.20's stands still
  // as long as nothing of that type changes. The caller asks otherwise.
  if (response.status == 504 && IsVersionTooLarge(response.body)) return std::nullopt;
  if (const auto after = RetryAfter(response)) {
    if (*after > kMaxRetryAfter) return std::nullopt;
    if (after->count() > 0) return *after;
  } else if (!throttled && !idempotent) {
    return std::nullopt;
  }
  // 100 ms doubled each time, with jitter so that many clients do not come back at once.
  thread_local std::minstd_rand random{std::random_device{}()};
  const int base = 100 << attempt;
  return milliseconds(std::uniform_int_distribution<int>(base, 2 * base)(random));
}

ApiError ErrorOf(const HttpResponse& response) {
  ApiError error = ApiError::FromBody(response.status, response.body);
  if (error.retry_after()) return error;
  return {error.code(), error.reason(), error.what(), error.causes(), RetryAfter(response)};
}

Json ParseObject(const std::string& what, const HttpResponse& response) {
  Json object = Json::parse(response.body, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) {
    throw TransportError(what + ": the answer is no JSON object");
  }
  return object;
}

HttpRequest MakeRequest(std::string method, std::string target) {
  HttpRequest request;
  request.method = std::move(method);
  request.target = std::move(target);
  request.headers.emplace_back("Accept", "application/json");
  return request;
}

// `object` with what the server needs to know its type.
std::string Body(const Resource& resource, const Json& object) {
  if (object.contains("kind") && object.contains("apiVersion")) return text::JsonText(object);
  Json whole = object;
  whole["kind"] = resource.kind;
  whole["apiVersion"] = resource.ApiVersion();
  return text::JsonText(whole);
}

const char* ContentType(PatchType type) {
  switch (type) {
    case PatchType::kJson:
      return "application/json-patch+json";
    case PatchType::kMerge:
      return "application/merge-patch+json";
    case PatchType::kStrategicMerge:
      return "application/strategic-merge-patch+json";
    case PatchType::kApply:
      return "application/apply-patch+yaml";  // JSON is YAML
  }
  throw std::invalid_argument("PatchType " + std::to_string(static_cast<int>(type)));
}

std::string MetadataText(const Json& object, const char* field) {
  const auto metadata = object.find("metadata");
  if (metadata == object.end() || !metadata->is_object()) return "";
  return metadata->value(field, "");
}

}  // namespace

Client Client::WithTimeout(seconds timeout) const {
  Client client = *this;
  client.timeout_ = timeout;
  return client;
}

Client Client::WithStop(std::stop_token stop) const {
  Client client = *this;
  client.stop_ = std::move(stop);
  return client;
}

Client Client::WithLimit(std::shared_ptr<RateLimiter> limiter) const {
  Client client = *this;
  client.limiter_ = std::move(limiter);
  return client;
}

Client Client::WithGuard(std::function<bool()> may_send) const {
  Client client = *this;
  client.may_send_ = std::move(may_send);
  return client;
}

void Client::CheckMaySend(const HttpRequest& request, const std::stop_token& stop) const {
  if (stop.stop_requested()) {
    throw TransportError(request.method + " " + request.target + ": stopped");
  }
  if (may_send_ && !may_send_()) {
    throw TransportError(request.method + " " + request.target +
                         ": not sent: no longer allowed to");
  }
}

void Client::TakeToken(const HttpRequest& request, const std::stop_token& stop) {
  if (limiter_ == nullptr) return;
  const auto begin = std::chrono::steady_clock::now();
  if (!limiter_->Wait(stop)) {
    throw TransportError(request.method + " " + request.target + ": stopped");
  }
  const auto waited =
      std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - begin);
  if (waited >= kLongWait) {
    spdlog::info(
        "{} {} had to wait {} ms for the client's rate limit (clientConnection.qps, burst)",
        request.method, request.target, waited.count());
  }
}

HttpResponse Client::SendOrThrow(HttpRequest&& request, bool idempotent,
                                 const std::stop_token& stop, bool counts, const OnBody* on_body) {
  request.timeout = timeout_;
  const auto stopped = [&] {
    return TransportError(request.method + " " + request.target + ": stopped");
  };
  for (int attempt = 0;; ++attempt) {
    if (counts || attempt > 0) TakeToken(request, stop);
    CheckMaySend(request, stop);
    HttpResponse response;
    // Stream can be stopped, Send cannot.
    if (!stop.stop_possible() && on_body == nullptr) {
      response = transport_->Send(request);
    } else {
      std::string body;
      response = transport_->Stream(
          request,
          [&](std::string_view piece) {
            if (on_body != nullptr) return (*on_body)(piece);
            if (piece.size() > Transport::kMaxResponseBytes - body.size()) {
              throw TransportError(request.target + ": the answer is larger than " +
                                   std::to_string(Transport::kMaxResponseBytes) + " bytes");
            }
            body += piece;
            return true;
          },
          stop);
      if (stop.stop_requested()) throw stopped();
      if (response.status >= 200 && response.status < 300) response.body = std::move(body);
    }
    if (response.status >= 200 && response.status < 300) return response;
    const auto delay =
        attempt < kMaxRetries ? RetryDelay(response, idempotent, attempt) : std::nullopt;
    if (!delay) throw ErrorOf(response);
    if (!TimeSource::Real().Sleep(*delay, stop)) throw stopped();
  }
}

Json Client::SendForObject(HttpRequest&& request, bool idempotent) {
  const std::string what = request.method + " " + request.target;
  return ParseObject(what, SendOrThrow(std::move(request), idempotent, stop_));
}

Json Client::Get(const Resource& resource, std::string_view ns, std::string_view name) {
  if (name.empty()) throw std::invalid_argument("Get " + resource.plural + ": name is empty");
  return GetPath(resource.Path(ns, name));
}

Json Client::GetPath(const std::string& target) {
  return SendForObject(MakeRequest("GET", target), true);
}

std::string Client::ListItems(const Resource& resource, std::string_view ns,
                              const ListOptions& options,
                              const std::function<void(std::string_view item)>& on_item,
                              const std::function<void()>& on_restart, std::stop_token stop) {
  const std::string path = resource.Path(ns);
  std::string resource_version = options.resource_version;
  std::string continue_token;
  int limit = options.limit;
  for (;;) {
    Query query;
    query.Add("labelSelector", options.label_selector).Add("fieldSelector", options.field_selector);
    if (limit > 0) query.Add("limit", std::to_string(limit));
    // The token carries the version of the first page; the server refuses both.
    if (continue_token.empty()) {
      query.Add("resourceVersion", resource_version);
    } else {
      query.Add("continue", continue_token);
    }
    ListSplitter splitter(on_item);
    const OnBody on_body = [&](std::string_view piece) {
      splitter.Add(piece);
      return true;
    };
    ListMetadata metadata;
    try {
      SendOrThrow(MakeRequest("GET", path + query.text()), true, stop,
                  /*counts=*/continue_token.empty(), &on_body);
      metadata = splitter.End();
    } catch (const ApiError& e) {
      if (!e.IsExpired() || continue_token.empty()) throw;
      // The version of the first page was compacted away. What came so far cannot be joined with
      // the rest; in one piece the list cannot expire again (client-go's pager does the same).
      on_restart();
      continue_token.clear();
      resource_version.clear();
      limit = 0;
      continue;
    } catch (const std::invalid_argument& e) {
      throw TransportError("GET " + path + ": " + e.what());
    }
    if (metadata.continue_token.empty()) return metadata.resource_version;
    continue_token = std::move(metadata.continue_token);
  }
}

std::vector<Json> Client::List(const Resource& resource, std::string_view ns,
                               const ListOptions& options) {
  std::vector<Json> items;
  ListItems(
      resource, ns, options, [&](std::string_view item) { items.push_back(Json::parse(item)); },
      [&] { items.clear(); });
  return items;
}

void Client::Watch(const Resource& resource, std::string_view ns, const WatchOptions& options,
                   const std::function<bool(WatchEventType, std::string_view object)>& on_event,
                   std::stop_token stop) {
  Query query;
  query.Add("watch", "true")
      .Add("allowWatchBookmarks", "true")
      .Add("labelSelector", options.label_selector)
      .Add("fieldSelector", options.field_selector)
      .Add("resourceVersion", options.resource_version)
      .Add("timeoutSeconds", std::to_string(options.timeout.count()));
  HttpRequest request = MakeRequest("GET", resource.Path(ns) + query.text());
  request.timeout = std::min(options.timeout + seconds(15), kWatchSilence);
  request.long_lived = true;

  TakeToken(request, stop);
  CheckMaySend(request, stop);
  EventSplitter splitter(on_event);
  bool wanted = true;
  HttpResponse response;
  try {
    response = transport_->Stream(
        request,
        [&](std::string_view bytes) {
          try {
            wanted = splitter.Add(bytes);
          } catch (const std::invalid_argument& e) {
            throw TransportError("watch " + resource.Path(ns) + ": " + e.what());
          }
          return wanted && !stop.stop_requested();
        },
        stop);
  } catch (const TransportTimeout& silence) {
    if (!silence.answered()) throw;
    return;  // see the header
  }
  if (stop.stop_requested() || !wanted) return;
  if (response.status < 200 || response.status >= 300) throw ErrorOf(response);
  if (splitter.HasPartialEvent()) {
    throw TransportError("watch " + resource.Path(ns) + ": ended in the middle of an event");
  }
}

Json Client::Create(const Resource& resource, std::string_view ns, const Json& object) {
  HttpRequest request = MakeRequest("POST", resource.Path(ns));
  request.body = Body(resource, object);
  return SendForObject(std::move(request), false);
}

Json Client::Update(const Resource& resource, const Json& object, std::string_view subresource) {
  const std::string name = MetadataText(object, "name");
  if (name.empty()) {
    throw std::invalid_argument("Update " + resource.plural + ": metadata.name is missing");
  }
  HttpRequest request =
      MakeRequest("PUT", resource.Path(MetadataText(object, "namespace"), name, subresource));
  request.body = Body(resource, object);
  return SendForObject(std::move(request), false);
}

Json Client::Patch(const Resource& resource, std::string_view ns, std::string_view name,
                   PatchType type, const Json& patch, std::string_view subresource,
                   std::string_view field_manager, bool force) {
  if (name.empty()) throw std::invalid_argument("Patch " + resource.plural + ": name is empty");
  Query query;
  query.Add("fieldManager", field_manager);
  // The server refuses force with any other type of patch.
  if (type == PatchType::kApply && force) query.Add("force", "true");
  HttpRequest request = MakeRequest("PATCH", resource.Path(ns, name, subresource) + query.text());
  request.headers.emplace_back("Content-Type", ContentType(type));
  request.body = type == PatchType::kApply ? Body(resource, patch) : text::JsonText(patch);
  return SendForObject(std::move(request), false);
}

bool Client::Delete(const Resource& resource, std::string_view ns, std::string_view name,
                    std::string_view uid, std::string_view resource_version,
                    Dependents dependents) {
  // Without a name the path is the collection's: that would delete all of it.
  if (name.empty()) throw std::invalid_argument("Delete " + resource.plural + ": name is empty");
  HttpRequest request = MakeRequest("DELETE", resource.Path(ns, name));
  Json options{{"kind", "DeleteOptions"}, {"apiVersion", "v1"}};
  if (!uid.empty()) options["preconditions"]["uid"] = uid;
  if (!resource_version.empty()) options["preconditions"]["resourceVersion"] = resource_version;
  if (dependents == Dependents::kOrphan) options["propagationPolicy"] = "Orphan";
  request.body = text::JsonText(options);
  try {
    SendOrThrow(std::move(request), false, stop_);
  } catch (const ApiError& e) {
    if (e.IsNotFound()) return false;
    throw;
  }
  return true;
}

}  // namespace pointsman::kube

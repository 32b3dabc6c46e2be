#include "kube/client/api_error.h"

#include <utility>

#include <nlohmann/json.hpp>

#include "kube/text/text.h"

namespace pointsman::kube {
namespace {

using Json = nlohmann::json;

// A server repeats in its message what was wrong with the object, however long that is; ours go
// into logs and conditions.
constexpr size_t kMostMessage = 2048;
constexpr size_t kMostCauses = 64;

// What the API server itself says for a code when there is no Status (a proxy in between answered).
const char* ReasonOf(int http_code) {
  switch (http_code) {
    case 400:
      return "BadRequest";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "NotFound";
    case 405:
      return "MethodNotAllowed";
    case 406:
      return "NotAcceptable";
    case 409:
      return "Conflict";
    case 410:
      return "Gone";
    case 413:
      return "RequestEntityTooLarge";
    case 415:
      return "UnsupportedMediaType";
    case 422:
      return "Invalid";
    case 429:
      return "TooManyRequests";
    case 500:
      return "InternalError";
    case 503:
      return "ServiceUnavailable";
    case 504:
      return "Timeout";
    default:
      return "Unknown";
  }
}

std::string Text(const Json& object, const char* field) {
  const auto it = object.find(field);
  return it != object.end() && it->is_string() ? it->get<std::string>() : "";
}

}  // namespace

ApiError::ApiError(int http_code, std::string reason, const std::string& message,
                   std::vector<Cause> causes, std::optional<std::chrono::seconds> retry_after)
    : std::runtime_error(message),
      code_(http_code),
      reason_(std::move(reason)),
      causes_(std::move(causes)),
      retry_after_(retry_after) {}

ApiError ApiError::FromBody(int http_code, std::string_view body) {
  const Json status = Json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (!status.is_object() || Text(status, "kind") != "Status") {
    constexpr size_t kShown = 200;  // of a page that a proxy sent
    std::string message = "HTTP " + std::to_string(http_code);
    if (!body.empty()) message += ": " + text::Message(body, kShown);
    return {http_code, ReasonOf(http_code), message};
  }
  // The code within the Status is the one that counts: an ERROR event comes with HTTP 200.
  int code = http_code;
  if (const auto it = status.find("code"); it != status.end() && it->is_number_integer()) {
    const auto value = it->get<int64_t>();
    if (value >= 400 && value < 600) code = static_cast<int>(value);
  }
  std::string reason = Text(status, "reason");
  if (reason.empty()) reason = ReasonOf(code);
  std::string message = text::Message(Text(status, "message"), kMostMessage);
  if (message.empty()) message = "HTTP " + std::to_string(code) + " " + reason;

  std::vector<Cause> causes;
  std::optional<std::chrono::seconds> retry_after;
  if (const auto details = status.find("details");
      details != status.end() && details->is_object()) {
    if (const auto list = details->find("causes"); list != details->end() && list->is_array()) {
      for (const Json& cause : *list) {
        if (!cause.is_object() || causes.size() == kMostCauses) continue;
        causes.push_back({text::Message(Text(cause, "reason"), kMostMessage),
                          text::Message(Text(cause, "message"), kMostMessage),
                          text::Message(Text(cause, "field"), kMostMessage)});
      }
    }
    if (const auto seconds = details->find("retryAfterSeconds");
        seconds != details->end() && seconds->is_number_integer() && seconds->get<int64_t>() > 0) {
      retry_after = std::chrono::seconds(seconds->get<int64_t>());
    }
  }
  return {code, std::move(reason), message, std::move(causes), retry_after};
}

}  // namespace pointsman::kube

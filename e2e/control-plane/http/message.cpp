#include "e2e/control-plane/http/message.h"

#include <charconv>
#include <system_error>

#include <strings.h>

#include "e2e/control-plane/base/trim.h"

namespace pointsman::e2e {

const char* ReasonPhrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 201:
      return "Created";
    case 202:
      return "Accepted";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 406:
      return "Not Acceptable";
    case 409:
      return "Conflict";
    case 410:
      return "Gone";
    case 413:
      return "Request Entity Too Large";
    case 415:
      return "Unsupported Media Type";
    case 422:
      return "Unprocessable Entity";
    case 429:
      return "Too Many Requests";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    default:
      return "Status";
  }
}

bool EqualsNoCase(std::string_view a, std::string_view b) {
  return a.size() == b.size() && strncasecmp(a.data(), b.data(), a.size()) == 0;
}

std::optional<std::string> PercentDecode(std::string_view text, bool plus_is_space) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%') {
      unsigned value = 0;
      if (i + 2 >= text.size()) return std::nullopt;
      const auto [end, error] =
          std::from_chars(text.data() + i + 1, text.data() + i + 3, value, 16);
      if (error != std::errc() || end != text.data() + i + 3) return std::nullopt;
      out.push_back(static_cast<char>(value));
      i += 2;
    } else if (plus_is_space && text[i] == '+') {
      out.push_back(' ');
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

std::string HttpRequest::Header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (EqualsNoCase(key, name)) return value;
  }
  return {};
}

std::optional<std::string> HttpRequest::Parameter(std::string_view name) const {
  std::string_view rest = query;
  while (!rest.empty()) {
    const auto end = rest.find('&');
    const std::string_view pair = rest.substr(0, end);
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
    const auto equal = pair.find('=');
    const auto key = PercentDecode(pair.substr(0, equal), true);
    if (!key || *key != name) continue;
    if (equal == std::string_view::npos) return std::string();
    return PercentDecode(pair.substr(equal + 1), true);
  }
  return std::nullopt;
}

void ParseHead(std::string_view head, HttpRequest& request) {
  auto line_end = head.find("\r\n");
  const std::string_view line = head.substr(0, line_end);
  const auto first = line.find(' ');
  const auto second = line.rfind(' ');
  if (first == std::string_view::npos || second == first ||
      !line.substr(second + 1).starts_with("HTTP/1.")) {
    throw BadHttp(400, "malformed request line");
  }
  request.method = line.substr(0, first);
  const std::string_view target = line.substr(first + 1, second - first - 1);
  const auto question = target.find('?');
  const auto path = PercentDecode(target.substr(0, question), false);
  if (!path || path->empty() || path->front() != '/') {
    throw BadHttp(400, "malformed request target");
  }
  request.path = *path;
  if (question != std::string_view::npos) request.query = target.substr(question + 1);
  while (line_end != std::string_view::npos) {
    head.remove_prefix(line_end + 2);
    line_end = head.find("\r\n");
    const std::string_view field = head.substr(0, line_end);
    const auto colon = field.find(':');
    if (colon == std::string_view::npos || colon == 0) throw BadHttp(400, "malformed header");
    request.headers.emplace_back(field.substr(0, colon), Trim(field.substr(colon + 1)));
  }
}

}  // namespace pointsman::e2e

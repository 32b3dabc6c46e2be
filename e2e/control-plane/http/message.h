// HTTP/1.1 requests and responses as the server's handler sees them.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pointsman::e2e {

// Header names are compared without regard to case.
struct HttpRequest {
  std::string method;
  std::string path;   // percent-decoded
  std::string query;  // raw
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  // Subject of the verified client certificate; empty without one.
  std::string certificate_user;
  std::vector<std::string> certificate_groups;
  std::string peer;  // "127.0.0.1:4711"

  // The first value, or empty.
  std::string Header(std::string_view name) const;
  // The first value of a query parameter, decoded; nullopt when absent.
  std::optional<std::string> Parameter(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  bool close = false;  // end the connection after it
};

// The answer's way out. Exactly one of Send() and begin() is called, on the connection's thread.
class HttpExchange {
 public:
  virtual ~HttpExchange() = default;
  virtual void Send(const HttpResponse& response) = 0;
  // Starts a chunked answer.
  virtual void begin(int status, const std::string& content_type,
                     const std::vector<std::pair<std::string, std::string>>& headers = {}) = 0;
  // One piece of it, on the wire when the call returns. False: the peer is gone.
  virtual bool Write(std::string_view piece) = 0;
  // Waits until `fd` is readable (true), or the timeout passes (true); false: the peer is gone or
  // the server stops.
  virtual bool WaitFor(int fd, std::chrono::milliseconds timeout) = 0;
  // Ends the connection with no further byte (a fault for tests).
  virtual void Abort() = 0;
};

// Called on the connection's thread.
using HttpHandler = std::function<void(const HttpRequest&, HttpExchange&)>;

// A malformed request: it is answered with this status, then the connection ends.
class BadHttp : public std::runtime_error {
 public:
  BadHttp(int status, const std::string& message) : std::runtime_error(message), status_(status) {}
  int status() const { return status_; }

 private:
  int status_;
};

// Request line and headers, without the empty line that ends them. Throws BadHttp.
void ParseHead(std::string_view head, HttpRequest& request);
// "Not Found"; of a status that the server does not use, "Status".
const char* ReasonPhrase(int status);
bool EqualsNoCase(std::string_view a, std::string_view b);
// %41 and (for queries) + decoding; nullopt when malformed.
std::optional<std::string> PercentDecode(std::string_view text, bool plus_is_space);

}  // namespace pointsman::e2e

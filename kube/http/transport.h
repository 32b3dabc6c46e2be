// What the Kubernetes client needs of HTTP. The one implementation is on cpprestsdk, whose headers
// are slow to compile: nothing outside kube/http includes them.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kube/config/config.h"

namespace pointsman::kube {

struct HttpRequest {
  std::string method = "GET";
  // Path and query, percent-encoded by the caller: "/api/v1/services?limit=500".
  std::string target;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  // The longest time without a byte from the server before the request fails.
  std::chrono::seconds timeout{30};
  // A watch: a stream that has no end of its own. When the client's certificate was replaced it
  // ends, as if the server had ended it, so that the next one is authenticated by the new one.
  bool long_lived = false;
};

struct HttpResponse {
  int status = 0;
  // Names in lower case.
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;

  // The value of the first header of that name (lower case), or "".
  std::string_view Header(std::string_view name) const;
};

// The request did not reach the server or its answer did not arrive whole: refused, reset, timed
// out, certificate not accepted, answer larger than allowed. The message names server and cause.
class TransportError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// No byte came from the server for HttpRequest::timeout.
class TransportTimeout : public TransportError {
 public:
  TransportTimeout(const std::string& message, bool answered)
      : TransportError(message), answered_(answered) {}
  // Status and headers had come: a stream that is merely silent.
  bool answered() const { return answered_; }

 private:
  bool answered_;
};

// Thread-safe.
class Transport {
 public:
  virtual ~Transport() = default;

  // Sends and reads the whole answer; an answer over the bound is a TransportError. A method,
  // target or header that would not stay within its line is std::invalid_argument.
  virtual HttpResponse Send(const HttpRequest& request) = 0;

  // As Send, but gives the body of a 2xx answer to `on_data` as it arrives, on the calling thread.
  // Returns when the server ends the stream, `on_data` returns false, or `stop` is requested
  // (within a second; before the server answered, the response's status is then 0). A non-2xx
  // answer has its body in the response. Throws TransportError when the stream breaks.
  virtual HttpResponse Stream(const HttpRequest& request,
                              const std::function<bool(std::string_view)>& on_data,
                              std::stop_token stop) = 0;

  // An answer that is kept whole is bounded so that a broken or hostile peer cannot exhaust memory:
  // one object of etcd's has at most 1.5 MiB, and lists are read item by item.
  static constexpr size_t kMaxResponseBytes = 64UL * 1024 * 1024;
};

// Connects to config.server; verifies its certificate against config's CA (host name or IP
// included). Connections are kept and used again; a dead peer is noticed by TCP keepalive within
// 45 s. Redirects are answers, not followed. Credentials are sent over TLS only. The files of the
// config are read again at most every `look_again_after` (TlsSource, TokenSource): new connections
// use what is there then, and those that were made before are closed when their request has ended
// (HttpRequest::long_lived). A proxy of the environment (HTTPS_PROXY) is not used, which is logged.
// Throws ConfigError for a URL or PEM text that cannot be used.
std::unique_ptr<Transport> MakeTransport(
    const Config& config, size_t max_response_bytes = Transport::kMaxResponseBytes,
    std::chrono::milliseconds look_again_after = std::chrono::seconds(5));

}  // namespace pointsman::kube

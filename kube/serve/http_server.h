// A small HTTP server for what a Kubernetes component shows of itself: health, readiness, metrics.
// It answers GET and HEAD only, reads no bodies, and is bounded in threads, waiting connections and
// time, so that a peer can cost it little.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace pointsman::kube {

struct ServedRequest {
  std::string method;
  std::string path;   // as sent, without the query
  std::string query;  // as sent, without '?'
};

struct ServedResponse {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::vector<std::pair<std::string, std::string>> headers;  // more of them
  std::string body;
};

// Routes are set before Start. Handlers run on the server's threads, several at once; one that
// throws is logged and answered with 500.
class HttpServer {
 public:
  using Handler = std::function<ServedResponse(const ServedRequest&)>;

  // `address`: "host:port" with the notations of Kubernetes flags: ":8080", "0.0.0.0:8080" and
  // "[::]:8080" (all addresses of both families, as in Go), "127.0.0.1:0" (a free port; see
  // port()). Throws std::invalid_argument for anything else.
  explicit HttpServer(const std::string& address, int threads = 4);
  ~HttpServer();  // stops
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // Exactly this path; any other path is 404.
  void Handle(const std::string& path, Handler handler);

  // Listens. Throws std::runtime_error naming the address and the cause.
  void Start();
  // Waits for the handlers under way, then ends the connections.
  void Stop();

  // The port it listens on; 0 before Start.
  int port() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pointsman::kube

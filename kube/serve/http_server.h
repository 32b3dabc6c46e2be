// A small HTTP server for what a Kubernetes component shows of itself: health, readiness, metrics.
// It answers GET and HEAD only, reads no bodies, and is bounded in threads, connections, memory and
// time. A peer, or many of them, that opens connections and is silent, or slow, costs it little and
// keeps nobody else from being answered: when all places are taken the connection that has been
// silent longest, of the peer with the most of them, makes room for a new one.
#pragma once

#include <chrono>
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

struct HttpLimits {
  size_t connections = 256;                  // open at once
  size_t unsent_bytes = size_t{16} << 20;    // of answers that peers have not taken yet, together
  std::chrono::milliseconds header{10'000};  // from the connection, or the last answer, to the
                                             // end of a request's header
  std::chrono::milliseconds answer{10'000};  // until the peer has taken an answer
};

// Routes are set before Start. A handler that throws is logged and answered with 500.
class HttpServer {
 public:
  using Handler = std::function<ServedResponse(const ServedRequest&)>;

  // `address`: "host:port" with the notations of Kubernetes flags: ":8080", "0.0.0.0:8080" and
  // "[::]:8080" (all addresses of both families, as in Go), "127.0.0.1:0" (a free port; see
  // port()). `threads`: for handlers. Throws std::invalid_argument for anything else.
  explicit HttpServer(const std::string& address, int threads = 4, const HttpLimits& limits = {});
  ~HttpServer();  // stops
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // Exactly this path; any other path is 404. Handlers run on the server's threads, several at
  // once.
  void Handle(const std::string& path, Handler handler);
  // The same for a handler that waits for nothing and nobody, such as one of health: it is called
  // on the thread that serves all connections, and no other handler, however slow, holds it up.
  void HandleAtOnce(const std::string& path, Handler handler);

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

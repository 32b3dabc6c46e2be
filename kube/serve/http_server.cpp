#include "kube/serve/http_server.h"

#include <atomic>
#include <charconv>
#include <thread>

#include <netdb.h>
#include <sys/socket.h>

#include <civetweb.h>
#include <unistd.h>

namespace pointsman::kube {
namespace {

// What civetweb takes as "listening_ports" for an address in the notation of Kubernetes flags.
std::string ListeningPorts(const std::string& address) {
  const auto bad = [&](const char* why) {
    return std::invalid_argument("listen address \"" + address + "\": " + why +
                                 " (expected host:port, such as 127.0.0.1:8080, :8080, [::]:8080)");
  };
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) throw bad("has no port");
  const std::string host = address.substr(0, colon);
  const std::string port_text = address.substr(colon + 1);
  int port = -1;
  const char* const port_end = port_text.data() + port_text.size();
  const auto [end, error] = std::from_chars(port_text.data(), port_end, port);
  if (error != std::errc() || end != port_end || port < 0 || port > 65535) {
    throw bad("the port is no number from 0 to 65535");
  }
  // civetweb reads commas and letters after the port as more ports and options.
  if (host.find_first_not_of("0123456789abcdefABCDEF.:[]") != std::string::npos) {
    throw bad("the host is no IP address");
  }
  if (host.empty() || host == "0.0.0.0") return port_text;
  if (host == "[::]") return "+" + port_text;
  return address;
}

// Opens a connection to our own server and closes it.
void Knock(const std::string& address, int port) {
  std::string host = address.substr(0, address.rfind(':'));
  if (host.starts_with('[')) host = host.substr(1, host.size() - 2);
  if (host.empty() || host == "0.0.0.0") host = "127.0.0.1";
  if (host == "::") host = "::1";
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) return;
  const int fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd >= 0) {
    // Whether it succeeds is not asked: without it the server takes longer to stop, no more.
    (void)connect(fd, found->ai_addr, found->ai_addrlen);
    close(fd);
  }
  freeaddrinfo(found);
}

const char* ReasonPhrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 503:
      return "Service Unavailable";
    default:
      return status < 400 ? "OK" : status < 500 ? "Client Error" : "Internal Server Error";
  }
}

void Send(mg_connection* connection, const ServedResponse& response, bool with_body) {
  const std::string head =
      "HTTP/1.1 " + std::to_string(response.status) + " " + ReasonPhrase(response.status) +
      "\r\nContent-Type: " + response.content_type +
      "\r\nContent-Length: " + std::to_string(response.body.size()) +
      "\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-cache, private" +
      (response.status == 405 ? "\r\nAllow: GET, HEAD" : "") + "\r\nConnection: close\r\n\r\n";
  // A peer that is gone by now is its own business: nothing is left to tell it.
  mg_write(connection, head.data(), head.size());
  if (with_body) mg_write(connection, response.body.data(), response.body.size());
}

}  // namespace

class HttpServer::Impl {
 public:
  Impl(const std::string& address, int threads)
      : address_(address), ports_(ListeningPorts(address)), threads_(threads) {}
  ~Impl() { Stop(); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  void Handle(const std::string& path, Handler handler) { routes_[path] = std::move(handler); }

  void Start() {
    static const unsigned initialized = mg_init_library(0);
    (void)initialized;
    const std::string threads = std::to_string(threads_);
    // civetweb's own defaults: 50 threads, 30 s; a health endpoint needs neither.
    const std::array<const char*, 15> options = {"listening_ports",
                                                 ports_.c_str(),
                                                 "num_threads",
                                                 threads.c_str(),
                                                 "request_timeout_ms",
                                                 "10000",
                                                 "keep_alive_timeout_ms",
                                                 "0",
                                                 "enable_directory_listing",
                                                 "no",
                                                 "listen_backlog",
                                                 "64",
                                                 "max_request_size",
                                                 "8192",
                                                 nullptr};
    mg_callbacks callbacks{};
    callbacks.begin_request = &Impl::OnRequest;
    callbacks.log_message = &Impl::OnLog;
    error_.clear();
    context_ = mg_start(&callbacks, this, const_cast<const char**>(options.data()));
    if (context_ == nullptr) {
      throw std::runtime_error("cannot serve HTTP on " + address_ + ": " +
                               (error_.empty() ? "unknown cause" : error_));
    }
    std::array<mg_server_port, 4> listening{};
    const int count =
        mg_get_server_ports(context_, static_cast<int>(listening.size()), listening.data());
    port_ = count > 0 ? listening[0].port : 0;
  }

  void Stop() {
    if (context_ == nullptr) return;
    // civetweb sees that it is to stop when its poll(2) of the listening sockets returns: after two
    // seconds, or when somebody comes.
    std::atomic<bool> stopped{false};
    std::thread stop([&] {
      mg_stop(context_);
      stopped = true;
    });
    while (!stopped) {
      Knock(address_, port_);
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    stop.join();
    context_ = nullptr;
  }

  int port() const { return port_; }

 private:
  static int OnRequest(mg_connection* connection) {
    const mg_request_info* info = mg_get_request_info(connection);
    const auto* self = static_cast<const Impl*>(info->user_data);
    const std::string_view method = info->request_method;
    const bool head = method == "HEAD";
    if (method != "GET" && !head) {
      Send(connection, {405, "text/plain; charset=utf-8", "only GET and HEAD\n"}, true);
      return 405;
    }
    const ServedResponse response =
        self->Answer({info->local_uri, info->query_string != nullptr ? info->query_string : ""});
    Send(connection, response, !head);
    return response.status;
  }

  ServedResponse Answer(const ServedRequest& request) const {
    const auto route = routes_.find(request.path);
    if (route == routes_.end()) return {404, "text/plain; charset=utf-8", "not found\n"};
    try {
      return route->second(request);
    } catch (const std::exception& error) {
      spdlog::error("http: {} failed: {}", request.path, error.what());
      return {500, "text/plain; charset=utf-8", std::string(error.what()) + "\n"};
    }
  }

  static int OnLog(const mg_connection* connection, const char* message) {
    const mg_context* context = mg_get_context(connection);
    if (context != nullptr) {
      auto* self = static_cast<Impl*>(mg_get_user_data(context));
      if (self != nullptr && self->context_ == nullptr) self->error_ = message;
    }
    spdlog::debug("http: {}", message);
    return 1;  // logged
  }

  const std::string address_;
  const std::string ports_;
  const int threads_;
  std::map<std::string, Handler> routes_;
  mg_context* context_ = nullptr;
  std::string error_;  // the last message of a failing start
  int port_ = 0;
};

HttpServer::HttpServer(const std::string& address, int threads)
    : impl_(std::make_unique<Impl>(address, threads)) {}
HttpServer::~HttpServer() = default;
void HttpServer::Handle(const std::string& path, Handler handler) {
  impl_->Handle(path, std::move(handler));
}
void HttpServer::Start() {
  impl_->Start();
}
void HttpServer::Stop() {
  impl_->Stop();
}
int HttpServer::port() const {
  return impl_->port();
}

}  // namespace pointsman::kube

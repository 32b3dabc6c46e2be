#include "kube/serve/http_server.h"

#include <charconv>
#include <thread>

#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <spdlog/spdlog.h>

#include "kube/serve/http_connection.h"

namespace pointsman::kube {
namespace {

namespace asio = boost::asio;

struct Place {
  asio::ip::address ip;
  uint16_t port = 0;
};

Place ParsePlace(const std::string& address) {
  const auto bad = [&](const char* why) {
    return std::invalid_argument("listen address \"" + address + "\": " + why +
                                 " (expected host:port, such as 127.0.0.1:8080, :8080, [::]:8080)");
  };
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) throw bad("has no port");
  std::string host = address.substr(0, colon);
  const std::string port_text = address.substr(colon + 1);
  Place place;
  const char* const port_end = port_text.data() + port_text.size();
  const auto [end, error] = std::from_chars(port_text.data(), port_end, place.port);
  if (error != std::errc() || end != port_end) {
    throw bad("the port is no number from 0 to 65535");
  }
  if (host.empty()) {
    place.ip = asio::ip::address_v6::any();
    return place;
  }
  const bool bracketed = host.starts_with('[') && host.ends_with(']');
  if (bracketed) host = host.substr(1, host.size() - 2);
  boost::system::error_code not_an_address;
  place.ip = asio::ip::make_address(host, not_an_address);
  if (not_an_address || place.ip.is_v6() != bracketed) throw bad("the host is no IP address");
  return place;
}

}  // namespace

class HttpServer::Impl {
 public:
  Impl(const std::string& address, int threads, const HttpLimits& limits)
      : address_(address), place_(ParsePlace(address)), threads_(threads), limits_(limits) {}
  ~Impl() { Stop(); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  void Handle(const std::string& path, Handler handler, bool at_once) {
    routes_[path] = {std::move(handler), at_once};
  }

  void Start() {
    auto context = std::make_unique<asio::io_context>(1);
    auto listener = std::make_unique<HttpListener>(
        *context, std::make_shared<ConnectionTable>(limits_),
        [this](ServedRequest request, Respond respond) {
          Answer(std::move(request), std::move(respond));
        },
        address_);
    if (const auto error = listener->Open(place_.ip, place_.port)) {
      throw std::runtime_error("cannot serve HTTP on " + address_ + ": " + error.message());
    }
    context_ = std::move(context);
    listener_ = std::move(listener);
    port_ = listener_->port();
    const bool waits = std::any_of(routes_.begin(), routes_.end(),
                                   [](const auto& item) { return !item.second.at_once; });
    if (waits) workers_ = std::make_unique<asio::thread_pool>(threads_);
    thread_ = std::jthread([this] { RunContext(*context_, address_); });
  }

  void Stop() {
    if (!context_) return;
    if (workers_) {
      workers_->stop();
      workers_->join();
    }
    context_->stop();
    thread_.join();
    workers_.reset();  // and with it what waited for them
    listener_.reset();
    context_.reset();  // and with it the connections
  }

  int port() const { return port_; }

 private:
  struct Route {
    Handler handler;
    bool at_once = false;
  };

  void Answer(ServedRequest request, Respond respond) {
    if (request.method != "GET" && request.method != "HEAD") {
      return respond(
          {.status = 405, .headers = {{"Allow", "GET, HEAD"}}, .body = "only GET and HEAD\n"});
    }
    const auto found = routes_.find(request.path);
    if (found == routes_.end()) return respond({.status = 404, .body = "not found\n"});
    const Route& route = found->second;
    if (route.at_once) return respond(Call(route.handler, request));
    asio::post(*workers_,
               [&route, request = std::move(request), respond = std::move(respond)]() mutable {
                 respond(Call(route.handler, request));
               });
  }

  static ServedResponse Call(const Handler& handler, const ServedRequest& request) {
    ServedResponse response;
    try {
      response = handler(request);
    } catch (const std::exception& error) {
      spdlog::error("http: {} failed: {}", request.path, error.what());
      response = {.status = 500, .body = std::string(error.what()) + "\n"};
    }
    response.headers.emplace_back("Cache-Control", "no-cache, private");
    return response;
  }

  const std::string address_;
  const Place place_;
  const int threads_;
  const HttpLimits limits_;
  std::map<std::string, Route> routes_;
  std::unique_ptr<asio::io_context> context_;
  std::unique_ptr<HttpListener> listener_;
  std::unique_ptr<asio::thread_pool> workers_;
  std::jthread thread_;
  int port_ = 0;
};

HttpServer::HttpServer(const std::string& address, int threads, const HttpLimits& limits)
    : impl_(std::make_unique<Impl>(address, threads, limits)) {}
HttpServer::~HttpServer() = default;
void HttpServer::Handle(const std::string& path, Handler handler) {
  impl_->Handle(path, std::move(handler), /*at_once=*/false);
}
void HttpServer::HandleAtOnce(const std::string& path, Handler handler) {
  impl_->Handle(path, std::move(handler), /*at_once=*/true);
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

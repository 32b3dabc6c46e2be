#include "kube/serve/http_server.h"

#include <charconv>
#include <thread>

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>

#include "kube/serve/http_connection.h"

namespace pointsman::kube {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

constexpr size_t kMostConnections = 64;
// After a connection could not be accepted: no file descriptors, as a rule.
constexpr std::chrono::seconds kPause{1};

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
  Impl(const std::string& address, int threads)
      : address_(address), place_(ParsePlace(address)), threads_(threads) {}
  ~Impl() { Stop(); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  void Handle(const std::string& path, Handler handler) { routes_[path] = std::move(handler); }

  void Start() {
    auto context = std::make_unique<asio::io_context>(threads_);
    boost::system::error_code error;
    acceptor_ = OpenListener(*context, place_.ip, place_.port, error);
    if (!acceptor_) {
      throw std::runtime_error("cannot serve HTTP on " + address_ + ": " + error.message());
    }
    context_ = std::move(context);
    port_ = acceptor_->local_endpoint().port();
    Accept();
    for (int i = 0; i < threads_; ++i)
      pool_.emplace_back([this] { context_->run(); });
  }

  void Stop() {
    if (!context_) return;
    context_->stop();
    pool_.clear();  // joins
    acceptor_.reset();
    context_.reset();  // and with it the connections
  }

  int port() const { return port_; }

 private:
  void Accept() {
    acceptor_->async_accept(
        asio::make_strand(*context_), [this](boost::system::error_code error, tcp::socket socket) {
          if (error) return AcceptLater(error);
          if (std::shared_ptr<void> slot = limit_.Take()) {
            ServeConnection(
                std::move(socket), [this](const ServedRequest& request) { return Answer(request); },
                std::move(slot));
          }
          Accept();
        });
  }

  void AcceptLater(const boost::system::error_code& error) {
    spdlog::error("http: {}: {}", address_, error.message());
    const auto timer = std::make_shared<asio::steady_timer>(*context_, kPause);
    timer->async_wait([this, timer](boost::system::error_code) { Accept(); });
  }

  ServedResponse Answer(const ServedRequest& request) const {
    if (request.method != "GET" && request.method != "HEAD") {
      return {.status = 405, .headers = {{"Allow", "GET, HEAD"}}, .body = "only GET and HEAD\n"};
    }
    const auto route = routes_.find(request.path);
    if (route == routes_.end()) return {.status = 404, .body = "not found\n"};
    ServedResponse response;
    try {
      response = route->second(request);
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
  std::map<std::string, Handler> routes_;
  ConnectionLimit limit_{kMostConnections};
  std::unique_ptr<asio::io_context> context_;
  std::optional<tcp::acceptor> acceptor_;
  std::vector<std::jthread> pool_;
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

#include "node-agent/health/service_health.h"

#include <set>
#include <thread>

#include <boost/asio/dispatch.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>

namespace pointsman::agent {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;

constexpr size_t kMostConnections = 512;
constexpr uint32_t kMostHeader = 8192;
constexpr std::chrono::seconds kTimeout{10};
constexpr std::chrono::seconds kRetry{5};

// Quotes as Go's %q does for what a Kubernetes name can hold.
std::string Body(const ServiceHealth::Service& service, bool healthy) {
  return fmt::format(
      "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{}\",\n\t\t\"name\": \"{}\"\n\t}},\n"
      "\t\"localEndpoints\": {},\n\t\"serviceProxyHealthy\": {}\n}}",
      service.ns, service.name, service.local_endpoints, healthy);
}

}  // namespace

class ServiceHealth::Impl {
 public:
  Impl(std::function<bool()> proxy_healthy, OnProblem on_problem)
      : proxy_healthy_(std::move(proxy_healthy)),
        on_problem_(std::move(on_problem)),
        work_(asio::make_work_guard(context_)),
        retry_(context_),
        thread_([this] { context_.run(); }) {}

  ~Impl() {
    work_.reset();
    context_.stop();
    thread_.join();
  }

  void Set(Services services, std::vector<net::IpAddress> addresses) {
    asio::post(context_,
               [this, services = std::move(services), addresses = std::move(addresses)]() mutable {
                 services_ = std::move(services);
                 addresses_ = std::move(addresses);
                 Listen();
               });
  }

 private:
  struct Place {
    net::IpAddress ip;  // unspecified: every address of both families
    uint16_t port = 0;
    auto operator<=>(const Place&) const = default;
  };

  class Connection : public std::enable_shared_from_this<Connection> {
   public:
    Connection(Impl& owner, tcp::socket socket, uint16_t port)
        : owner_(owner), stream_(std::move(socket)), port_(port) {
      ++owner_.connections_;
    }
    ~Connection() { --owner_.connections_; }
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    void Read() {
      parser_.emplace();
      parser_->header_limit(kMostHeader);
      parser_->body_limit(0);
      stream_.expires_after(kTimeout);
      http::async_read_header(stream_, buffer_, *parser_,
                              [self = shared_from_this()](boost::beast::error_code error, size_t) {
                                // A peer that went or sent no HTTP is told nothing.
                                if (!error) self->Answer();
                              });
    }

   private:
    void Answer() {
      response_ = {};
      response_.version(parser_->get().version());
      // What a request with a body sends after its header is not read: the next one is not found.
      response_.keep_alive(parser_->get().keep_alive() && parser_->is_done());
      const auto found = owner_.services_.find(port_);
      if (found == owner_.services_.end()) {
        response_.result(http::status::not_found);
      } else {
        const Service& service = found->second;
        const bool healthy = owner_.proxy_healthy_();
        response_.result(healthy && service.local_endpoints > 0
                             ? http::status::ok
                             : http::status::service_unavailable);
        response_.set(http::field::content_type, "application/json");
        response_.set("X-Content-Type-Options", "nosniff");
        response_.set("X-Load-Balancing-Endpoint-Weight", std::to_string(service.local_endpoints));
        response_.body() = Body(service, healthy);
      }
      response_.prepare_payload();
      if (parser_->get().method() == http::verb::head) response_.body().clear();
      http::async_write(stream_, response_,
                        [self = shared_from_this()](boost::beast::error_code error, size_t) {
                          if (!error && self->response_.keep_alive()) self->Read();
                        });
    }

    Impl& owner_;
    boost::beast::tcp_stream stream_;
    const uint16_t port_;
    boost::beast::flat_buffer buffer_{kMostHeader};
    std::optional<http::request_parser<http::empty_body>> parser_;
    http::response<http::string_body> response_;
  };

  // Opens what is missing and closes what is no longer wanted.
  void Listen() {
    std::set<Place> wanted;
    for (const auto& [port, service] : services_) {
      if (addresses_.empty()) wanted.insert({net::IpAddress(), port});
      for (const net::IpAddress& ip : addresses_)
        wanted.insert({ip, port});
    }
    std::erase_if(listeners_, [&](const auto& item) { return !wanted.contains(item.first); });
    std::erase_if(failed_, [&](const Place& place) { return !wanted.contains(place); });
    for (const Place& place : wanted) {
      if (listeners_.contains(place)) continue;
      const std::string problem = Open(place);
      if (problem.empty()) {
        failed_.erase(place);
      } else if (failed_.insert(place).second) {
        on_problem_(services_.at(place.port), problem);
      }
    }
    if (failed_.empty()) return;
    retry_.expires_after(kRetry);
    retry_.async_wait([this](boost::system::error_code error) {
      if (!error) Listen();
    });
  }

  // "" or why not.
  std::string Open(const Place& place) {
    boost::system::error_code error;
    if (place.ip.IsUnspecified()) {
      // Both families by one socket; a node without IPv6 has IPv4 alone.
      auto listener = TryOpen({asio::ip::address_v6::any(), place.port}, error);
      if (error == asio::error::address_family_not_supported) {
        listener = TryOpen({asio::ip::address_v4::any(), place.port}, error);
      }
      if (!error) Start(place, std::move(*listener));
    } else {
      auto listener = TryOpen({asio::ip::make_address(place.ip.ToString()), place.port}, error);
      if (!error) Start(place, std::move(*listener));
    }
    if (!error) return "";
    return fmt::format("the health check node port cannot be served on {}: {}",
                       place.ip.IsUnspecified()
                           ? fmt::format("port {}", place.port)
                           : fmt::format("{} port {}", place.ip.ToString(), place.port),
                       error.message());
  }

  std::optional<tcp::acceptor> TryOpen(const tcp::endpoint& endpoint,
                                       boost::system::error_code& error) {
    tcp::acceptor acceptor(context_);
    acceptor.open(endpoint.protocol(), error);
    if (!error) acceptor.set_option(asio::socket_base::reuse_address(true), error);
    if (!error && endpoint.address().is_v6()) {
      acceptor.set_option(asio::ip::v6_only(!endpoint.address().is_unspecified()), error);
    }
    if (!error) acceptor.bind(endpoint, error);
    if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
    if (error) return std::nullopt;
    return acceptor;
  }

  void Start(const Place& place, tcp::acceptor acceptor) {
    Accept(*listeners_.emplace(place, std::make_shared<tcp::acceptor>(std::move(acceptor)))
                .first->second,
           place);
  }

  void Accept(tcp::acceptor& acceptor, const Place& place) {
    acceptor.async_accept([this, place](boost::system::error_code error, tcp::socket socket) {
      const auto listener = listeners_.find(place);
      if (error == asio::error::operation_aborted || listener == listeners_.end()) return;
      if (!error && connections_ < kMostConnections) {
        std::make_shared<Connection>(*this, std::move(socket), place.port)->Read();
      }
      if (!error) return Accept(*listener->second, place);
      // No file descriptors, as a rule: not at once again.
      spdlog::error("health check node port {}: {}", place.port, error.message());
      listeners_.erase(listener);
      failed_.insert(place);
      retry_.expires_after(kRetry);
      retry_.async_wait([this](boost::system::error_code waited) {
        if (!waited) Listen();
      });
    });
  }

  const std::function<bool()> proxy_healthy_;
  const OnProblem on_problem_;
  // The serving thread's.
  Services services_;
  std::vector<net::IpAddress> addresses_;
  std::set<Place> failed_;  // told already
  size_t connections_ = 0;

  asio::io_context context_{1};
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  std::map<Place, std::shared_ptr<tcp::acceptor>> listeners_;
  asio::steady_timer retry_;
  std::thread thread_;
};

ServiceHealth::ServiceHealth(std::function<bool()> proxy_healthy, OnProblem on_problem)
    : impl_(std::make_unique<Impl>(std::move(proxy_healthy), std::move(on_problem))) {}

ServiceHealth::~ServiceHealth() = default;

void ServiceHealth::Set(Services services, std::vector<net::IpAddress> addresses) {
  impl_->Set(std::move(services), std::move(addresses));
}

}  // namespace pointsman::agent

#include "node-agent/health/service_health.h"

#include <set>
#include <thread>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <fmt/format.h>

#include "kube/serve/http_connection.h"

namespace pointsman::agent {
namespace {

namespace asio = boost::asio;

// All ports together: of one with more than others an own connection makes room for its next.
constexpr kube::HttpLimits kLimits{.connections = 512};
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
        thread_([this] { kube::RunContext(context_, "health check node ports"); }) {}

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

  kube::ServedResponse Answer(uint16_t port) const {
    const auto found = services_.find(port);
    if (found == services_.end()) return {.status = 404};
    const Service& service = found->second;
    const bool healthy = proxy_healthy_();
    return {
        .status = healthy && service.local_endpoints > 0 ? 200 : 503,
        .content_type = "application/json",
        .headers = {{"X-Load-Balancing-Endpoint-Weight", std::to_string(service.local_endpoints)}},
        .body = Body(service, healthy)};
  }

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
    const asio::ip::address ip = place.ip.IsUnspecified()
                                     ? asio::ip::address(asio::ip::address_v6::any())
                                     : asio::ip::make_address(place.ip.ToString());
    auto listener = std::make_unique<kube::HttpListener>(
        context_, table_,
        [this, port = place.port](const kube::ServedRequest&, const kube::Respond& respond) {
          respond(Answer(port));
        },
        fmt::format("health check node port {}", place.port));
    const auto error = listener->Open(ip, place.port);
    if (!error) {
      listeners_.emplace(place, std::move(listener));
      return "";
    }
    return fmt::format("the health check node port cannot be served on {}: {}",
                       place.ip.IsUnspecified()
                           ? fmt::format("port {}", place.port)
                           : fmt::format("{} port {}", place.ip.ToString(), place.port),
                       error.message());
  }

  const std::function<bool()> proxy_healthy_;
  const OnProblem on_problem_;
  // The serving thread's.
  Services services_;
  std::vector<net::IpAddress> addresses_;
  std::set<Place> failed_;  // told already

  const std::shared_ptr<kube::ConnectionTable> table_ =
      std::make_shared<kube::ConnectionTable>(kLimits);
  asio::io_context context_{1};
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  std::map<Place, std::unique_ptr<kube::HttpListener>> listeners_;
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

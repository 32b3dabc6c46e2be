#include "node-agent/agent/endpoints.h"

#include <utility>

namespace pointsman::agent {
namespace {

kube::ServedResponse ToResponse(const ProxyHealth::Answer& health) {
  return {.status = health.status, .content_type = "application/json", .body = health.body};
}

}  // namespace

Endpoints::Endpoints(const Options& options, Metrics& metrics, ProxyHealth& health, Answers answers)
    : options_(options), metrics_(metrics), health_(health), answers_(std::move(answers)) {
  ServeOwn();
}

void Endpoints::Listen(std::unique_ptr<kube::HttpServer> server, const std::string& what) {
  if (!options_.bind_address_hard_fail) {
    retrying_servers_.push_back(
        std::make_unique<kube::RetryingHttpServer>(std::move(server), what));
    return;
  }
  try {
    server->Start();
  } catch (...) {
    fatal_ = std::current_exception();  // bindAddressHardFail asks for just that
    throw;
  }
  servers_.push_back(std::move(server));
}

kube::HttpServer::Handler Endpoints::MetricsHandler() const {
  return [this](const kube::ServedRequest&) {
    return kube::ServedResponse{.content_type = "text/plain; version=0.0.4; charset=utf-8",
                                .body = answers_.metrics()};
  };
}

void Endpoints::ServeOwn() {
  // Not kube-proxy's: livez asks whether a restart would help, readyz is late as 10256's livez is.
  const auto probes = [this](kube::HttpServer& server) {
    server.HandleAtOnce("/livez",
                        [this](const kube::ServedRequest&) { return ToResponse(health_.Alive()); });
    server.HandleAtOnce("/readyz",
                        [this](const kube::ServedRequest&) { return ToResponse(health_.Livez()); });
  };
  const auto serve = [this](std::unique_ptr<kube::HttpServer> server, const char* what) {
    own_servers_.push_back(std::make_unique<kube::RetryingHttpServer>(std::move(server), what));
  };
  if (!options_.agent_bind_address.empty()) {
    auto server = std::make_unique<kube::HttpServer>(options_.agent_bind_address, 2);
    server->Handle("/metrics", MetricsHandler());
    probes(*server);
    serve(std::move(server), "the agent's own port (--agent-bind-address)");
  }
  if (!options_.livez_bind_address.empty()) {
    auto server = std::make_unique<kube::HttpServer>(options_.livez_bind_address);
    probes(*server);
    serve(std::move(server), "liveness (--livez-bind-address)");
  }
}

void Endpoints::ServeInThePlaceOfKubeProxy() {
  if (std::exchange(in_the_place_of_kube_proxy_, true)) return;
  const auto text = [](std::string body) { return kube::ServedResponse{.body = std::move(body)}; };
  const std::string metrics_address = options_.metrics_bind_address.value_or("127.0.0.1:10249");
  if (!metrics_address.empty()) {
    auto server = std::make_unique<kube::HttpServer>(metrics_address);
    server->Handle("/metrics", MetricsHandler());
    server->HandleAtOnce("/proxyMode", [this, text](const kube::ServedRequest&) {
      return text(answers_.active_mode());
    });
    server->HandleAtOnce("/healthz", [text](const kube::ServedRequest&) { return text("ok"); });
    Listen(std::move(server), "metrics (metricsBindAddress)");
  }
  const std::string health_address = options_.healthz_bind_address.value_or("0.0.0.0:10256");
  if (!health_address.empty()) {
    auto server = std::make_unique<kube::HttpServer>(health_address);
    server->HandleAtOnce("/healthz", [this](const kube::ServedRequest&) {
      const ProxyHealth::Answer health = health_.Healthz();
      metrics_.HealthzAnswered(health.status);
      return ToResponse(health);
    });
    server->HandleAtOnce("/livez", [this](const kube::ServedRequest&) {
      const ProxyHealth::Answer health = health_.Livez();
      metrics_.LivezAnswered(health.status);
      return ToResponse(health);
    });
    Listen(std::move(server), "health (healthzBindAddress)");
  }
}

void Endpoints::LeaveThePlaceOfKubeProxy() {
  servers_.clear();
  retrying_servers_.clear();
  in_the_place_of_kube_proxy_ = false;
}

std::string Endpoints::TakenByAnother() const {
  for (const auto& server : retrying_servers_) {
    if (server->waits()) return server->what();
  }
  return "";
}

}  // namespace pointsman::agent

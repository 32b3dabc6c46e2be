#include "node-agent/agent/agent.h"

#include <chrono>
#include <memory>
#include <utility>

#include "kube/client/observed_transport.h"
#include "kube/client/rate_limiter.h"
#include "kube/process/version.h"

namespace pointsman::agent {
namespace {

// "10.0.0.1:6443" of "https://10.0.0.1:6443", for the metrics.
std::string HostOf(const std::string& url) {
  const size_t begin = url.find("://");
  const std::string host = begin == std::string::npos ? url : url.substr(begin + 3);
  return host.substr(0, host.find('/'));
}

kube::Client MakeClient(const kube::Config& api, const Options& options, Metrics& metrics) {
  kube::Client client(kube::ObserveRequests(
      kube::MakeTransport(api), [&metrics, host = HostOf(api.server)](const auto& outcome) {
        metrics.RequestDone(host, outcome);
      }));
  if (options.api_qps < 0) return client;
  return client.WithLimit(std::make_shared<kube::RateLimiter>(options.api_qps, options.api_burst));
}

}  // namespace

Agent::Agent(Options options, const kube::Config& api,
             std::optional<KubeProxyConfiguration> standalone)
    : options_(std::move(options)),
      standalone_(std::move(standalone)),
      metrics_(kVersion),
      client_(MakeClient(api, options_, metrics_)),
      events_(client_, "pointsman-node-agent", options_.node_name),
      health_(std::chrono::seconds(60)),
      watches_(client_, options_.node_name, /*node_proxy=*/!standalone_, inbox_, health_),
      status_(standalone_ ? nullptr
                          : std::make_unique<StatusWriter>(client_, options_.node_name,
                                                           StatusWriter::Options{})),
      endpoints_(options_, metrics_, health_,
                 {.metrics = [this] { return RenderMetrics(); },
                  .active_mode = [this] { return shown_.ActiveMode(); }}),
      loop_({.options = options_,
             .metrics = metrics_,
             .events = events_,
             .health = health_,
             .inbox = inbox_,
             .watches = watches_,
             .endpoints = endpoints_,
             .shown = shown_,
             .status = status_.get()},
            api.server) {
  if (standalone_) endpoints_.ServeInThePlaceOfKubeProxy();
}

void Agent::Run(std::stop_token stop) {
  const std::stop_callback on_stop(stop, [this] { inbox_.Stop(); });
  if (!watches_.Start(stop)) return;
  if (standalone_) {
    auto proxy = std::make_shared<kube::NodeProxy>();
    proxy->name = options_.node_name;
    proxy->spec.revision = 1;
    proxy->spec.settings = standalone_->settings;
    loop_.Accept(std::move(proxy));
  }
  loop_.Run();
}

std::string Agent::RenderMetrics() {
  shown_.Show(metrics_);
  metrics_.SetPending(inbox_.PendingChanges());
  watches_.Show(metrics_);
  if (status_) metrics_.SetStatusWrites(status_->Writes(), status_->Failures());
  return metrics_.Render();
}

}  // namespace pointsman::agent

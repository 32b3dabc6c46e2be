// The agent's HTTP endpoints: /metrics, /livez and /readyz on its own ports; /metrics, /proxyMode,
// /healthz and /livez on those of kube-proxy.
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kube/serve/http_server.h"
#include "kube/serve/retrying_http_server.h"
#include "node-agent/agent/metrics.h"
#include "node-agent/agent/options.h"
#include "node-agent/health/proxy_health.h"

namespace pointsman::agent {

// Requests are answered on threads of the servers; the methods are the sync thread's.
class Endpoints {
 public:
  // Called on any thread, several at once.
  struct Answers {
    std::function<std::string()> metrics;      // the text exposition format
    std::function<std::string()> active_mode;  // "" for none yet
  };

  // Serves the agent's own ports at once: one that is taken does not keep the node from being
  // served, and is tried again; kubelet sees that nothing answers there. All outlive this.
  Endpoints(const Options& options, Metrics& metrics, ProxyHealth& health, Answers answers);

  // Serves kube-proxy's ports, if it does not already. Not before the node is ours: an agent that
  // waits would take them from a kube-proxy that is restarted, and answer its load balancers. With
  // bindAddressHardFail, throws when one cannot be bound.
  void ServeInThePlaceOfKubeProxy();
  void LeaveThePlaceOfKubeProxy();
  // One of kube-proxy's ports that another program has, most likely kube-proxy; "": none. Known
  // once they are served; of a port that is not to be served nothing is.
  std::string TakenByAnother() const;
  // What must end the process: the throw above, wherever it was caught. Null: nothing.
  std::exception_ptr fatal() const { return fatal_; }

 private:
  kube::HttpServer::Handler MetricsHandler() const;
  void ServeOwn();
  void Listen(std::unique_ptr<kube::HttpServer> server, const std::string& what);

  const Options& options_;
  Metrics& metrics_;
  ProxyHealth& health_;
  const Answers answers_;
  bool in_the_place_of_kube_proxy_ = false;
  std::exception_ptr fatal_;
  // Last: their threads use all of the above.
  std::vector<std::unique_ptr<kube::RetryingHttpServer>> own_servers_;
  std::vector<std::unique_ptr<kube::HttpServer>> servers_;
  std::vector<std::unique_ptr<kube::RetryingHttpServer>> retrying_servers_;
};

}  // namespace pointsman::agent

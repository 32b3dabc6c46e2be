// The agent: all of its parts, wired together.
#pragma once

#include <memory>
#include <optional>
#include <stop_token>
#include <string>

#include "kube/client/client.h"
#include "kube/events/event_recorder.h"
#include "kube/http/transport.h"
#include "node-agent/agent/endpoints.h"
#include "node-agent/agent/metrics.h"
#include "node-agent/agent/options.h"
#include "node-agent/agent/shown_state.h"
#include "node-agent/agent/sync_loop.h"
#include "node-agent/agent/watches.h"
#include "node-agent/config/kube_proxy_configuration.h"
#include "node-agent/health/proxy_health.h"
#include "node-agent/status/status_writer.h"
#include "node-agent/sync/change_inbox.h"

namespace pointsman::agent {

class Agent {
 public:
  // `standalone`: settings from a KubeProxyConfiguration instead of a NodeProxy. Throws when a port
  // cannot be bound or the kernel refuses a socket.
  Agent(Options options, const kube::Config& api, std::optional<KubeProxyConfiguration> standalone);

  // Runs until `stop`, once. The kernel's rules stay in place: the next agent adopts them.
  void Run(std::stop_token stop);

 private:
  std::string RenderMetrics();

  // Each uses those before it.
  const Options options_;
  const std::optional<KubeProxyConfiguration> standalone_;
  Metrics metrics_;
  kube::Client client_;
  kube::EventRecorder events_;
  ProxyHealth health_;
  ChangeInbox inbox_;
  ShownState shown_;
  Watches watches_;
  const std::unique_ptr<StatusWriter> status_;  // null: standalone
  Endpoints endpoints_;
  SyncLoop loop_;
};

}  // namespace pointsman::agent

// The agent: watches, the service model, and the one thread that writes the kernel.
#pragma once

#include <memory>
#include <optional>
#include <stop_token>

#include "kube/client/client.h"
#include "kube/http/transport.h"
#include "node-agent/agent/options.h"
#include "node-agent/config/kube_proxy_configuration.h"

namespace pointsman::agent {

class Agent {
 public:
  // `standalone`: settings from a KubeProxyConfiguration instead of a NodeProxy. Throws when a port
  // cannot be bound or the kernel refuses a socket.
  Agent(Options options, const kube::Config& api, std::optional<KubeProxyConfiguration> standalone);
  ~Agent();

  // Runs until `stop`. The kernel's rules stay in place: the next agent adopts them.
  void Run(std::stop_token stop);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

// --cleanup: returns the process's exit code; says on the log what could not be removed.
int RunCleanup(const Options& options);

}  // namespace pointsman::agent

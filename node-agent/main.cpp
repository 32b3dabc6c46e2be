// pointsman-node-agent: programs one node's Service traffic.

#include <signal.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <climits>
#include <csignal>
#include <cstdlib>

#include "kube/config/config.h"
#include "kube/log/log.h"
#include "node-agent/agent/agent.h"
#include "node-agent/agent/options.h"
#include "node-agent/agent/version.h"

namespace pointsman::agent {
namespace {

std::string NodeName(const Options& options) {
  if (!options.node_name.empty()) return options.node_name;
  // Read once, before any thread is started.
  if (const char* name = std::getenv("NODE_NAME");  // NOLINT(concurrency-mt-unsafe)
      name != nullptr && *name != '\0') {
    return name;
  }
  char host[HOST_NAME_MAX + 1] = {};
  if (gethostname(host, HOST_NAME_MAX) != 0) {
    throw std::system_error(errno, std::generic_category(), "gethostname");
  }
  std::string name = host;
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return name;
}

int Main(int argc, char** argv) {
  Options options;
  if (const auto code = ParseOptions(argc, argv, options)) return *code;
  kube::SetUpLogging(options.log_format, options.log_level);
  if (options.cleanup) return RunCleanup(options);

  // Signals are taken by one thread that waits for them; all others are born with them blocked.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);

  options.node_name = NodeName(options);
  std::optional<KubeProxyConfiguration> standalone;
  if (!options.config.empty()) {
    standalone = LoadKubeProxyConfiguration(options.config);
    UseProcessSettings(*standalone, options);
  }
  kube::Config api = kube::LoadConfig(options.kubeconfig);
  api.user_agent = std::string("pointsman-node-agent/") + kVersion;
  spdlog::info("pointsman-node-agent {} on node {}, API server {}{}", kVersion, options.node_name,
               api.server, standalone ? ", standalone" : "");

  std::stop_source stop;
  std::jthread waiter([&signals, &stop] {
    int signal = 0;
    sigwait(&signals, &signal);
    spdlog::info("{} received", signal == SIGTERM ? "SIGTERM" : "SIGINT");
    stop.request_stop();
  });
  {
    Agent agent(std::move(options), std::move(api), std::move(standalone));
    agent.Run(stop.get_token());
  }
  // Run ends only when a signal came, so the waiter has ended or is about to.
  return 0;
}

}  // namespace
}  // namespace pointsman::agent

int main(int argc, char** argv) {
  try {
    return pointsman::agent::Main(argc, argv);
  } catch (const std::exception& error) {
    spdlog::critical("{}", error.what());
    // Not exit(): the thread that waits for signals would be joined for ever.
    std::_Exit(1);
  }
}

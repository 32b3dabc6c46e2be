// pointsman-node-agent: programs one node's Service traffic.

#include <algorithm>
#include <cctype>
#include <climits>
#include <cstdlib>

#include <unistd.h>

#include "kube/config/config.h"
#include "kube/process/logging.h"
#include "kube/process/termination.h"
#include "node-agent/agent/agent.h"
#include "node-agent/agent/options.h"
#include "node-agent/agent/version.h"
#include "node-agent/sysctl/sysctl.h"

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
  SetSysctlRoot(options.proc_sys.string());
  if (options.cleanup) return RunCleanup(options);

  const kube::Termination termination;
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

  Agent agent(std::move(options), std::move(api), std::move(standalone));
  agent.Run(termination.token());
  return 0;
}

}  // namespace
}  // namespace pointsman::agent

int main(int argc, char** argv) {
  try {
    return pointsman::agent::Main(argc, argv);
  } catch (const std::exception& error) {
    spdlog::critical("{}", error.what());
    return 1;
  }
}

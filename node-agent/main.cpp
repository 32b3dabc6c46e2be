// pointsman-node-agent: programs one node's Service traffic.

#include <algorithm>
#include <cctype>
#include <climits>
#include <cstdlib>
#include <fstream>

#include <malloc.h>
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

// What the file says of the process; a flag that was given goes first.
void UseProcessSettings(const KubeProxyConfiguration& file, Options& options) {
  const Options defaults;
  if (options.node_name.empty()) options.node_name = file.hostname_override;
  if (options.kubeconfig.empty()) options.kubeconfig = file.kubeconfig;
  if (options.metrics_bind_address == defaults.metrics_bind_address) {
    options.metrics_bind_address = file.metrics_bind_address;
  }
  if (options.healthz_bind_address == defaults.healthz_bind_address) {
    options.healthz_bind_address = file.healthz_bind_address;
  }
  for (const std::string& note : file.notes)
    spdlog::warn("{}", note);
  if (file.oom_score_adj) {
    std::ofstream adjust("/proc/self/oom_score_adj");
    if (!(adjust << *file.oom_score_adj << std::flush)) {
      spdlog::warn("oomScoreAdj {} could not be set", *file.oom_score_adj);
    }
  }
}

// glibc keeps what is freed for threads of many arenas, and once a large block was freed takes the
// next ones from them too: after a list of 10,000 Services much of what the agent held was of no
// use to it.
void KeepMemorySmall() {
  mallopt(M_ARENA_MAX, 2);
  mallopt(M_MMAP_THRESHOLD, 128 << 10);  // fixed, so that a list's pages go back at once
}

int Main(int argc, char** argv) {
  KeepMemorySmall();
  Options options;
  if (const auto code = ParseOptions(argc, argv, options)) return *code;
  kube::SetUpLogging(options.log_format, options.log_level);
  SetSysctlRoot(options.proc_sys.string());
  if (options.cleanup) return RunCleanup(options);

  const kube::Termination termination;
  std::optional<KubeProxyConfiguration> standalone;
  if (!options.config.empty()) {
    standalone = LoadKubeProxyConfiguration(options.config);
    UseProcessSettings(*standalone, options);
  }
  options.node_name = NodeName(options);
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

// pointsman-node-agent: programs one node's Service traffic.

#include <algorithm>
#include <atomic>
#include <cctype>
#include <climits>
#include <cstdlib>
#include <fstream>
#include <iostream>

#include <malloc.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "kube/config/config.h"
#include "kube/process/file_limit.h"
#include "kube/process/logging.h"
#include "kube/process/termination.h"
#include "kube/process/version.h"
#include "node-agent/agent/agent.h"
#include "node-agent/agent/agent_lock.h"
#include "node-agent/agent/cleanup.h"
#include "node-agent/agent/kube_proxy_cleanup.h"
#include "node-agent/agent/list.h"
#include "node-agent/agent/options.h"
#include "node-agent/config/config_file_watch.h"
#include "node-agent/sysctl/sysctl.h"

namespace pointsman::agent {
namespace {

// Also what was given: kube-proxy does so, and a Node's name has no capitals.
std::string TrimmedLower(std::string name) {
  std::erase_if(name, [](unsigned char c) { return std::isspace(c) != 0; });
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return name;
}

std::string NodeName(const Options& options) {
  if (!options.node_name.empty()) return TrimmedLower(options.node_name);
  // Read once, before any thread is started.
  if (const char* name = std::getenv("NODE_NAME");  // NOLINT(concurrency-mt-unsafe)
      name != nullptr && *name != '\0') {
    return name;
  }
  char host[HOST_NAME_MAX + 1] = {};
  if (gethostname(host, HOST_NAME_MAX) != 0) {
    throw std::system_error(errno, std::generic_category(), "gethostname");
  }
  return TrimmedLower(host);
}

void SetUpLog(const Options& options) {
  // klog calls what is for debugging level 4.
  const char* const by_verbosity = options.verbosity.value_or(0) >= 4 ? "debug" : "info";
  kube::SetUpLogging(options.log_format.value_or("text"), options.log_level.value_or(by_verbosity));
}

// What a file or kube-proxy's flags say of the process; the agent's own flag goes first.
void UseProcessSettings(const KubeProxyConfiguration& given, Options& options) {
  if (options.node_name.empty()) options.node_name = given.hostname_override;
  if (options.kubeconfig.empty()) options.kubeconfig = given.kubeconfig;
  if (!options.metrics_bind_address) options.metrics_bind_address = given.metrics_bind_address;
  if (!options.healthz_bind_address) options.healthz_bind_address = given.healthz_bind_address;
  options.bind_address_hard_fail = given.bind_address_hard_fail;
  options.api_qps = given.qps;
  options.api_burst = given.burst;
  options.config_sync_period = given.config_sync_period;
  if (!options.log_format) options.log_format = given.log_format;
  if (!options.verbosity) options.verbosity = given.log_verbosity;
  SetUpLog(options);
  if (given.oom_score_adj) {
    std::ofstream adjust("/proc/self/oom_score_adj");
    if (!(adjust << *given.oom_score_adj << std::flush)) {
      spdlog::warn("oomScoreAdj {} could not be set", *given.oom_score_adj);
    }
  }
}

// glibc keeps what is freed for threads of many arenas, and once a large block was freed takes the
// next ones from them too: after a list of 10,000 Services much of what the agent held was of no
// use to it.
void KeepMemorySmall() {
  // NOLINTBEGIN(concurrency-mt-unsafe): there is one thread yet
  mallopt(M_ARENA_MAX, 2);
  mallopt(M_MMAP_THRESHOLD, 128 << 10);  // fixed, so that a list's pages go back at once
  // NOLINTEND(concurrency-mt-unsafe)
}

kube::Config ApiServer(const Options& options) {
  kube::Config api = kube::LoadConfig(options.kubeconfig, options.master);
  api.user_agent = std::string("pointsman-node-agent/") + kVersion;
  return api;
}

bool ConfiguredByFlags(const Options& options) {
  return std::any_of(KubeProxyFlags().begin(), KubeProxyFlags().end(), [&](const auto& flag) {
    return flag.kind != KubeProxyFlag::Kind::kIgnored &&
           options.kube_proxy_flags.contains(std::string(flag.name));
  });
}

// kube-proxy exits when its file changes, so that it is restarted with the new configuration; so
// does the agent, except that it keeps running with the old one when the new one is invalid:
// exiting would leave the node with no configuration that works.
void EndOnChange(const std::filesystem::path& file, const std::string& content,
                 std::stop_source& stop, std::atomic<bool>& changed) {
  try {
    ParseKubeProxyConfiguration(content, file.string());
  } catch (const std::invalid_argument& error) {
    spdlog::error(
        "the configuration file changed and is invalid now; this agent keeps running with the "
        "previous one: {}",
        error.what());
    return;
  }
  spdlog::warn("{} changed; exiting so that the agent is restarted with the new configuration",
               file.string());
  changed = true;
  stop.request_stop();
}

int Main(int argc, char** argv) {
  KeepMemorySmall();
  Options options;
  if (const auto code = ParseOptions(argc, argv, options)) return *code;
  SetUpLog(options);
  SetSysctlRoot(options.proc_sys.string());
  if (options.cleanup) return RunCleanup(options);
  if (options.cleanup_kube_proxy) return RunKubeProxyCleanup(options);
  if (options.list)
    return RunList(std::cout,
                   options.list_format == "json" ? ListFormat::kJson : ListFormat::kText);

  std::optional<KubeProxyConfiguration> standalone;
  std::vector<std::string> notes;
  std::string content;
  if (!options.config.empty()) {
    content = ReadConfigurationFile(options.config);
    standalone = ParseKubeProxyConfiguration(content, options.config.string());
    notes = NotesOnIgnoredFlags(options.kube_proxy_flags);
  } else if (ConfiguredByFlags(options)) {
    standalone = ConfigurationFromFlags(options.kube_proxy_flags);
  } else {
    notes = NotesOnIgnoredFlags(options.kube_proxy_flags);
  }
  if (standalone) {
    notes.insert(notes.end(), standalone->notes.begin(), standalone->notes.end());
    UseProcessSettings(*standalone, options);
  }
  for (const std::string& note : notes)
    spdlog::warn("{}", note);
  options.node_name = NodeName(options);
  const kube::Config api = ApiServer(options);
  spdlog::info("pointsman-node-agent {} on node {}, API server {}{}", kVersion, options.node_name,
               api.server, standalone ? ", standalone" : "");

  kube::RaiseFileLimit();
  const kube::Termination termination;
  std::stop_source stop;
  const std::stop_callback on_signal(termination.token(), [&stop] { stop.request_stop(); });
  std::atomic<bool> changed = false;
  std::optional<ConfigFileWatch> watch;
  if (!options.config.empty()) {
    const std::filesystem::path file = options.config;
    watch.emplace(
        file, content, ReadConfigurationFile,
        [&stop, &changed, file](const std::string& now) { EndOnChange(file, now, stop, changed); });
  }
  AgentLock lock;
  if (!lock.Take(AgentLock::kPatience, stop.get_token())) return 0;
  Agent agent(std::move(options), api, std::move(standalone));
  agent.Run(stop.get_token());
  // As kube-proxy's: a supervisor that restarts on failure only starts it anew, too.
  return changed ? 1 : 0;
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

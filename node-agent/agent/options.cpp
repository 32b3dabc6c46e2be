#include "node-agent/agent/options.h"

#include <CLI/CLI.hpp>

#include "node-agent/agent/version.h"

namespace pointsman::agent {

std::optional<int> ParseOptions(int argc, char** argv, Options& options) {
  CLI::App app("Programs this node's Service traffic and moves it between kernel mechanisms.");
  app.set_version_flag("--version", std::string("pointsman-node-agent ") + kVersion);
  app.add_option("--kubeconfig", options.kubeconfig,
                 "kubeconfig file (default: $KUBECONFIG, else the pod's service account)")
      ->check(CLI::ExistingFile);
  app.add_option("--node-name,--hostname-override", options.node_name,
                 "name of this Node object (default: $NODE_NAME, else the host name)");
  app.add_option(
         "--config", options.config,
         "run standalone with this KubeProxyConfiguration file, as a drop-in for kube-proxy")
      ->check(CLI::ExistingFile);
  app.add_flag("--cleanup", options.cleanup,
               "remove everything Pointsman made in this node's kernel, and exit");
  app.add_option("--metrics-bind-address", options.metrics_bind_address,
                 "address and port of /metrics and /proxyMode; empty: off")
      ->capture_default_str();
  app.add_option("--healthz-bind-address", options.healthz_bind_address,
                 "address and port of /healthz and /livez; empty: off")
      ->capture_default_str();
  app.add_option("--modules-root", options.modules_root,
                 "folder under which lib/modules of the running kernel is");
  app.add_option("--proc-sys", options.proc_sys, "where the node's /proc/sys is writable")
      ->capture_default_str();
  app.add_option("--log-format", options.log_format, "text or json")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  app.add_option("--log-level", options.log_level, "debug, info, warn or error")
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}))
      ->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  }
  return std::nullopt;
}

}  // namespace pointsman::agent

#include "node-agent/agent/options.h"

#include <set>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "kube/net/ip_address.h"
#include "kube/pointsman/duration.h"
#include "kube/process/command_line.h"
#include "kube/process/version.h"

namespace pointsman::agent {
namespace {

constexpr char kKubeProxyGroup[] =
    "kube-proxy's flags: without --config they configure the agent, standalone, as they do "
    "kube-proxy";

// An address alone has the usual port, as in kube-proxy.
std::string WithPort(const std::string& text, int port) {
  const auto address = net::IpAddress::Parse(text);
  if (!address) return text;
  return (address->is_v4() ? text : "[" + text + "]") + ":" + std::to_string(port);
}

void AddBindAddress(CLI::App& app, const char* name, const char* help, int port,
                    std::optional<std::string>& address) {
  app.add_option_function<std::string>(
      name, [&address, port](const std::string& text) { address = WithPort(text, port); }, help);
}

// --metrics-port, --healthz-port: deprecated in kube-proxy since 1.16, and still in many manifests.
void AddPort(CLI::App& app, const char* name, const char* host, const char* use,
             std::optional<std::string>& address) {
  app.add_option_function<int>(
         name,
         [&address, host](int port) {
           if (!address) address = port == 0 ? "" : std::string(host) + ":" + std::to_string(port);
         },
         std::string("deprecated: use ") + use)
      ->check(CLI::Range(0, 65535))
      ->group(kKubeProxyGroup);
}

void AddWord(CLI::App& app, const char* name, const char* help, const std::set<std::string>& words,
             std::optional<std::string>& word) {
  app.add_option_function<std::string>(
         name,
         [&word](const std::string& text) {
           word = text.empty() ? std::nullopt : std::optional(text);
         },
         help)
      ->check([words](const std::string& text) {
        return text.empty() ? "" : CLI::IsMember(words)(text);
      });
}

void AddDuration(CLI::App& app, const char* name, const char* help,
                 std::chrono::nanoseconds& duration) {
  app.add_option_function<std::string>(
         name, [&duration](const std::string& text) { duration = *kube::ParseDuration(text); },
         help)
      ->check([](const std::string& text) {
        const auto parsed = kube::ParseDuration(text);
        return parsed && parsed->count() >= 0
                   ? ""
                   : "'" + text + "' is no duration of 0 or more, such as 30s or 5m";
      });
}

void AddKubeProxyFlags(CLI::App& app, KubeProxyFlagValues& values) {
  for (const KubeProxyFlag& flag : KubeProxyFlags()) {
    const std::string name(flag.name);
    std::string help;
    for (const std::string_view field : flag.fields)
      help += fmt::format("{}{}", help.empty() ? "" : ", ", field);
    const bool list = flag.kind == KubeProxyFlag::Kind::kList;
    const auto set = [&values, name, list](const std::string& text) {
      // pflag's StringSlice: what is given again is added.
      std::string& value = values[name];
      value = list && !value.empty() && !text.empty() ? fmt::format("{},{}", value, text) : text;
    };
    CLI::Option* option = nullptr;
    if (flag.stands_alone || flag.kind == KubeProxyFlag::Kind::kBool) {
      // Not add_flag(name, help): that takes `help` for a variable to write to.
      option = app.add_flag(name)->description(help)->each(set);
    } else {
      option = app.add_option_function<std::string>(name, set, help);
    }
    option->trigger_on_parse(list);  // each time that it is given
    option->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    option->group(kKubeProxyGroup);
  }
}

// As everywhere on this command line, an empty value is one that was not given.
std::string ExistingFileOrEmpty(const std::string& file) {
  return file.empty() ? "" : CLI::ExistingFile(file);
}

}  // namespace

std::optional<int> ParseOptions(int argc, char** argv, Options& options) {
  CLI::App app("Programs this node's Service traffic and moves it between kernel mechanisms.",
               "pointsman-node-agent");
  app.set_version_flag("--version", std::string("pointsman-node-agent ") + kVersion);
  app.add_option("--kubeconfig", options.kubeconfig,
                 "kubeconfig file (default: $KUBECONFIG, else the pod's service account)")
      ->check(ExistingFileOrEmpty);
  app.add_option("--node-name,--hostname-override", options.node_name,
                 "name of this Node object (default: $NODE_NAME, else the host name)");
  app.add_option(
         "--config", options.config,
         "run standalone with this KubeProxyConfiguration file, as a drop-in for kube-proxy")
      ->check(ExistingFileOrEmpty);
  app.add_flag("--cleanup", options.cleanup,
               "remove everything Pointsman made in this node's kernel, and exit");
  app.add_flag("--cleanup-kube-proxy", options.cleanup_kube_proxy,
               "remove what a kube-proxy that has ended left in this node's kernel, and exit");
  AddDuration(app, "--kube-proxy-drain-timeout",
              "with --cleanup-kube-proxy: how long at most the connections that kube-proxy's ipvs "
              "mode has are waited for (default: 5m)",
              options.kube_proxy_drain_timeout);
  app.add_flag("--list", options.list,
               "print the Services as this node's kernel has them, whatever the mode, and exit");
  AddWord(app, "--list-format", "with --list: text or json (default: text)", {"text", "json"},
          options.list_format);
  app.add_option("--master", options.master,
                 "address of the API server; overrides the kubeconfig's");
  AddBindAddress(
      app, "--metrics-bind-address",
      "address and port of /metrics and /proxyMode; empty: off (default: 127.0.0.1:10249)", 10249,
      options.metrics_bind_address);
  AddBindAddress(app, "--healthz-bind-address",
                 "address and port of /healthz and /livez; empty: off (default: 0.0.0.0:10256)",
                 10256, options.healthz_bind_address);
  app.add_option("--agent-bind-address", options.agent_bind_address,
                 "address and port of the agent's own /livez and /metrics, served also while "
                 "kube-proxy still has the two above; empty: off")
      ->capture_default_str();
  app.add_option(
         "--livez-bind-address", options.livez_bind_address,
         "address and port of /livez alone, for the kubelet's probes: on the loopback, where no "
         "other client's connections can block it; empty: off")
      ->capture_default_str();
  app.add_option("--forwarder-launcher", options.forwarder_launcher,
                 "in a Pod: socket of the `pointsman-forwarder --launcher` in another container, "
                 "which starts userspace mode's forwarders");
  app.add_option("--modules-root", options.modules_root,
                 "folder under which lib/modules of the running kernel is");
  app.add_option("--proc-sys", options.proc_sys, "where the node's /proc/sys is writable")
      ->capture_default_str();
  AddWord(app, "--log-format,--logging-format", "text or json (default: text)", {"text", "json"},
          options.log_format);
  AddWord(app, "--log-level", "debug, info, warn or error (default: info, debug from --v=4 on)",
          {"debug", "info", "warn", "error"}, options.log_level);
  app.add_option("-v,--v", options.verbosity, "log verbosity as kube-proxy's")
      ->transform([](const std::string& text) {  // Go also reads "-v=2"
        return text.starts_with('=') ? text.substr(1) : text;
      })
      ->check(CLI::Range(0, 100));
  AddPort(app, "--metrics-port", "127.0.0.1", "--metrics-bind-address",
          options.metrics_bind_address);
  AddPort(app, "--healthz-port", "0.0.0.0", "--healthz-bind-address", options.healthz_bind_address);
  AddKubeProxyFlags(app, options.kube_proxy_flags);
  return kube::ParseCommandLine(app, argc, argv, kube::Underscores::kYes);
}

}  // namespace pointsman::agent

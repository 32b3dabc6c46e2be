// pointsman-operator: rolls ProxyConfigurations out to the nodes.
#include <random>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "kube/client/client.h"
#include "kube/config/config.h"
#include "kube/http/transport.h"
#include "kube/lease/leader_election.h"
#include "kube/process/command_line.h"
#include "kube/process/file_limit.h"
#include "kube/process/logging.h"
#include "kube/process/termination.h"
#include "kube/process/version.h"
#include "kube/serve/http_server.h"
#include "operator/runtime/controller.h"
#include "operator/runtime/metrics.h"

namespace pointsman::op {
namespace {

struct Options {
  std::string kubeconfig;
  std::string ns;
  std::string kube_proxy = "kube-system/kube-proxy";
  bool leader_elect = false;
  std::string metrics_address = "127.0.0.1:10350";
  std::string health_address = "127.0.0.1:10351";
  std::string log_format = "text";
  std::string log_level = "info";
};

// Unique per process, as client-go's: the host's name and something random.
std::string Identity() {
  std::array<char, 256> host{};
  if (gethostname(host.data(), host.size() - 1) != 0) {
    throw std::system_error(errno, std::generic_category(), "gethostname");
  }
  std::random_device random;
  return fmt::format("{}_{:08x}{:08x}", host.data(), random(), random());
}

void AddFlags(CLI::App& app, Options& options) {
  app.add_option("--kubeconfig", options.kubeconfig,
                 "How to reach the API server; without it $KUBECONFIG, then in-cluster");
  app.add_option("--namespace", options.ns,
                 "Where its Lease and ControllerRevisions live; default: that of the kubeconfig's "
                 "context or the pod");
  app.add_option("--kube-proxy-daemonset", options.kube_proxy,
                 "NAMESPACE/NAME of the DaemonSet that runs the cluster's kube-proxy, for "
                 "spec.kubeProxy; the operator's role has to name it, too")
      ->capture_default_str();
  app.add_flag("--leader-elect", options.leader_elect,
               "Act only while holding the Lease pointsman-operator");
  app.add_option("--metrics-bind-address", options.metrics_address, "For /metrics; 0: none")
      ->capture_default_str();
  app.add_option("--health-probe-bind-address", options.health_address,
                 "For /healthz and /readyz; 0: none")
      ->capture_default_str();
  app.add_option("--log-format", options.log_format, "json or text")->capture_default_str();
  app.add_option("--log-level", options.log_level, "debug, info, warn or error")
      ->capture_default_str();
}

KubeProxyName ParseKubeProxyName(const std::string& text) {
  const size_t slash = text.find('/');
  if (slash == 0 || slash == std::string::npos || slash + 1 == text.size() ||
      text.find('/', slash + 1) != std::string::npos) {
    throw std::invalid_argument("--kube-proxy-daemonset: " + text + " is not NAMESPACE/NAME");
  }
  return {.ns = text.substr(0, slash), .name = text.substr(slash + 1)};
}

int Run(Options options) {
  kube::SetUpLogging(options.log_format, options.log_level);
  kube::RaiseFileLimit();
  const kube::Termination termination;
  kube::Config config = kube::LoadConfig(options.kubeconfig);
  config.user_agent = std::string("pointsman-operator/") + kVersion;
  if (options.ns.empty()) options.ns = config.namespace_;
  kube::Client client(kube::MakeTransport(config));
  Metrics metrics;
  Controller controller(client, options.ns, ParseKubeProxyName(options.kube_proxy), metrics);

  std::unique_ptr<kube::HttpServer> metrics_server;
  if (options.metrics_address != "0") {
    metrics_server = std::make_unique<kube::HttpServer>(options.metrics_address);
    metrics_server->Handle("/metrics", [&](const kube::ServedRequest&) {
      controller.UpdateMetrics();
      return kube::ServedResponse{.content_type = "text/plain; version=0.0.4; charset=utf-8",
                                  .body = metrics.Render()};
    });
    metrics_server->Start();
  }
  std::unique_ptr<kube::HttpServer> health_server;
  if (options.health_address != "0") {
    health_server = std::make_unique<kube::HttpServer>(options.health_address);
    health_server->HandleAtOnce(
        "/healthz", [](const kube::ServedRequest&) { return kube::ServedResponse{.body = "ok"}; });
    health_server->HandleAtOnce("/readyz", [&](const kube::ServedRequest&) {
      if (controller.HasSynced()) return kube::ServedResponse{.body = "ok"};
      return kube::ServedResponse{.status = 503,
                                  .body =
                                      "waiting for the API server's lists of ProxyConfigurations, "
                                      "NodeProxies, Nodes and ControllerRevisions\n"};
    });
    health_server->Start();
  }
  controller.Start();

  const std::string identity = Identity();
  spdlog::info("pointsman-operator {} as {} at {}, namespace {}", kVersion, identity, config.server,
               options.ns);
  if (!options.leader_elect) {
    controller.Lead(termination.token(), [] { return true; });
    return 0;
  }
  kube::LeaderElectionOptions election;
  election.ns = options.ns;
  election.name = "pointsman-operator";
  election.identity = identity;
  std::exception_ptr failure;
  std::stop_source give_up;
  const std::stop_callback on_signal(termination.token(), [&] { give_up.request_stop(); });
  const bool asked_to_stop = kube::RunWithLeaderElection(
      client, election,
      [&](const kube::Leadership& leadership) {
        try {
          controller.Lead(leadership.stop(), [&] { return leadership.Held(); });
        } catch (...) {
          // Out of the election, so that another can lead; told below.
          failure = std::current_exception();
          give_up.request_stop();
        }
      },
      give_up.get_token());
  if (failure) std::rethrow_exception(failure);
  if (asked_to_stop) return 0;
  spdlog::error("leadership was lost; ending, to start clean");
  return 1;
}

}  // namespace
}  // namespace pointsman::op

int main(int argc, char** argv) {
  CLI::App app("Rolls ProxyConfigurations out to the nodes of a Kubernetes cluster.",
               "pointsman-operator");
  app.set_version_flag("--version", std::string("pointsman-operator ") + pointsman::kVersion);
  pointsman::op::Options options;
  pointsman::op::AddFlags(app, options);
  if (const auto code = pointsman::kube::ParseCommandLine(app, argc, argv)) return *code;
  try {
    return pointsman::op::Run(std::move(options));
  } catch (const std::exception& error) {
    spdlog::critical("{}", error.what());
    return 1;
  }
}

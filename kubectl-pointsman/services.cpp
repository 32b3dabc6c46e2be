#include "kubectl-pointsman/services.h"

#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "kube/objects/pod.h"
#include "kube/text/text.h"
#include "kubectl-pointsman/commands.h"
#include "kubectl-pointsman/listing.h"
#include "kubectl-pointsman/listing_document.h"
#include "kubectl-pointsman/terminal.h"

namespace pointsman::plugin {
namespace {

constexpr const char* kAgentLabel = "app.kubernetes.io/name=pointsman-node-agent";
constexpr const char* kContainer = "node-agent";
constexpr std::chrono::minutes kLongest{5};
constexpr size_t kMostSaid = 1000;
// Text is passed on as it comes; a document is put together first.
constexpr uint64_t kLongestDocument = 16UL * 1024 * 1024;  // some 200,000 endpoints

const char* const kOnTheNode =
    "on the node itself `pointsman-node-agent --list` prints the same without an API server";

// The node agent's Pod on that node. Throws Failure.
std::string AgentPod(Api& api, const std::string& node) {
  std::string found;
  api.client().ListItems(
      kube::resources::kPods, api.ns(),
      {.label_selector = kAgentLabel, .field_selector = "spec.nodeName=" + node},
      [&](std::string_view text) {
        const kube::Pod pod = kube::DecodePod(text);
        if (pod.node_name == node && !pod.over) found = pod.name;
      },
      [&] { found.clear(); });
  if (!found.empty()) return found;
  const bool known = api.NodeProxy(node).has_value();
  throw Failure(
      ExitCode::kNotFound,
      fmt::format("no Pod of the node agent is on {} {} (namespace {}; -n names another). "
                  "`kubectl -n {} get pods -o wide` shows where they are; where the agent runs "
                  "without a Pod, {}",
                  known ? "node" : "a node", text::Quote(node), api.ns(), api.ns(), kOnTheNode));
}

std::vector<std::string> CommandLine(const Options& options, const std::string& pod) {
  // env(1) looks for kubectl in $PATH; no shell.
  std::vector<std::string> argv{"/usr/bin/env", "kubectl"};
  if (!options.kubeconfig.empty()) argv.push_back("--kubeconfig=" + options.kubeconfig);
  if (!options.context.empty()) argv.push_back("--context=" + options.context);
  for (const std::string& word : {std::string("exec"), "--namespace=" + options.ns, pod,
                                  std::string("-c"), std::string(kContainer), std::string("--"),
                                  std::string("pointsman-node-agent"), std::string("--list")})
    argv.push_back(word);
  if (options.output != Output::kText) argv.emplace_back("--list-format=json");
  return argv;
}

// For what has no name in the kernel (ipvs mode). Without the right to read Services it stays so.
ServiceNames ReadNames(Api& api, std::string& not_read) {
  ServiceNames names;
  try {
    api.client().ListItems(
        kube::resources::kServices, "", {},
        [&](std::string_view text) { names.Add(kube::DecodeService(text)); },
        [&] { names.clear(); });
  } catch (const kube::ApiError& error) {
    if (!error.IsForbidden()) throw;
    not_read = error.what();
  }
  return names;
}

// Without a node: what each of them says, to choose one.
ExitCode PrintNodes(Session& session) {
  const NodeProxies proxies = session.api.AllNodeProxies();
  if (proxies.proxies.empty())
    throw Failure(ExitCode::kNotFound,
                  "no node has a NodeProxy, since no ProxyConfiguration selects any; name a node");
  Table table({"NODE", "MODE", "SERVICES", "ENDPOINTS"});
  nlohmann::json nodes = nlohmann::json::array();
  for (const kube::NodeProxy& proxy : proxies.proxies) {
    const kube::NodeProxyStatus& status = proxy.status;
    table.Add({proxy.name, status.active_mode.empty() ? "-" : status.active_mode,
               std::to_string(status.services), std::to_string(status.endpoints)});
    nodes.push_back({{"node", proxy.name},
                     {"mode", status.active_mode},
                     {"services", status.services},
                     {"endpoints", status.endpoints}});
  }
  if (!PrintDocument(session, {{"nodes", std::move(nodes)}})) {
    session.out << table.Text()
                << "\nWhat a node's kernel has: kubectl pointsman services NODE [SERVICE]\n";
  }
  return ExitCode::kOk;
}

kube::ChildLimits LimitsOf(const Options& options) {
  kube::ChildLimits limits;
  limits.idle = limits.most = options.timeout.count() > 0
                                  ? std::chrono::ceil<std::chrono::milliseconds>(options.timeout)
                                  : std::chrono::milliseconds(kLongest);
  if (options.output != Output::kText) limits.output = kLongestDocument;
  return limits;
}

}  // namespace

Failure FailureOfExec(const kube::ChildExit& ended, const Options& options, bool listed) {
  const std::string said = text::Shorten(text::TrimSpace(ended.error_output), kMostSaid);
  const auto says = [&](const char* what) {
    return ended.error_output.find(what) != std::string::npos;
  };
  if (ended.status == 127 && says("kubectl") && says("env:"))
    return Failure(ExitCode::kError,
                   "kubectl is not in $PATH, and this command looks into the agent's Pod by "
                   "`kubectl exec`");
  if (says("(Forbidden)")) {
    return Failure(ExitCode::kForbidden,
                   fmt::format("{}\nThe right to create pods/exec in namespace {} is missing "
                               "(docs/kubectl-pointsman.md says why it is needed); {}.",
                               said, options.ns, kOnTheNode));
  }
  if (says("not expected: ") && says("--list-format"))
    return Failure(ExitCode::kError,
                   fmt::format("the agent on {} is too old for -o json and -o yaml (it does not "
                               "know --list-format): update it, `kubectl get npx {} -o "
                               "jsonpath={{.status.agentVersion}}` is its version; without -o it "
                               "may do",
                               options.node, options.node));
  if (says("not expected: --list"))
    return Failure(ExitCode::kError,
                   fmt::format("the agent on {} is too old for this command (it does not know "
                               "--list): update it, `kubectl get npx {} -o "
                               "jsonpath={{.status.agentVersion}}` is its version",
                               options.node, options.node));
  if (listed)  // what could be read has been printed
    return Failure(ExitCode::kFailed,
                   fmt::format("the list is not complete, the agent says: {}", said));
  return Failure(ExitCode::kError,
                 fmt::format("`kubectl exec` failed: {}\nDoes the Pod run (`kubectl -n {} get "
                             "pods -o wide`)? Else {}.",
                             said, options.ns, kOnTheNode));
}

ExitCode RunServices(Session& session) {
  const Options& options = session.options;
  if (options.node.empty()) return PrintNodes(session);
  const std::string pod = AgentPod(session.api, options.node);
  std::string not_read;
  std::optional<ServiceNames> names;
  const auto get_names = [&]() -> const ServiceNames& {
    if (!names) names = ReadNames(session.api, not_read);
    return *names;
  };
  const bool text = options.output == Output::kText;
  std::string document;
  Listing listing(get_names, options.service,
                  [&](const std::string& line) { session.out << line << "\n"; });
  kube::ChildExit ended;
  bool listed = false;
  try {
    ended = kube::RunChild(
        CommandLine(options, pod), {},
        [&](std::string_view piece) {
          listed = true;
          if (text) {
            listing.Take(piece);
          } else {
            document += piece;
          }
        },
        LimitsOf(options), session.stop);
  } catch (const kube::ChildKilled& killed) {
    if (session.stop.stop_requested()) return ExitCode::kNotFinished;
    throw Failure(ExitCode::kNotFinished,
                  fmt::format("no complete answer from the Pod {}: {}", pod, killed.limit));
  }
  listing.End();
  if (ended.status != 0) throw FailureOfExec(ended, options, listed);
  nlohmann::json services = nlohmann::json::array();
  if (!text) services = ListedServices(document, get_names, options.service);
  if (!options.service.empty() && (text ? listing.services() : services.size()) == 0) {
    throw Failure(
        ExitCode::kNotFound,
        fmt::format(
            "the kernel of {} has nothing of {}{}; `kubectl pointsman services "
            "{}` prints all that it has",
            options.node, text::Quote(options.service),
            not_read.empty() ? "" : " by that name (Services cannot be read: " + not_read + ")",
            options.node));
  }
  if (!text) {
    PrintDocument(session, {{"node", options.node}, {"services", std::move(services)}});
  } else if (listing.nameless() && !not_read.empty()) {
    session.out << "\n- has no name in the kernel, and Services cannot be read: "
                << text::Escape(not_read) << "\n";
  }
  return ExitCode::kOk;
}

}  // namespace pointsman::plugin

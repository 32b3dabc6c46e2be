#include "kubectl-pointsman/commands.h"

#include <algorithm>
#include <functional>
#include <optional>

#include "kubectl-pointsman/asked_nodes.h"
#include "kubectl-pointsman/diff.h"
#include "kubectl-pointsman/document.h"
#include "kubectl-pointsman/explain.h"
#include "kubectl-pointsman/follow.h"
#include "kubectl-pointsman/history.h"
#include "kubectl-pointsman/manifest_file.h"
#include "kubectl-pointsman/preflight.h"
#include "kubectl-pointsman/status.h"

namespace pointsman::plugin {
namespace {

// Whether `message` has `node` as a whole word: "node-1" is not in "node-10: …".
bool Names(const std::string& message, const std::string& node) {
  const auto part_of_name = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
  };
  for (size_t at = message.find(node); at != std::string::npos; at = message.find(node, at + 1)) {
    const size_t end = at + node.size();
    if ((at == 0 || !part_of_name(message[at - 1])) &&
        (end == message.size() || !part_of_name(message[end])))
      return true;
  }
  return false;
}

// Calls `read`, and remembers when that is not allowed: the rest is told all the same.
void IfAllowed(const std::string& what, std::vector<std::string>& not_read,
               const std::function<void()>& read) {
  try {
    read();
  } catch (const kube::ApiError& error) {
    if (!error.IsForbidden()) throw;
    not_read.push_back(what + ": " + error.what());
  }
}

ExplainInput FetchForExplain(Api& api, const std::string& name) {
  ExplainInput input;
  input.name = name;
  input.now = Now();
  input.proxy = api.NodeProxy(name);
  IfAllowed("the Node", input.not_read, [&] {
    for (kube::Node& node : api.Nodes()) {
      if (node.name == name) input.node = std::move(node);
    }
  });
  if (input.proxy && !input.proxy->spec.configuration.empty()) {
    const kube::Json object = api.RawConfigurationOrNull(input.proxy->spec.configuration);
    if (!object.is_null()) input.configuration = kube::ProxyConfigurationFromJson(object);
  }
  if (input.proxy && input.proxy->spec.provider == kube::Provider::kKubeProxy)
    IfAllowed("kube-proxy's Pods", input.not_read,
              [&] { input.kube_proxy_pods = api.KubeProxyPods(name); });
  IfAllowed("Events", input.not_read, [&] {
    for (Event& event : api.EventsAbout("Node", name)) {
      if (event.component.starts_with("pointsman")) input.events.push_back(std::move(event));
    }
    if (!input.configuration) return;
    for (Event& event : api.EventsAbout("ProxyConfiguration", input.configuration->name)) {
      if (Names(event.message, name)) input.events.push_back(std::move(event));
    }
  });
  std::stable_sort(input.events.begin(), input.events.end(),
                   [](const Event& a, const Event& b) { return a.last < b.last; });
  return input;
}

}  // namespace

bool PrintDocument(Session& session, const nlohmann::json& document) {
  if (session.options.output == Output::kJson) {
    session.out << JsonDocument(document);
  } else if (session.options.output == Output::kYaml) {
    session.out << YamlDocument(document);
  } else {
    return false;
  }
  return true;
}

ExitCode RunStatus(Session& session) {
  const Options& options = session.options;
  const bool each_node = options.each_node || options.output == Output::kWide;
  const bool document = options.output == Output::kJson || options.output == Output::kYaml;
  if (document && options.watch)
    throw Failure(ExitCode::kError, "--watch prints text: leave out --output, or --watch");
  const Terminal terminal = Terminal::OfStandardOutput();
  if (options.watch || (terminal.live && !options.once && !document)) {
    return Follow(session.api, options.name, {each_node, options.timeout}, session.out,
                  session.stop);
  }
  const RolloutView view = FetchRollout(session.api, options.name);
  if (!PrintDocument(session, StatusJson(view)))
    session.out << StatusText(view, each_node, terminal);
  return view.Outcome();
}

ExitCode RunPreflight(Session& session) {
  const Options& options = session.options;
  PreflightReport report;
  {
    // It is gone again before anything is printed.
    std::optional<AskedNodes> asked;
    if (options.ask) asked.emplace(session.api, *options.mode);
    if (asked) asked->AwaitAnswers(options.timeout, session.stop);
    report = MakePreflightReport(*options.mode, session.api.Nodes(),
                                 session.api.AllNodeProxies().proxies, options.nodes);
    if (asked) asked->Finish();
  }
  if (!PrintDocument(session, PreflightJson(report)))
    session.out << PreflightText(report, options.output == Output::kWide);
  return report.Outcome();
}

ExitCode RunExplain(Session& session) {
  const ExplainInput input = FetchForExplain(session.api, session.options.node);
  const Explanation explanation = Explain(input);
  if (!PrintDocument(session, ExplanationJson(input, explanation)))
    session.out << ExplanationText(input, explanation);
  return explanation.outcome;
}

ExitCode RunHistory(Session& session) {
  const kube::ProxyConfiguration configuration = session.api.Configuration(session.options.name);
  const std::vector<HistoryEntry> history = MakeHistory(
      configuration, session.api.Revisions(configuration), session.api.AllNodeProxies().proxies);
  if (!PrintDocument(session, HistoryJson(history))) session.out << HistoryText(history);
  return ExitCode::kOk;
}

ExitCode RunDiff(Session& session) {
  std::vector<std::string> others;
  const std::vector<Manifest> manifests =
      ParseManifests(ReadManifestFile(session.options.file), session.options.file, others);
  DiffInput input;
  input.now = Now();
  input.configurations = session.api.Configurations();
  input.nodes = session.api.Nodes();
  input.proxies = session.api.AllNodeProxies().proxies;
  std::map<std::string, nlohmann::json> live;
  for (const Manifest& manifest : manifests)
    live[manifest.name] = session.api.RawConfigurationOrNull(manifest.name);
  // Of those only that go back to a revision is it needed.
  for (const kube::ProxyConfiguration& configuration : input.configurations) {
    for (StoredRevision& stored : session.api.Revisions(configuration))
      input.revisions.push_back(std::move(stored.revision));
  }
  const Diff diff = MakeDiff(manifests, live, input);
  if (!PrintDocument(session, DiffJson(diff))) {
    session.out << DiffText(diff);
    if (!others.empty())
      session.out << others.size() << " other object" << (others.size() == 1 ? "" : "s")
                  << " in the file, not looked at\n";
  }
  return diff.any() ? ExitCode::kDifferences : ExitCode::kOk;
}

ExitCode RunCommand(Session& session) {
  const std::string& command = session.options.command;
  if (command == "status") return RunStatus(session);
  if (command == "preflight") return RunPreflight(session);
  if (command == "explain") return RunExplain(session);
  if (command == "history") return RunHistory(session);
  if (command == "pause") return RunPause(session, true);
  if (command == "resume") return RunPause(session, false);
  if (command == "rollback") return RunRollback(session);
  if (command == "diff") return RunDiff(session);
  if (command == "services") return RunServices(session);
  if (command == "migrate") return RunMigrate(session);
  throw std::logic_error("no command " + command);
}

}  // namespace pointsman::plugin

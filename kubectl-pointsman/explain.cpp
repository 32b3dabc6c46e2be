#include "kubectl-pointsman/explain.h"

#include <algorithm>

#include <fmt/format.h>

#include "kubectl-pointsman/gates.h"
#include "kubectl-pointsman/remedy.h"
#include "kubectl-pointsman/rollout_view.h"
#include "kubectl-pointsman/terminal.h"
#include "operator/plan/kube_proxy_daemon_set.h"

namespace pointsman::plugin {
namespace {

using kube::Condition;
using kube::ConditionStatus;
using kube::NodeProxy;

constexpr size_t kMostEvents = 8;

class Explainer {
 public:
  explicit Explainer(const ExplainInput& input) : input_(input) {}

  Explanation Run() {
    if (!input_.proxy) {
      WithoutProxy();
      return std::move(result_);
    }
    proxy_ = &*input_.proxy;
    Order();
    Rollout();
    KubeProxy();
    Modes();
    Handover();
    Conditions();
    Neighbours();
    return std::move(result_);
  }

 private:
  void Say(std::string text) { result_.findings.push_back({false, std::move(text), ""}); }
  void Trouble(std::string text, std::string_view remedy) {
    result_.findings.push_back({true, std::move(text), std::string(remedy)});
  }
  const Condition* Find(const char* type) const {
    return FindCondition(proxy_->status.conditions, type);
  }
  bool HasSpoken() const { return proxy_->status.observed_generation >= proxy_->generation; }
  static std::string Desired(const NodeProxy& proxy) {
    return std::string(kube::ToString(proxy.spec.settings.mode));
  }

  void WithoutProxy() {
    result_.outcome = ExitCode::kNotFound;
    if (!input_.node) {
      Trouble("There is no node of this name.", "`kubectl get nodes` lists the nodes");
      return;
    }
    Trouble(
        "The node has no NodeProxy: no ProxyConfiguration selects it, or it cannot run the node "
        "agent. Pointsman does nothing there.",
        "see spec.nodeSelector and the condition NodesWithoutAgent of the ProxyConfigurations "
        "(`kubectl describe pxc`)");
  }

  void Order() {
    const auto& spec = proxy_->spec;
    const std::string& active = proxy_->status.active_mode;
    const bool configured = spec.provider == kube::Provider::kKubeProxy;
    const std::string none =
        configured ? "runs no mode as far as its agent sees" : "runs no mode of Pointsman's";
    const std::string runs = active.empty() ? none : "runs " + active;
    if (spec.removed) {
      Say("No ProxyConfiguration wants this node any more, so Pointsman's rules are taken out of "
          "its kernel; it " +
          runs + ".");
    } else if (spec.revision == 0) {
      Say(fmt::format(
          "ProxyConfiguration {} governs it and has asked nothing of it yet but what it "
          "could run; it {}.",
          spec.configuration, runs));
    } else {
      Say(fmt::format("{} should run {} (revision {} of ProxyConfiguration {}) and {}.",
                      configured ? "Its kube-proxy" : "It", Desired(*proxy_), spec.revision,
                      spec.configuration, runs));
    }
    if (!HasSpoken()) {
      result_.outcome = ExitCode::kNotFinished;
      const bool never = proxy_->status.agent_version.empty();
      Trouble(never ? "Its agent has never reported."
                    : fmt::format("Its agent (version {}) has not seen the present order yet.",
                                  proxy_->status.agent_version),
              "does its Pod run there? `kubectl -n pointsman-system get pods -o wide "
              "--field-selector spec.nodeName=" +
                  input_.name + "`");
    }
    if (input_.node && !input_.node->ready) {
      Trouble(input_.node->silent ? "The node's kubelet has fallen silent."
                                  : "The Node itself is not Ready.",
              "`kubectl describe node " + input_.name + "` says why");
    }
  }

  // What the ProxyConfiguration's rollout means for this node.
  void Rollout() {
    if (!input_.configuration || proxy_->spec.removed) return;
    const kube::ProxyConfiguration& configuration = *input_.configuration;
    const int64_t update = configuration.status.update_revision;
    const bool back = kube::IsTrue(configuration.status.conditions, "RolledBack");
    const int64_t target = back ? configuration.status.current_revision : update;
    if (back) {
      const Condition* const why = FindCondition(configuration.status.conditions, "RolledBack");
      Trouble(fmt::format("Revision {} was rolled back on all nodes: {}", update, why->message),
              "mend the reason and change the ProxyConfiguration: any change of it is a new try");
    }
    if (target == 0 || IsOrdered(*proxy_, target)) return;
    if (configuration.spec.rollout.paused) {
      Say(
          fmt::format("Revision {} has not got here: the rollout is paused (`kubectl pointsman "
                      "resume` goes on).",
                      target));
    } else {
      Say(fmt::format("Revision {} has not got here yet; the rollout is in phase {}.", target,
                      configuration.status.phase));
    }
    if (result_.outcome == ExitCode::kOk) result_.outcome = ExitCode::kNotFinished;
  }

  // Which file kube-proxy has there, and which Pod is waited for.
  void KubeProxy() {
    const std::string bound = input_.node ? op::BoundTo(*input_.node) : "";
    if (proxy_->spec.provider != kube::Provider::kKubeProxy && bound.empty()) return;
    if (input_.node && bound.empty()) {
      Say("It has no label pointsman.io/kube-proxy-revision: its kube-proxy reads the cluster's "
          "own ConfigMap.");
    } else if (input_.node) {
      Say(
          fmt::format("It is bound to revision {} of kube-proxy's configuration by its label "
                      "pointsman.io/kube-proxy-revision.",
                      bound));
    }
    if (!input_.node || !input_.kube_proxy_pods) return;
    const kube::Pod* own = nullptr;
    for (const kube::Pod& pod : *input_.kube_proxy_pods) {
      const auto label = pod.labels.find(op::kRevisionLabel);
      // Without a binding one that the cluster's DaemonSet has adopted is as good.
      if (bound.empty() || (label != pod.labels.end() && label->second == bound)) {
        if (own == nullptr || pod.ready) own = &pod;
      } else {
        Say(fmt::format("Pod {} is there, too: it {}.", pod.name,
                        pod.ready ? "serves until its end" : "is not Ready"));
      }
    }
    const std::string which = bound.empty() ? "" : " of revision " + bound;
    if (own == nullptr) {
      Trouble("There is no Pod of kube-proxy" + which + " on it yet.",
              "`kubectl -n kube-system get daemonsets,pods -l " + std::string(op::kRevisionLabel) +
                  "` shows what there is");
    } else if (!own->ready || own->deleting) {
      Trouble(fmt::format("kube-proxy's Pod {}{} {}.", own->name, which,
                          own->deleting ? "ends" : "is not Ready"),
              "`kubectl -n kube-system describe pod " + own->name + "`, and its log");
    } else {
      Say(fmt::format("kube-proxy's Pod {}{} is Ready.", own->name, which));
    }
    const bool waits = own == nullptr || !own->ready || own->deleting;
    if (waits && result_.outcome == ExitCode::kOk) result_.outcome = ExitCode::kNotFinished;
  }

  void Modes() {
    const auto& candidate = proxy_->status.candidate;
    if (!candidate || candidate->passed || !proxy_->spec.candidate) return;
    Trouble(fmt::format("Asked for revision {}, it could not run {} ({}): {}", candidate->revision,
                        kube::ToString(proxy_->spec.candidate->mode),
                        candidate->mode.empty() ? "nor a fallback mode"
                                                : candidate->mode + " would run instead",
                        candidate->message),
            "mend what is missing, or add a mode to spec.fallbackModes");
  }

  void Handover() {
    const auto& status = proxy_->status;
    if (!status.draining_mode.empty()) {
      Say(
          fmt::format("The mode before, {}, still carries {} connections; it goes when they have "
                      "ended, or after handover.drainTimeout.",
                      status.draining_mode, status.draining_connections));
    }
    if (status.impact && status.impact->revision == proxy_->spec.revision) {
      if (const std::string impact = ImpactText(*status.impact); !impact.empty())
        Say(fmt::format("Of the change to revision {}: {}.", status.impact->revision, impact));
    }
    const Condition* const degraded = Find("Degraded");
    if (degraded == nullptr || degraded->status == ConditionStatus::kTrue) return;
    if (degraded->reason != "HandoverWatched" && degraded->reason != "HandoverWaiting") return;
    result_.outcome = ExitCode::kNotFinished;
    Say(fmt::format("A handover is under way: {}", degraded->message));
  }

  // What has gone wrong says it in several conditions: each text once.
  void Conditions() {
    std::vector<std::string> said;
    for (const char* type : {"Degraded", "PreflightPassed", "ModulesLoaded", "RulesSynced", "Ready",
                             "ServicesAccepted"}) {
      const Condition* const condition = Find(type);
      if (condition == nullptr || condition->status == ConditionStatus::kUnknown) continue;
      const bool good_when_true = std::string_view(type) != "Degraded";
      if ((condition->status == ConditionStatus::kTrue) == good_when_true) continue;
      if (!good_when_true || std::string_view(type) == "Ready") result_.outcome = Worse(*condition);
      const std::string& text = condition->message.empty() ? condition->reason : condition->message;
      const bool again = std::any_of(said.begin(), said.end(), [&](const std::string& other) {
        return other.find(text) != std::string::npos;
      });
      if (again) continue;
      said.push_back(text);
      Trouble(fmt::format("{} ({}): {}", type, condition->reason, text),
              RemedyFor(condition->reason));
    }
    const Condition* const ready = Find("Ready");
    if (ready != nullptr && ready->status == ConditionStatus::kTrue) {
      Say(fmt::format(
          "It serves {} Services with {} endpoints; last written {}.", proxy_->status.services,
          proxy_->status.endpoints,
          proxy_->status.last_sync.empty() ? "at no known time" : proxy_->status.last_sync));
    }
    const Condition* const preflight = Find("PreflightPassed");
    if (preflight != nullptr && preflight->status == ConditionStatus::kTrue &&
        !preflight->message.empty())
      Say("Of this mode there is to know: " + preflight->message);
  }

  ExitCode Worse(const Condition& condition) const {
    if (condition.reason == "Removed" || condition.reason == "Retrying") return result_.outcome;
    if (result_.outcome == ExitCode::kFailed) return ExitCode::kFailed;
    if (condition.reason == "Fallback") return ExitCode::kObjections;
    return condition.reason == "NotSynced" ? ExitCode::kNotFinished : ExitCode::kFailed;
  }

  void Neighbours() {
    for (const kube::NeighbourStatus& neighbour : proxy_->status.neighbours) {
      std::string levels;
      for (const auto& [mode, level] : neighbour.modes) {
        if (level != "Fine") levels += (levels.empty() ? "" : ", ") + mode + " " + level;
      }
      if (levels.empty()) continue;
      Say(fmt::format("At work beside it: {} ({}), for which {}. {}", neighbour.name,
                      neighbour.kind, levels, neighbour.message));
    }
  }

  const ExplainInput& input_;
  const NodeProxy* proxy_ = nullptr;
  Explanation result_;
};

}  // namespace

Explanation Explain(const ExplainInput& input) {
  return Explainer(input).Run();
}

std::string ExplanationText(const ExplainInput& input, const Explanation& explanation) {
  std::string text = "Node " + Line(input.name);
  if (input.proxy && !input.proxy->status.kernel_release.empty())
    text += ", kernel " + Line(input.proxy->status.kernel_release);
  text += "\n";
  for (const Finding& finding : explanation.findings) {
    text += std::string(finding.trouble ? "! " : "  ") + Line(finding.text) + "\n";
    if (!finding.remedy.empty()) text += "    What to do: " + Line(finding.remedy) + ".\n";
  }
  const size_t skipped = input.events.size() - std::min(input.events.size(), kMostEvents);
  if (!input.events.empty()) text += "Events\n";
  Table table;
  for (size_t i = skipped; i < input.events.size(); ++i) {
    const Event& event = input.events[i];
    table.Add({event.last, event.type, event.reason,
               event.count > 1 ? fmt::format("{} ({} times)", event.message, event.count)
                               : event.message});
  }
  text += table.Text("  ");
  for (const std::string& missing : input.not_read)
    text += "Not read: " + Line(missing) + "\n";
  return text;
}

nlohmann::json ExplanationJson(const ExplainInput& input, const Explanation& explanation) {
  using nlohmann::json;
  json findings = json::array();
  for (const Finding& finding : explanation.findings)
    findings.push_back(
        {{"trouble", finding.trouble}, {"text", finding.text}, {"remedy", finding.remedy}});
  json events = json::array();
  for (const Event& event : input.events)
    events.push_back({{"type", event.type},
                      {"reason", event.reason},
                      {"message", event.message},
                      {"last", event.last},
                      {"count", event.count}});
  json object = {{"node", input.name}, {"findings", findings}, {"events", events}};
  if (input.proxy) {
    object["desiredMode"] = kube::ToString(input.proxy->spec.settings.mode);
    object["activeMode"] = input.proxy->status.active_mode;
    object["configuration"] = input.proxy->spec.configuration;
  }
  return object;
}

}  // namespace pointsman::plugin

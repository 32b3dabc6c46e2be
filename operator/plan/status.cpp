#include "operator/plan/status.h"

#include "kube/pointsman/settings_json.h"
#include "kube/pointsman/status_bounds.h"
#include "kube/text/text.h"
#include "operator/plan/node_list.h"

namespace pointsman::op {
namespace {

using kube::Condition;
using kube::ConditionStatus;
using kube::ProxyConfiguration;
using kube::ProxyConfigurationStatus;
using kube::TimePoint;

// Of each node's own words, in bytes.
constexpr size_t kMostReason = 300;

constexpr ConditionStatus kTrue = ConditionStatus::kTrue;
constexpr ConditionStatus kFalse = ConditionStatus::kFalse;
constexpr ConditionStatus kUnknown = ConditionStatus::kUnknown;

constexpr std::array<std::string_view, 10> kOwnConditions{
    "Accepted", "PreflightPassed", "Progressing", "Available",         "Degraded",
    "Paused",   "RolledBack",      "ClockSkew",   "NodesWithoutAgent", "KubeProxyReplaced"};

// The status being written: conditions keep their transition times.
class Writer {
 public:
  Writer(const ProxyConfiguration& configuration, TimePoint now)
      : status(configuration.status),
        generation_(configuration.generation),
        now_(kube::FormatTime(now)) {
    status.observed_generation = generation_;
    kube::KeepRoomFor(kOwnConditions, status.conditions);
  }
  void Set(const char* type, ConditionStatus value, const char* reason,
           const std::string& message) {
    if (std::find(kOwnConditions.begin(), kOwnConditions.end(), type) == kOwnConditions.end())
      throw std::logic_error(std::string("kOwnConditions lacks ") + type);
    kube::SetCondition(status.conditions, {type, value, reason, message, "", generation_}, now_);
  }
  void Unset(const char* type) {
    std::erase_if(status.conditions, [type](const Condition& each) { return each.type == type; });
  }
  // As it is written: compared with what the server has, it differs only where it changed.
  ProxyConfigurationStatus Take() {
    kube::KeepToSchema(status);
    return std::move(status);
  }
  ProxyConfigurationStatus status;

 private:
  const int64_t generation_;
  const std::string now_;
};

std::vector<std::string> Names(const std::vector<const NodeView*>& views) {
  std::vector<std::string> names;
  names.reserve(views.size());
  for (const NodeView* view : views)
    names.push_back(view->name());
  return names;
}

// "n3 (kernel 6.18 has no ip_vs; runs iptables), n4", at most ten nodes.
std::string WithReasons(const std::vector<const NodeView*>& views,
                        const std::function<std::string(const NodeView&)>& reason) {
  std::vector<std::string> lines;
  lines.reserve(views.size());
  for (const NodeView* view : views) {
    const std::string why = text::Shorten(reason(*view), kMostReason);
    lines.push_back(view->name() + (why.empty() ? "" : " (" + why + ")"));
  }
  return NodeList(lines);
}

std::string ModeName(const RolloutState& state) {
  return std::string(kube::ToString(state.target.settings.mode));
}

std::string RevisionName(int64_t number) {
  return "revision " + std::to_string(number);
}

// Why the rollout failed: gates alone, or nodes that did not get there, too.
constexpr const char* kGateTripped = "GateTripped";
const char* FailureReason(const RolloutState& state) {
  const bool gates = std::all_of(state.failed.begin(), state.failed.end(),
                                 [](const NodeView* view) { return view->tripped.has_value(); });
  return gates ? kGateTripped : "NodeFailed";
}

void SetTrippedGates(const RolloutState& state, ProxyConfigurationStatus& status) {
  if (state.rolled_back) return;  // what led to it
  status.tripped_gates.clear();
  for (const NodeView* view : state.failed) {
    if (view->tripped) status.tripped_gates.push_back(*view->tripped);
  }
}

void CountNodes(const RolloutState& state, ProxyConfigurationStatus& status) {
  status.nodes = {};
  status.modes.clear();
  for (const NodeView& view : state.nodes) {
    ++status.nodes.desired;
    if (view.applied()) ++status.nodes.updated;
    if (view.serving) ++status.nodes.ready;
    if (view.RunsAnother(state.target.settings.mode)) ++status.nodes.fallback;
    if (view.degraded || !view.failure.empty() || view.stage == Stage::kUnable)
      ++status.nodes.degraded;
    if (!view.running_mode.empty()) ++status.modes[view.running_mode];
  }
}

void SetAccepted(const Group& group, Writer& writer) {
  if (group.rejected_reason.empty()) {
    std::string message = "the specification is valid and in effect";
    // With provider KubeProxy it is in kube-proxy's own file.
    const kube::ProxyConfigurationSpec& spec = group.configuration->spec;
    if (spec.provider == kube::Provider::kNodeAgent && kube::CannotTellPods(spec.settings)) {
      message += "; clusterCIDR is " + std::string(kube::kCannotTellPods);
    }
    writer.Set("Accepted", kTrue, "Valid", message);
  } else {
    writer.Set("Accepted", kFalse, group.rejected_reason.c_str(),
               group.rejected_message +
                   ". Nodes that this ProxyConfiguration governs stay as "
                   "they are.");
  }
}

void SetPreflight(const RolloutState& state, Writer& writer) {
  std::vector<const NodeView*> cannot;
  for (const NodeView& view : state.nodes) {
    if (!view.cannot_run.empty()) cannot.push_back(&view);
  }
  const std::string mode = ModeName(state);
  std::string known;
  if (!cannot.empty()) {
    known = NodeCount(cannot.size()) + " of " + std::to_string(state.nodes.size()) +
            " cannot run " + mode + ": " + WithReasons(cannot, [](const NodeView& view) {
              // An answer with a mode that there is not was refused (TakeAnswer).
              std::string runs = view.running_mode;
              if (!view.at_target())
                runs =
                    view.stage == Stage::kAble ? view.governed.proxy->status.candidate->mode : "";
              return view.cannot_run + (view.at_target() ? "; runs " : "; would run ") +
                     (runs.empty() ? "no mode at all" : runs);
            });
  }
  const std::string more = known.empty() ? "" : "; " + known;
  if (!state.waiting.empty()) {
    writer.Set("PreflightPassed", kUnknown, "WaitingForAgents",
               "waiting for the node agent of " + NodeList(Names(state.waiting)) +
                   " to say whether it can run " + mode + more);
  } else if (!cannot.empty()) {
    writer.Set("PreflightPassed", kFalse, "NodesCannotRunMode", known);
  } else if (!state.agentless.empty()) {
    writer.Set("PreflightPassed", kUnknown, "AgentsMissing",
               "no answer from the node agent of " + NodeList(Names(state.agentless)) +
                   ": does its pod run there?");
  } else {
    writer.Set("PreflightPassed", kTrue, "NodesCanRunMode",
               "every node that can be reached can run " + mode);
  }
}

std::vector<const NodeView*> In(const RolloutState& state, Takeover takeover) {
  std::vector<const NodeView*> views;
  for (const NodeView& view : state.nodes) {
    if (view.takeover == takeover) views.push_back(&view);
  }
  return views;
}

std::vector<const NodeView*> Taking(const RolloutState& state) {
  std::vector<const NodeView*> views;
  for (const NodeView& view : state.nodes) {
    if (view.taking_over()) views.push_back(&view);
  }
  return views;
}

void SetKubeProxy(const Group& group, const RolloutState& state, const KubeProxy& kube_proxy,
                  Writer& writer) {
  constexpr const char* kType = "KubeProxyReplaced";
  const auto note = [](const NodeView& view) { return view.takeover_note; };
  const bool wanted = group.configuration->spec.kube_proxy == kube::KubeProxyPolicy::kTakeOver;
  const std::vector<const NodeView*> unknown = In(state, Takeover::kUnknown);
  const std::vector<const NodeView*> overdue = In(state, Takeover::kOverdue);
  const std::vector<const NodeView*> cannot = In(state, Takeover::kCannot);
  const std::vector<const NodeView*> pending = In(state, Takeover::kPending);
  const std::vector<const NodeView*> taking = Taking(state);
  const std::string beside = ". There kube-proxy and Pointsman stand side by side.";
  if (!unknown.empty()) {
    writer.Set(kType, kUnknown, "KubeProxyUnknown",
               "kube-proxy's Pods are left as they are: " + kube_proxy.unknown());
  } else if (!wanted && !taking.empty()) {
    writer.Set(
        kType, kFalse, "Returning",
        "spec.kubeProxy.policy is Leave; kube-proxy comes back on " + NodeList(Names(taking)));
  } else if (!wanted) {
    writer.Unset(kType);
  } else if (kube_proxy.reverted()) {
    writer.Set(kType, kFalse, "DaemonSetReverted",
               "somebody (an addon manager?) has put DaemonSet " + kube_proxy.name() +
                   " back, so that it has Pods on nodes that were taken over. It is changed again, "
                   "ever more seldom if that goes on" +
                   beside);
  } else if (!overdue.empty()) {
    writer.Set(kType, kFalse, "NodesNotReplaced",
               "kube-proxy or its rules did not go within the progress deadline on " +
                   WithReasons(overdue, note) + beside);
  } else if (!taking.empty()) {
    writer.Set(kType, kFalse, "TakingOver",
               std::to_string(In(state, Takeover::kDone).size()) + " of " +
                   NodeCount(state.nodes.size()) +
                   " without kube-proxy; still to come: " + WithReasons(taking, note));
  } else if (!pending.empty()) {
    writer.Set(kType, kFalse, "NodesNotServed",
               "kube-proxy stays where Pointsman does not serve: " + NodeList(Names(pending)));
  } else if (!cannot.empty()) {
    writer.Set(
        kType, kFalse, "CannotBeTakenOff",
        "kube-proxy cannot be taken off by the API on " + WithReasons(cannot, note) + beside);
  } else if (state.nodes.empty()) {
    writer.Set(kType, kFalse, "NoNodes", "no node is governed by this ProxyConfiguration");
  } else {
    const auto cleaned =
        std::count_if(state.nodes.begin(), state.nodes.end(),
                      [](const auto& view) { return view.taken_over_since.has_value(); });
    const std::string nodes = NodeCount(state.nodes.size());
    writer.Set(kType, kTrue, "NodesReplaced",
               kube_proxy.has_daemon_set()
                   ? "no Pod of kube-proxy is on " + nodes + ", and its rules are gone from " +
                         std::to_string(cleaned) + " of them; DaemonSet " + kube_proxy.name() +
                         " gets its Pods back with this deleted"
                   : "there is no DaemonSet " + kube_proxy.name() +
                         ", and no Pod of kube-proxy is on " + nodes);
  }
}

struct Outlook {
  const char* phase;
  ConditionStatus progressing;
  const char* reason;
  std::string message;
};

Outlook Look(const RolloutState& state) {
  const int64_t total = static_cast<int64_t>(state.nodes.size());
  int64_t available = 0;
  std::vector<const NodeView*> moving;
  std::vector<const NodeView*> unable;
  for (const NodeView& view : state.nodes) {
    if (view.available()) ++available;
    if (view.at_target() && view.changing() && view.failure.empty()) moving.push_back(&view);
    if (view.stage == Stage::kUnable) unable.push_back(&view);
  }
  const std::string so_far = std::to_string(available) + " of " + NodeCount(state.nodes.size()) +
                             " ready at " + RevisionName(state.target.number) + " (" +
                             ModeName(state) + ")";
  std::string now_changing =
      moving.empty() ? so_far : so_far + "; changing: " + NodeList(Names(moving));
  if (const auto taking = Taking(state); !taking.empty())
    now_changing += "; kube-proxy is still to be exchanged on " + NodeCount(taking.size());
  if (total == 0 && state.leaving.empty()) {
    return {phase::kPending, kFalse, "NoNodes", "no node is governed by this ProxyConfiguration"};
  }
  if (state.roll_back_now) {
    return {phase::kRollingBack, kTrue, "RollingBack", "rolling back to the last good revision"};
  }
  if (state.rolled_back) {
    if (state.complete) return {phase::kRolledBack, kFalse, "RolledBack", so_far};
    return {phase::kRollingBack, kTrue, "RollingBack", now_changing};
  }
  if (state.complete && state.leaving.empty() && Taking(state).empty()) {
    const std::string more = state.write_back_note.empty() ? "" : "; " + state.write_back_note;
    if (state.writing_back && !state.paused)
      return {phase::kRollingOut, kTrue, "WritingBack", so_far + more};
    return {phase::kComplete, kFalse, "RolloutComplete", so_far + more};
  }
  if (!state.failed.empty()) {
    return {phase::kDegraded, kFalse, "RolloutStopped",
            so_far + "; stopped: a node failed, see condition Degraded"};
  }
  if (state.paused) {
    return {phase::kPaused, kFalse, "Paused", now_changing + "; spec.rollout.paused is set"};
  }
  if (!state.preflight_done && state.waiting.empty()) {
    return {phase::kDegraded, kFalse, "PreflightFailed",
            "no node is changed: " + NodeCount(unable.size()) + " cannot run " + ModeName(state) +
                ", see condition PreflightPassed. Choose another mode, or leave them out of "
                "spec.nodeSelector"};
  }
  if (!state.preflight_done) {
    return {phase::kPreflight, kTrue, "Preflight",
            "waiting for " + NodeCount(state.waiting.size()) + " to answer the preflight for " +
                ModeName(state) + " before any node is changed"};
  }
  const std::vector<const NodeView*> overdue = In(state, Takeover::kOverdue);
  if (!state.canary_done && !overdue.empty() && moving.empty() && state.moving == 0) {
    return {phase::kDegraded, kFalse, "KubeProxyNotReplaced",
            so_far +
                "; stopped: kube-proxy does not go from a canary, see condition "
                "KubeProxyReplaced"};
  }
  if (!state.canary_done) {
    std::string soaking =
        moving.empty() && state.starting == 0 && Taking(state).empty() ? "; the canaries soak" : "";
    if (!state.draining_canaries.empty()) {
      soaking +=
          "; gate cutConnections waits until enough connections of the mode before have "
          "ended on " +
          NodeList(Names(state.draining_canaries));
    }
    return {phase::kCanary, kTrue, "Canary",
            NodeCount(state.canaries) + " first; " + now_changing + soaking};
  }
  const bool going_on = !moving.empty() || !state.waiting.empty() || state.starting > 0 ||
                        !state.leaving.empty() || !Taking(state).empty();
  if (!going_on && (!unable.empty() || !state.agentless.empty())) {
    return {phase::kDegraded, kFalse, "NodesLeftOut",
            so_far + "; left out: " + NodeList(Names(!unable.empty() ? unable : state.agentless))};
  }
  return {phase::kRollingOut, kTrue, "RollingOut", now_changing};
}

void SetDegraded(const RolloutState& state, Writer& writer) {
  std::vector<const NodeView*> down;
  std::vector<const NodeView*> unable;
  std::vector<const NodeView*> unreachable;
  std::vector<const NodeView*> troubled;
  for (const NodeView& view : state.nodes) {
    if (!view.reachable) {
      unreachable.push_back(&view);
    } else if (view.stage == Stage::kUnable) {
      unable.push_back(&view);
    } else if (view.down() && view.applied()) {
      down.push_back(&view);
    } else if (view.degraded) {
      troubled.push_back(&view);
    }
  }
  const auto said = [](const NodeView& view, const char* type) {
    const Condition* condition = FindCondition(view.governed.proxy->status.conditions, type);
    return condition == nullptr ? std::string("no reason given") : condition->message;
  };
  if (!state.failed.empty()) {
    writer.Set("Degraded", kTrue, FailureReason(state),
               RevisionName(state.target.number) + " failed on " +
                   WithReasons(state.failed, [](const NodeView& view) { return view.failure; }) +
                   (FailureReason(state) == std::string_view(kGateTripped)
                        ? ". Where that is acceptable, raise the bound in spec.rollout.gates, or "
                          "make it Unlimited"
                        : ""));
  } else if (!unable.empty()) {
    writer.Set("Degraded", kTrue, "NoModeCanRun",
               "unchanged, because neither " + ModeName(state) + " nor a fallback mode can run: " +
                   WithReasons(unable, [](const NodeView& view) { return view.cannot_run; }));
  } else if (!state.agentless.empty()) {
    writer.Set("Degraded", kTrue, "AgentsMissing",
               "no answer from the node agent of " + NodeList(Names(state.agentless)) +
                   ": does its pod run there? These nodes are left as they are until it answers.");
  } else if (!down.empty()) {
    writer.Set("Degraded", kTrue, "NodesNotReady",
               WithReasons(down, [&](const NodeView& view) { return said(view, "Ready"); }));
  } else if (!troubled.empty()) {
    writer.Set("Degraded", kTrue, "NodesDegraded",
               WithReasons(troubled, [&](const NodeView& view) { return said(view, "Degraded"); }));
  } else if (!unreachable.empty()) {
    writer.Set("Degraded", kTrue, "NodesUnreachable",
               "NotReady, and the node agent does not answer: " + NodeList(Names(unreachable)) +
                   ". What is not updated there will be when they come back.");
  } else {
    writer.Set("Degraded", kFalse, "AsExpected", "no node has a problem");
  }
}

// "about 3 h", for clocks that differ, where no more precision is needed.
std::string Roughly(std::chrono::seconds time) {
  using std::chrono::days;
  using std::chrono::hours;
  using std::chrono::minutes;
  using std::chrono::years;
  const auto text = [&](auto unit, const char* name) {
    return "about " + std::to_string(time / decltype(unit){1}) + " " + name;
  };
  if (time >= 2 * years(1)) return text(years(), "years");
  if (time >= days(2)) return text(days(), "days");
  if (time >= hours(2)) return text(hours(), "hours");
  return text(minutes(), "min");
}

void SetWithoutAgent(const Group& group, Writer& writer) {
  if (group.without_agent.empty()) {
    writer.Set("NodesWithoutAgent", kFalse, "AsExpected",
               "every selected node can run the node agent");
    return;
  }
  std::vector<std::string> lines;
  lines.reserve(group.without_agent.size());
  for (const Group::WithoutAgent& node : group.without_agent)
    lines.push_back(node.node.node->name + " (" + text::Shorten(node.reason.why, kMostReason) +
                    ")");
  const bool one = lines.size() == 1;
  writer.Set("NodesWithoutAgent", kTrue, "NodesCannotRunAgent",
             NodeCount(lines.size()) + " cannot run the node agent and " + (one ? "does" : "do") +
                 " not count: " + NodeList(lines));
}

// No wait depends on a node's clock, but certificates and logs do: a person should know.
void SetClockSkew(const RolloutState& state, Writer& writer) {
  std::vector<const NodeView*> skewed;
  for (const NodeView& view : state.nodes) {
    if (view.clock_ahead.count() != 0) skewed.push_back(&view);
  }
  if (skewed.empty()) {
    writer.Set("ClockSkew", kFalse, "AsExpected",
               "no node is known to have a clock that is more than a minute off the operator's");
    return;
  }
  const bool most = skewed.size() > 1 && 2 * skewed.size() > state.nodes.size();
  writer.Set("ClockSkew", kTrue, "ClocksDiffer",
             "clocks that are off the operator's by at least a minute, as of the node's last "
             "report: " +
                 WithReasons(skewed,
                             [](const NodeView& view) {
                               const bool ahead = view.clock_ahead.count() > 0;
                               return Roughly(ahead ? view.clock_ahead : -view.clock_ahead) +
                                      (ahead ? " ahead" : " behind");
                             }) +
                 (most ? ". Most nodes differ from the operator, so it may be the operator's own "
                         "node whose clock is wrong."
                       : ""));
}

void SetAvailable(const Group& group, const RolloutState& state, Writer& writer) {
  std::string lost;
  int64_t lost_nodes = 0;
  for (const auto& [winner, count] : group.lost_to) {
    if (!lost.empty()) lost += ", ";
    lost += winner + " (" + NodeCount(static_cast<size_t>(count)) + ")";
    lost_nodes += count;
  }
  const std::string also = lost.empty() ? ""
                                        : "; " + std::to_string(lost_nodes) + " of " +
                                              NodeCount(static_cast<size_t>(group.selected)) +
                                              " selected are governed by " + lost +
                                              ", which has a higher priority or "
                                              "is older";
  if (state.nodes.empty()) {
    if (group.selected == 0) {
      writer.Set("Available", kFalse, "NoNodesSelected", "no node matches spec.nodeSelector");
    } else if (!group.without_agent.empty()) {
      writer.Set("Available", kFalse, "NoNodesSelected",
                 "no node that runs the node agent matches spec.nodeSelector, see condition "
                 "NodesWithoutAgent" +
                     also);
    } else {
      writer.Set("Available", kFalse, "Superseded",
                 "all " + NodeCount(static_cast<size_t>(group.selected)) +
                     " selected are governed by " + lost +
                     ", which has a higher priority or is older");
    }
    return;
  }
  int64_t available = 0;
  for (const NodeView& view : state.nodes)
    available += view.available() ? 1 : 0;
  const std::string count = std::to_string(available) + " of " + NodeCount(state.nodes.size()) +
                            " ready at " + RevisionName(state.target.number);
  if (state.complete && !state.rolled_back) {
    writer.Set("Available", kTrue, "NodesUpdated", count + also);
  } else if (state.rolled_back) {
    writer.Set("Available", kFalse, "RolledBack",
               RevisionName(state.update_revision) + " was rolled back; " + count + also);
  } else {
    writer.Set("Available", kFalse, "NodesNotUpdated", count + also);
  }
}

void SetRolledBack(const RolloutState& state, const ProxyConfiguration& configuration,
                   Writer& writer) {
  const int64_t current = configuration.status.current_revision;
  const int64_t last_good = current != 0 ? current : state.found_revision;
  if (state.roll_back_now) {
    writer.Set("RolledBack", kTrue, FailureReason(state),
               RevisionName(state.update_revision) + " failed on " +
                   WithReasons(state.failed, [](const NodeView& view) { return view.failure; }) +
                   "; all nodes go back to " + RevisionName(last_good) +
                   ". Edit the specification to try again.");
    return;
  }
  if (state.rolled_back) {
    // The decision's own words stay.
    const Condition* decision = FindCondition(configuration.status.conditions, "RolledBack");
    writer.Set("RolledBack", kTrue, decision->reason.c_str(), decision->message);
    return;
  }
  const bool wanted = configuration.spec.rollout.on_failure == kube::OnFailure::kRollback;
  if (wanted && !state.failed.empty() && last_good != state.update_revision) {
    writer.Set("RolledBack", kFalse, "NoEarlierRevision",
               "there is no earlier revision that ran on all nodes, so there is nothing to go back "
               "to: the rollout stopped instead");
  } else {
    writer.Set("RolledBack", kFalse, "NotRolledBack", "the nodes follow the specification");
  }
}

}  // namespace

ProxyConfigurationStatus StatusOf(const Group& group, const RolloutState& state,
                                  const KubeProxy& kube_proxy, TimePoint now) {
  const ProxyConfiguration& configuration = *group.configuration;
  Writer writer(configuration, now);
  ProxyConfigurationStatus& status = writer.status;
  status.update_revision = state.update_revision;
  if (status.current_revision == 0) status.current_revision = state.found_revision;
  if (state.complete && !state.rolled_back) status.current_revision = state.update_revision;
  CountNodes(state, status);
  SetTrippedGates(state, status);
  const Outlook outlook = Look(state);
  status.phase = outlook.phase;
  SetAccepted(group, writer);
  SetPreflight(state, writer);
  writer.Set("Progressing", outlook.progressing, outlook.reason, outlook.message);
  SetAvailable(group, state, writer);
  SetDegraded(state, writer);
  if (state.paused) {
    writer.Set("Paused", kTrue, "PausedByUser",
               "spec.rollout.paused is set: no further node is changed");
  } else {
    writer.Set("Paused", kFalse, "NotPaused", "spec.rollout.paused is not set");
  }
  SetRolledBack(state, configuration, writer);
  SetClockSkew(state, writer);
  SetWithoutAgent(group, writer);
  SetKubeProxy(group, state, kube_proxy, writer);
  return writer.Take();
}

ProxyConfigurationStatus RejectedStatus(const Group& group, TimePoint now) {
  Writer writer(*group.configuration, now);
  ProxyConfigurationStatus& status = writer.status;
  status.phase = phase::kRejected;
  status.nodes.desired = static_cast<int64_t>(group.nodes.size());
  status.nodes.ready = 0;
  status.modes.clear();
  for (const GovernedNode& node : group.nodes) {
    if (!node.proxy) continue;
    if (kube::IsTrue(node.proxy->status.conditions, "Ready")) ++status.nodes.ready;
    const std::string& mode = node.proxy->status.active_mode;
    if (kube::ParseMode(mode)) ++status.modes[mode];
  }
  SetAccepted(group, writer);
  writer.Set("Progressing", kFalse, group.rejected_reason.c_str(),
             "the specification is not in effect, see condition Accepted");
  if (group.nodes.empty()) {
    writer.Set("Available", kFalse, group.rejected_reason.c_str(),
               "the specification is not in effect, see condition Accepted");
  }
  return writer.Take();
}

ProxyConfigurationStatus PendingStatus(const Group& group, TimePoint now) {
  Writer writer(*group.configuration, now);
  writer.status.phase = phase::kPending;
  SetAccepted(group, writer);
  writer.Set("Progressing", kTrue, "Starting", "publishing the revision");
  return writer.Take();
}

ProxyConfigurationStatus RemovingStatus(const Group& group, size_t left,
                                        const std::vector<std::string>& awaited, TimePoint now) {
  Writer writer(*group.configuration, now);
  writer.status.phase = phase::kRemoving;
  writer.status.nodes = {};
  writer.status.nodes.desired = static_cast<int64_t>(left);
  writer.status.modes.clear();
  std::string message = left > 0
                            ? "being deleted; removing rules from " + NodeCount(left)
                            : "being deleted; kube-proxy's DaemonSet becomes what it was before";
  if (!awaited.empty()) {
    message += "; rules stay until kube-proxy's Pod has been Ready for some seconds on " +
               NodeList(awaited) + " (where none is to run, change its DaemonSet)";
  }
  writer.Set("Progressing", kTrue, "Removing", message);
  writer.Set("Available", kFalse, "Removing", "being deleted");
  return writer.Take();
}

std::vector<PlannedEvent> EventsOf(const ProxyConfiguration& configuration,
                                   const ProxyConfigurationStatus& next, kube::Mode mode) {
  std::vector<PlannedEvent> events;
  const ProxyConfigurationStatus& before = configuration.status;
  // Whether that condition has turned to that status and reason, or tells it of a new generation.
  const auto turned = [&](const char* type, ConditionStatus value) -> const Condition* {
    const Condition* now = FindCondition(next.conditions, type);
    if (now == nullptr || now->status != value) return nullptr;
    const Condition* then = FindCondition(before.conditions, type);
    const bool same = then != nullptr && then->status == value && then->reason == now->reason;
    return same ? nullptr : now;
  };
  if (const Condition* condition = turned("Accepted", kFalse)) {
    events.push_back({true, condition->reason, condition->message});
  }
  if (next.update_revision != before.update_revision && next.update_revision != 0) {
    events.push_back({false, "RolloutStarted",
                      RevisionName(next.update_revision) + " (" +
                          std::string(kube::ToString(mode)) + ") to " +
                          NodeCount(static_cast<size_t>(next.nodes.desired))});
  }
  if (const Condition* condition = turned("PreflightPassed", kFalse)) {
    events.push_back({true, "PreflightFailed", condition->message});
  }
  if (const Condition* condition = turned("Available", kFalse)) {
    if (condition->reason == "Superseded" || condition->reason == "NoNodesSelected") {
      events.push_back({true, condition->reason, condition->message});
    }
  }
  if (const Condition* condition = turned("Degraded", kTrue)) {
    events.push_back({true, condition->reason, condition->message});
  }
  if (const Condition* condition = turned("NodesWithoutAgent", kTrue)) {
    events.push_back({false, condition->reason, condition->message});
  }
  if (const Condition* condition = turned("ClockSkew", kTrue)) {
    events.push_back({true, condition->reason, condition->message});
  }
  for (const ConditionStatus bad : {kFalse, kUnknown}) {
    const Condition* condition = turned("KubeProxyReplaced", bad);
    if (condition == nullptr) continue;
    for (const char* reason :
         {"DaemonSetReverted", "NodesNotReplaced", "CannotBeTakenOff", "KubeProxyUnknown"}) {
      if (condition->reason == reason) events.push_back({true, reason, condition->message});
    }
  }
  if (const Condition* condition = turned("KubeProxyReplaced", kTrue)) {
    events.push_back({false, "KubeProxyReplaced", condition->message});
  }
  if (const Condition* condition = turned("RolledBack", kTrue)) {
    events.push_back({true, "RollingBack", condition->message});
  }
  if (const Condition* condition = turned("Paused", kTrue)) {
    events.push_back({false, "Paused", condition->message});
  }
  const bool new_phase = next.phase != before.phase;
  const bool new_revision = next.current_revision != before.current_revision;
  const Condition* progress = FindCondition(next.conditions, "Progressing");
  if (next.phase == phase::kComplete && (new_phase || new_revision) && progress != nullptr) {
    events.push_back({false, "RolloutComplete", progress->message});
  }
  if (next.phase == phase::kRolledBack && new_phase && progress != nullptr) {
    events.push_back({true, "RolledBack", progress->message});
  }
  return events;
}

}  // namespace pointsman::op

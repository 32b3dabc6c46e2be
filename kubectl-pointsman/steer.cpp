// pause, resume and rollback: one field of the specification each, and nothing else is touched.

#include <fmt/format.h>

#include "kubectl-pointsman/commands.h"
#include "kubectl-pointsman/history.h"
#include "kubectl-pointsman/terminal.h"

namespace pointsman::plugin {
namespace {

std::string PhaseOf(const kube::ProxyConfiguration& configuration) {
  return configuration.status.phase.empty() ? "Pending" : Line(configuration.status.phase);
}

std::string ModeOf(const std::vector<StoredRevision>& revisions, int64_t number) {
  for (const StoredRevision& stored : revisions) {
    if (stored.revision.number == number)
      return std::string(kube::ToString(stored.revision.settings.mode));
  }
  return "";
}

void CheckKept(const std::vector<StoredRevision>& revisions, int64_t number,
               const std::string& name) {
  if (!ModeOf(revisions, number).empty()) return;
  std::string kept;
  for (const StoredRevision& stored : revisions)
    kept += (kept.empty() ? "" : ", ") + std::to_string(stored.revision.number);
  throw Failure(ExitCode::kNotFound,
                fmt::format("--to: ProxyConfiguration {} has no revision {}; kept are: {}", name,
                            number, kept.empty() ? "none" : kept));
}

}  // namespace

ExitCode RunPause(Session& session, bool pause) {
  bool changed = false;
  const kube::ProxyConfiguration configuration = session.api.PatchSpec(
      session.options.name, [&](const kube::ProxyConfiguration& now) -> kube::Json {
        changed = now.spec.rollout.paused != pause;
        if (!changed) return nullptr;
        return {{"rollout", {{"paused", pause}}}};
      });
  const std::string name = Line(configuration.name);
  if (!changed) {
    session.out << fmt::format("ProxyConfiguration {} is {}paused already (phase {})\n", name,
                               pause ? "" : "not ", PhaseOf(configuration));
    const kube::Condition* const degraded =
        FindCondition(configuration.status.conditions, "Degraded");
    const bool stopped =
        !pause && degraded != nullptr && degraded->status == kube::ConditionStatus::kTrue;
    if (stopped && degraded->reason == "GateTripped") {
      session.out << "It stopped at a gate: " << Line(degraded->message) << "\n";
      return ExitCode::kFailed;
    }
    if (stopped && degraded->reason == "NodeFailed") {
      session.out << "It stopped since a node failed; any change of its specification is a new "
                     "try: "
                  << Line(degraded->message) << "\n";
      return ExitCode::kFailed;
    }
  } else if (pause) {
    session.out << fmt::format(
        "ProxyConfiguration {} is paused: no further node begins; one that is changing gets there. "
        "Go on: kubectl pointsman resume\n",
        name);
  } else {
    session.out << fmt::format("ProxyConfiguration {} goes on: kubectl pointsman status\n", name);
  }
  return ExitCode::kOk;
}

ExitCode RunRollback(Session& session) {
  const Options& options = session.options;
  if (options.undo && options.to)
    throw Failure(ExitCode::kError, "--to and --undo: only one of them");
  std::string said;
  const kube::ProxyConfiguration configuration =
      session.api.PatchSpec(options.name, [&](const kube::ProxyConfiguration& now) -> kube::Json {
        const std::string name = Line(now.name);
        if (options.undo) {
          said = now.spec.rollout.rollback_to
                     ? fmt::format("ProxyConfiguration {}: its own settings count again (mode {})",
                                   name, kube::ToString(now.spec.settings.mode))
                     : fmt::format("ProxyConfiguration {} has no spec.rollout.rollbackTo", name);
          if (!now.spec.rollout.rollback_to) return nullptr;
          return {{"rollout", {{"rollbackTo", nullptr}}}};
        }
        const std::vector<StoredRevision> revisions = session.api.Revisions(now);
        const int64_t number = options.to ? *options.to : RevisionBefore(now, revisions);
        CheckKept(revisions, number, name);
        said = fmt::format(
            "ProxyConfiguration {} goes {}to revision {} (mode {}) and stays there, whatever else "
            "its specification says (mode {}), until `kubectl pointsman rollback --undo`",
            name, now.spec.rollout.rollback_to == number ? "already " : "back ", number,
            ModeOf(revisions, number), kube::ToString(now.spec.settings.mode));
        if (now.spec.rollout.rollback_to == number) return nullptr;
        return {{"rollout", {{"rollbackTo", number}}}};
      });
  session.out << said << "\n";
  if (configuration.spec.rollout.paused)
    session.out << "It is paused: no node moves before `kubectl pointsman resume`\n";
  return ExitCode::kOk;
}

}  // namespace pointsman::plugin

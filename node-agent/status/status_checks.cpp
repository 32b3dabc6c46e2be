#include "node-agent/status/status_checks.h"

#include <stdexcept>

#include "kube/objects/service.h"
#include "kube/testing/status_schema.h"
#include "node-agent/status/status_builder.h"

namespace pointsman::agent {
namespace {

std::vector<SyncProblem> ServiceProblems(std::string_view input) {
  std::vector<SyncProblem> problems;
  try {
    const kube::Service service = kube::DecodeService(input);
    for (const std::string& problem : service.problems)
      problems.push_back({service.Key(), problem});
  } catch (const std::invalid_argument& error) {
    problems.push_back({"a/b", error.what()});
  }
  return problems;
}

ModeState Troubled(const std::string& text) {
  ModeState modes;
  modes.desired = kube::Mode::kIpvs;
  modes.active = kube::Mode::kIptables;
  modes.synced_once = true;
  modes.draining_connections = UINT64_MAX;
  modes.preflight = PreflightResult{.passed = false, .reason = text, .message = text};
  for (int i = 0; i < 200; ++i)
    modes.preflight->modules.push_back({text.substr(0, 300) + std::to_string(i), "Missing"});
  modes.fallback_reason = text;
  modes.problems.assign(10, {text, text});
  return modes;
}

}  // namespace

void CheckStatusReport(std::string_view input) {
  const std::string text(input);
  kube::NodeProxy proxy;
  proxy.generation = 3;
  proxy.spec.revision = 7;
  ModeState reverted = Troubled(text);
  reverted.reverted_reason = text;
  ModeState none = Troubled(text);
  none.active.reset();
  std::map<std::string, std::string> failing;
  for (int i = 0; i < 10; ++i)
    failing.emplace(text + std::to_string(i), text);
  for (const ModeState& modes : {Troubled(text), reverted, none}) {
    StatusInput report{.proxy = &proxy,
                       .modes = &modes,
                       .services = SIZE_MAX,
                       .endpoints = SIZE_MAX,
                       .caches_synced = true,
                       .kernel_release = text,
                       .agent_version = text,
                       .services_not_as_written = 1,
                       .not_as_written = ServiceProblems(input),
                       .failing_steps = &failing,
                       .missing = text,
                       .now = "2026-01-02T03:04:05Z"};
    report.sysctls = {{text, text}, {text, text}};
    report.neighbours = {.known = true,
                         .neighbours = {{text, text, {{text, text}, {"ipvs", "Fine"}}, text}},
                         .refusals = {text}};
    report.preflights.assign(10, {text, false, text, text});
    report.preflights.push_back({"ipvs", true, text, text});
    report.candidate = kube::CandidateStatus{7, "ipvs", true, text};
    report.kube_proxy = kube::KubeProxyStatus{text, text};
    const kube::NodeProxyStatus status = BuildStatus(report, {});
    testing::StatusSchema::OfNodeProxy().Check(ToJson(status));
    report.now = "2026-01-02T03:04:06Z";
    if (!(BuildStatus(report, status) == status))
      throw std::logic_error("the same report a second time differs from the first");
  }
}

}  // namespace pointsman::agent

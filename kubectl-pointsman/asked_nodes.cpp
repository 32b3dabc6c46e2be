#include "kubectl-pointsman/asked_nodes.h"

#include <iostream>

#include "kube/pointsman/limits.h"
#include "kube/text/text.h"
#include "kube/time/time_source.h"
#include "kubectl-pointsman/exit_code.h"

namespace pointsman::plugin {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kAskInterval{300};
constexpr std::chrono::seconds kGone{30};
constexpr const char* kLabel = "pointsman.io/preflight-only";

kube::Json PausedConfiguration(kube::Mode mode) {
  return {{"apiVersion", "pointsman.io/v1alpha1"},
          {"kind", "ProxyConfiguration"},
          {"metadata", {{"name", AskedNodes::kName}, {"labels", {{kLabel, "true"}}}}},
          {"spec",
           {{"mode", kube::ToString(mode)},
            {"fallbackModes", kube::Json::array()},
            {"priority", -kube::limits::kMaxPriority},
            {"rollout", {{"paused", true}}}}}};
}

bool IsOurs(const kube::Json& object) {
  const kube::Json::json_pointer labels("/metadata/labels");
  return object.contains(labels) && object.at(labels).contains(kLabel);
}

// The operator has seen it, and waits for no agent.
bool Answered(const kube::ProxyConfiguration& configuration) {
  const kube::Condition* const preflight =
      FindCondition(configuration.status.conditions, "PreflightPassed");
  return configuration.status.observed_generation >= configuration.generation &&
         preflight != nullptr && preflight->reason != "WaitingForAgents";
}

}  // namespace

AskedNodes::AskedNodes(Api& api, kube::Mode mode) : api_(api) {
  const kube::Json left = api_.RawConfigurationOrNull(kName);
  if (!left.is_null()) {
    if (!IsOurs(left))
      throw Failure(ExitCode::kError, std::string("--ask: there is a ProxyConfiguration ") + kName +
                                          " that this program has not made (it has no label " +
                                          kLabel + "): give it another name");
    made_ = kube::ProxyConfigurationFromJson(left);
    Finish();
  }
  made_ = api_.Create(PausedConfiguration(mode));
}

AskedNodes::~AskedNodes() {
  if (!made_) return;
  try {
    api_.Delete(*made_);
  } catch (const std::exception& error) {
    std::cerr << "ProxyConfiguration " << kName << " could not be deleted (`kubectl delete pxc "
              << kName << "`): " << text::Escape(error.what()) << "\n";
  }
}

void AskedNodes::AwaitAnswers(std::chrono::nanoseconds patience, const std::stop_token& stop) {
  const auto deadline =
      Clock::now() + (patience.count() > 0 ? patience : std::chrono::nanoseconds(kPatience));
  while (!stop.stop_requested()) {
    const kube::ProxyConfiguration now = api_.Configuration(kName);
    if (Answered(now)) return;
    if (Clock::now() > deadline) {
      if (now.status.observed_generation == 0)
        throw Failure(ExitCode::kNotFinished,
                      "--ask: no operator has looked at ProxyConfiguration " + std::string(kName) +
                          " (does its Pod run in namespace " + api_.ns() + "?)");
      return;  // the report says which have not answered
    }
    kube::TimeSource::Real().Sleep(kAskInterval, stop);
  }
}

void AskedNodes::Finish() {
  api_.Delete(*made_);
  made_.reset();
  const auto deadline = Clock::now() + kGone;
  while (!api_.RawConfigurationOrNull(kName).is_null()) {
    if (Clock::now() > deadline)
      throw Failure(ExitCode::kError, std::string("ProxyConfiguration ") + kName +
                                          " was deleted and does not go: the operator has to take "
                                          "its finalizer away (does its Pod run?)");
    kube::TimeSource::Real().Sleep(kAskInterval, {});
  }
}

}  // namespace pointsman::plugin

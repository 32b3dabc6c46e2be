#include "node-agent/agent/service_events.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

#include <spdlog/spdlog.h>

namespace pointsman::agent {

void ServiceEvents::Emit(const std::string& kind, const std::string& ns, const std::string& name,
                         const std::string& message) {
  events_.Emit(watches_.ReferenceTo(kind, ns, name), kube::EventType::kWarning,
               "NotServedAsSpecified", node_name_ + ": " + message);
}

void ServiceEvents::SetProblems(std::vector<ModelProblem> problems) {
  std::vector<ModelProblem> unreadable = watches_.Unreadable();
  std::move(unreadable.begin(), unreadable.end(), std::back_inserter(problems));
  std::sort(problems.begin(), problems.end());
  if (problems == problems_) return;
  for (const ModelProblem& problem : problems) {
    if (std::binary_search(problems_.begin(), problems_.end(), problem)) continue;
    spdlog::warn("{} {}: {}", problem.kind, problem.key, problem.message);
    const size_t slash = problem.key.find('/');
    if (slash == std::string::npos) continue;  // not even its name could be read
    Emit(problem.kind, problem.key.substr(0, slash), problem.key.substr(slash + 1),
         problem.message);
  }
  problems_ = std::move(problems);
}

void ServiceEvents::SetWarnings(const std::vector<ServiceWarning>& warnings) {
  if (warnings == warnings_) return;
  for (const ServiceWarning& warning : warnings) {
    if (std::binary_search(warnings_.begin(), warnings_.end(), warning)) continue;
    spdlog::warn("Service {}/{}: {}", warning.ns, warning.service, warning.message);
    Emit("Service", warning.ns, warning.service, warning.message);
  }
  warnings_ = warnings;
}

size_t ServiceEvents::Count() const {
  std::set<std::string> services;
  for (const ModelProblem& problem : problems_)
    services.insert(watches_.ServiceOf(problem));
  for (const ServiceWarning& warning : warnings_)
    services.insert(warning.ns + "/" + warning.service);
  return services.size();
}

std::vector<SyncProblem> ServiceEvents::Some() const {
  constexpr size_t kSome = 3;
  std::vector<SyncProblem> some;
  for (const ModelProblem& problem : problems_) {
    if (some.size() == kSome) return some;
    const bool service = problem.kind == "Service";
    some.push_back({service ? problem.key : problem.kind + " " + problem.key, problem.message});
  }
  for (const ServiceWarning& warning : warnings_) {
    if (some.size() == kSome) return some;
    some.push_back({warning.ns + "/" + warning.service, warning.message});
  }
  return some;
}

}  // namespace pointsman::agent

// A rollout as a person wants to see it, from the objects of the API.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "kube/pointsman/node_proxy.h"
#include "kube/pointsman/proxy_configuration.h"
#include "kube/time/rfc3339.h"
#include "kubectl-pointsman/exit_code.h"

namespace pointsman::plugin {

// This machine's clock.
kube::TimePoint Now();

// What a node lacks to be done.
struct NodeWait {
  std::string node;
  std::string what;
  bool failed = false;  // it will not get there by waiting
};

struct Wave {
  std::string name;  // "canary", "the others"
  int64_t nodes = 0;
  int64_t done = 0;
  std::string note;  // "1 at a time"
};

struct RolloutView {
  kube::ProxyConfiguration configuration;
  int64_t target = 0;       // the revision that the nodes are to run now
  std::string mode;         // of that, as far as it is known
  bool unobserved = false;  // the operator has not seen the present specification yet
  std::vector<Wave> waves;
  std::vector<NodeWait> in_flight;  // by name
  std::vector<kube::NodeProxy> nodes;
  std::vector<std::string> unreadable;
  // Conditions that somebody else has set on the ProxyConfiguration.
  std::vector<kube::Condition> others;
  std::optional<std::chrono::seconds> eta;

  const kube::Condition* Condition(const char* type) const {
    return FindCondition(configuration.status.conditions, type);
  }
  bool IsTrue(const char* type) const {
    return kube::IsTrue(configuration.status.conditions, type);
  }
  // kOk: complete; kFailed; or kNotFinished.
  ExitCode Outcome() const;
  // Nothing goes on unless a person does something.
  bool AtRest() const;
};

// `labels`: of the nodes, by name, for canaries that are selected by label; empty: not known.
RolloutView MakeRolloutView(kube::ProxyConfiguration configuration,
                            std::vector<kube::NodeProxy> proxies,
                            const std::map<std::string, std::map<std::string, std::string>>& labels,
                            kube::TimePoint now);

// What the node of this NodeProxy waits for on its way to `target`; empty: it is there, or it was
// not asked to go yet.
std::string WaitsFor(const kube::NodeProxy& proxy, int64_t target,
                     std::chrono::nanoseconds min_ready, kube::TimePoint now);
// Its agent has spoken of the present specification, runs `target` and serves.
bool IsDone(const kube::NodeProxy& proxy, int64_t target);
// It is asked to run `target`.
bool IsOrdered(const kube::NodeProxy& proxy, int64_t target);

}  // namespace pointsman::plugin

// Asks the agents of nodes that no ProxyConfiguration selects what they could run, by a paused one
// that nothing ever follows from.
#pragma once

#include <chrono>
#include <optional>
#include <stop_token>

#include "kube/pointsman/mode.h"
#include "kubectl-pointsman/api.h"

namespace pointsman::plugin {

// The ProxyConfiguration `pointsman-preflight`: of the lowest priority, so that every other one
// wins its nodes, and paused, so that the operator asks its nodes and changes none. One that an
// interrupted run has left is used again. Not thread-safe.
class AskedNodes {
 public:
  static constexpr const char* kName = "pointsman-preflight";
  static constexpr std::chrono::minutes kPatience{1};

  // Makes it. Throws Failure when another of that name is there that is not ours.
  AskedNodes(Api& api, kube::Mode mode);
  // Deletes it, unless Finish has. What goes wrong then is said on standard error.
  ~AskedNodes();
  AskedNodes(const AskedNodes&) = delete;
  AskedNodes& operator=(const AskedNodes&) = delete;

  // Until every agent has answered that is waited for, for `patience` (0: kPatience) at most.
  void AwaitAnswers(std::chrono::nanoseconds patience, const std::stop_token& stop);
  // Deletes it, and waits until the operator has let it go: then no NodeProxy of it is left.
  void Finish();

 private:
  Api& api_;
  std::optional<kube::ProxyConfiguration> made_;
};

}  // namespace pointsman::plugin

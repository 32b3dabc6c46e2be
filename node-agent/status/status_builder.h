// What the agent says of itself in its NodeProxy: a pure function of what it knows.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "kube/pointsman/node_proxy.h"
#include "node-agent/handover/mode_state.h"
#include "node-agent/neighbours/survey.h"

namespace pointsman::agent {

struct StatusInput {
  const kube::NodeProxy* proxy = nullptr;  // the spec being applied; never null
  const ModeState* modes = nullptr;        // never null
  size_t services = 0;
  size_t endpoints = 0;
  bool caches_synced = false;  // Services, EndpointSlices and Node are known
  // The settings of proxy->spec have been given to the mode controller.
  bool applied = false;
  std::string kernel_release;
  std::string agent_version;
  // As read back; nullopt: not read yet, what was said before stays.
  std::optional<std::vector<kube::SysctlStatus>> sysctls;
  NeighbourView neighbours;
  std::optional<kube::CandidateStatus> candidate;
  std::optional<kube::KubeProxyStatus> kube_proxy;
  std::vector<kube::ModePreflight> preflights;  // empty: not looked at yet
  std::optional<kube::ChangeImpact> impact;
  int64_t prepared_revision = 0;  // as in the status
  std::string removal_waits;      // with spec.removed: for what our rules wait yet; "": they do not
  // Services that are not served as they are written: how many, and a few of them.
  size_t services_not_as_written = 0;
  std::vector<SyncProblem> not_as_written;
  // Steps::failing; null: none.
  const std::map<std::string, std::string>* failing_steps = nullptr;
  // What this node does not have yet of what it was asked to use; "" for nothing.
  std::string missing;
  std::string now;  // RFC 3339
};

// What is asked for is in effect: written, and not about to be undone.
bool IsInEffect(const StatusInput& input);

// `previous` gives the transition times of conditions and, while nothing else changes, lastSync.
kube::NodeProxyStatus BuildStatus(const StatusInput& input, const kube::NodeProxyStatus& previous);

// Do the two differ in more than the numbers of Services, endpoints and draining connections, and
// what syncs take? Those
// change all the time and are written seldom, so that 5,000 agents do not all write at each change.
bool DiffersInSubstance(const kube::NodeProxyStatus& a, const kube::NodeProxyStatus& b);

}  // namespace pointsman::agent

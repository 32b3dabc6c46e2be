// What the agent asks of a dataplane: one mode's programming of the kernel from the service model.
// A dataplane knows nothing of the Kubernetes API.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kube/pointsman/mode.h"
#include "kube/pointsman/proxy_settings.h"
#include "node-agent/dataplane/client_binding.h"
#include "node-agent/dataplane/service_refusals.h"
#include "node-agent/model/service_model.h"

namespace pointsman::agent {

// Why a sync did not go through, said so that a person can act on it. A problem is the node's: its
// health, Ready and RulesSynced fall when no family went through. What concerns one Service alone
// is a ServiceRefusals' and never a problem, else a tenant could make every node of a cluster sick.
struct SyncProblem {
  std::string
      object;  // "default/web:http/TCP/IPv4", "10.96.0.1:80/TCP", "sysctl net.ipv4.vs.conntrack"
  std::string message;  // "add destination 10.244.1.7:80: No space left on device"
  // Set: only this family's part did not go through, the other's did.
  std::optional<net::Family> family = std::nullopt;
};

// Are there no problems, or only such as leave something else written?
inline bool WentThroughInPart(const std::vector<SyncProblem>& problems) {
  return std::all_of(problems.begin(), problems.end(),
                     [](const SyncProblem& problem) { return problem.family.has_value(); });
}

struct SyncResult {
  std::vector<SyncProblem> problems;  // empty: all is in the kernel
  // Of the whole model as it is now, after a partial sync too. Sorted. No problems: nothing is to
  // be retried.
  std::vector<ServiceWarning> warnings;
  // Of what this sync wrote: a full sync's are all there are, a partial one's are those of the
  // entries in its delta. The rest is in the kernel, and a later FullSync tries these again.
  ServiceRefusals refusals;
  uint64_t kernel_writes = 0;  // objects added, changed or removed
  // Full sync only: objects that differed from what we had written. Not of one that Sync does for
  // a change of the node, whose own changes they cannot be told from.
  uint64_t repaired = 0;
  // Full sync of a mode whose Services are rules of iptables: how many there are now, by table.
  std::map<std::string, uint64_t> rules;
  bool ok() const { return problems.empty(); }
  // Of a full sync, which wrote what changed too.
  SyncResult WithoutRepairs() && {
    repaired = 0;
    return std::move(*this);
  }
  // The result of a further part: another family, another table.
  void Add(SyncResult part) {
    std::move(part.problems.begin(), part.problems.end(), std::back_inserter(problems));
    std::move(part.warnings.begin(), part.warnings.end(), std::back_inserter(warnings));
    std::sort(warnings.begin(), warnings.end());
    // Said of both families it is still one Service.
    warnings.erase(std::unique(warnings.begin(), warnings.end()), warnings.end());
    refusals.Add(std::move(part.refusals));
    kernel_writes += part.kernel_writes;
    repaired += part.repaired;
    for (const auto& [table, count] : part.rules)
      rules[table] += count;
  }
};

struct VerifyResult {
  static constexpr size_t kMaxDifferences = 20;
  // At most that many of each part (Add); `difference_count` has them all.
  std::vector<SyncProblem> differences;
  uint64_t difference_count = 0;
  uint64_t objects_checked = 0;
  bool ok() const { return difference_count == 0; }
  void Differ(std::string object, std::string message) {
    ++difference_count;
    if (differences.size() < kMaxDifferences)
      differences.push_back({std::move(object), std::move(message)});
  }
  void Add(VerifyResult part) {  // as SyncResult's
    std::move(part.differences.begin(), part.differences.end(), std::back_inserter(differences));
    difference_count += part.difference_count;
    objects_checked += part.objects_checked;
  }
};

struct DrainStatus {
  // Connections that this dataplane still carries (established, as its kernel tables say).
  uint64_t connections = 0;
  // Of these, TCP and SCTP connections that Remove would end. Those that connection tracking
  // carries go on without the mode that made them.
  uint64_t end_with_it = 0;
};

// Single-threaded: the agent's sync thread calls it. After an exception the state in the kernel is
// unknown to the dataplane and the next call must be FullSync.
class Dataplane {
 public:
  virtual ~Dataplane() = default;

  virtual kube::Mode mode() const = 0;

  // Reads the kernel, writes what differs from `model`, removes what is ours and not in it. Works
  // from any state: first start, restart after kill -9, rules damaged by others, a drain broken
  // off.
  virtual SyncResult FullSync(const ServiceModel& model) = 0;

  // Writes just `delta`; `model` is the state after it. After a result whose problems are of one
  // family, or that only has refusals, the next call may be Sync too, and must keep the family that
  // went through up to date. What failed is tried again by a later FullSync, which the agent
  // schedules.
  virtual SyncResult Sync(const ServiceModel& model, const ModelDelta& delta) = 0;

  // When the next FullSync is due at the latest, however long the sync period is: something ends
  // then, such as the drain of a backend. Not asked after a sync that failed.
  virtual std::chrono::steady_clock::time_point FullSyncDue() const {
    return std::chrono::steady_clock::time_point::max();
  }

  // The kernel parameters that this mode needs or has set on this node, for people who look there.
  // Names as ReadSysctl takes them; the more important first.
  virtual std::vector<std::string> Sysctls() const { return {}; }

  // Reads the kernel back and compares; changes nothing.
  virtual VerifyResult Verify(const ServiceModel& model) = 0;

  // New connections no longer come here (another dataplane has been programmed and verified); the
  // established ones must go on. Idempotent: called again each few seconds, also by a restarted
  // agent that finds a drain under way; returns what is left.
  virtual DrainStatus Drain(const ServiceModel& model) = 0;

  // What served before has been drained: new connections come here. Written now is what would have
  // taken them while that was not decided. Called after a FullSync, not after each; one that finds
  // no other mode serving does the same. Throws what Drain does.
  virtual void TakeOver() {}

  // The clients that sessionAffinity binds now, of Services in `model`, at most kMostBindings. Only
  // those whose backend may still be gone to and whose time has not ended.
  virtual std::vector<ClientBinding> Bindings(const ServiceModel& model) = 0;

  // Binds these clients too; one that is bound here already stays where it is. `model` is in the
  // kernel, and new connections do not come here yet, or only just. What cannot be bound is a
  // problem in the result and nothing worse: such a client is placed afresh.
  virtual SyncResult Bind(const ServiceModel& model,
                          const std::vector<ClientBinding>& bindings) = 0;

  // Removes all of ours from the kernel, also what an earlier process left, and nothing else.
  // Idempotent.
  virtual SyncResult Remove() = 0;

  // Is anything of ours of this mode in the kernel? For a restarted agent and for --cleanup.
  virtual bool Present() = 0;
};

}  // namespace pointsman::agent

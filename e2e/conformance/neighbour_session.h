// A neighbour (node-agent/testing/neighbours) in place on both nodes, from before the agents start
// until all that is theirs has been taken away.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "e2e/conformance/arena.h"
#include "e2e/conformance/case.h"
#include "node-agent/testing/neighbours/catalogue.h"

namespace pointsman::e2e {

class NeighbourSession {
 public:
  // All outlive this.
  NeighbourSession(Arena& arena, const agent::testing::KnownNeighbour& neighbour,
                   net::Family family);
  // Ends programs that it started. What is in the kernels stays when TakeAway was not called.
  ~NeighbourSession();
  NeighbourSession(const NeighbourSession&) = delete;
  NeighbourSession& operator=(const NeighbourSession&) = delete;

  const std::string& name() const { return name_; }
  bool is_felix() const { return neighbour_.felix.has_value(); }
  // Why these nodes' kernels cannot have it; "": they can.
  std::string CannotBe() const;
  // Puts it in place. No agent may run, and nothing of theirs be there (Arena::EndAgents). Several
  // may be in place, one put after the other; the last goes first.
  void PutInPlace();
  // Of the agent's own table, for this mode and what it finds in the nodes' kernels: reasons and
  // remedies. Not empty: the mode is not begun beside it.
  const std::vector<std::string>& refusals() const { return refusals_; }
  // Of all that are in place. Then each looks what the agents say of it.
  static void StartAgents(Arena& arena);
  void ExpectRefusalsAreSaid();
  // Its agent and ours look again in turn: neither moves what is the other's.
  void ExpectAgreement();

  // What a policy engine enforces from now on; both are empty for none. Addresses, no names.
  using Policies = std::map<std::string, PolicyStep>;
  void SetPolicies(const Policies& policies);
  // Its agent flushes all rules of the nodes, whosever they are, and writes its own again.
  void Reload();
  // "": nothing that is the neighbour's has been changed or moved by anybody.
  std::string Disturbed() const;

  // When the agents have ended and nothing of theirs is there: looks whether what stays is what was
  // there before they came, byte for byte, and takes the neighbour away.
  void TakeAway();
  // All that was wrong, each for a person.
  const std::vector<std::string>& failures() const { return failures_; }

 private:
  // One line each, with the tool that printed it.
  using KernelState = std::vector<std::string>;
  struct OnNode {
    const Node* node = nullptr;
    agent::testing::NeighbourSite site;
    KernelState before;          // without the neighbour
    KernelState with;            // … with it, without the agent
    KernelState left;            // … when the agent has gone
    KernelState after;           // … and the neighbour too
    std::optional<pid_t> felix;  // its program
    std::string felix_log;
    int looks = 0;
    size_t agent_log_begin = 0;
  };

  agent::testing::NeighbourSite SiteOn(const std::string& node) const;
  void PutSite(const OnNode& on) const;
  std::string Run(const OnNode& on, const std::string& verb) const;
  void Put(OnNode& on) const;
  void EndFelix(OnNode& on);
  // On all nodes at once.
  void OnEach(const std::function<void(OnNode&)>& work);
  void AwaitFelix(const OnNode& on, const std::string& says) const;
  std::vector<std::string> Look(const OnNode& on);
  KernelState Read(const Node& node) const;

  Arena& arena_;
  const agent::testing::KnownNeighbour& neighbour_;
  const net::Family family_;
  const std::string name_;
  std::vector<OnNode> nodes_;
  std::vector<std::string> refusals_;
  std::vector<std::string> failures_;
  int policies_ = 0;  // how often they were set
};

}  // namespace pointsman::e2e

// An API server's objects and node agents in memory, for tests of the planning.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "operator/plan/plan.h"

namespace pointsman::op {

struct FakeAgent {
  bool alive = true;
  std::chrono::seconds clock_ahead{0};  // of the operator's, when that was not set
  std::set<kube::Mode> can_run{kube::Mode::kIptables, kube::Mode::kIpvs};
  // Modes that it refuses beside a neighbour of that name, unless that is accepted.
  std::map<kube::Mode, std::string> refuses_beside;
  bool drains_servers = false;     // does not let a stock kube-proxy be restarted
  bool drains_kube_proxy = false;  // connections through what kube-proxy left do not end
  std::string sees_kube_proxy;     // that has written again: by what; "": it has not
  std::string runs_kube_proxy;     // that no Pod is of: by what it is seen; "": none
  // Revisions whose handover this agent reverts.
  std::set<int64_t> fails;
  // By revision, what the change to it does to the traffic.
  std::map<int64_t, kube::ChangeImpact> impacts;
  bool reports_impact = true;   // an agent of before has no such figures
  bool knows_providers = true;  // the same
  bool impatient = false;  // Degraded as soon as kube-proxy does not serve as its provider is asked
  std::string draining_mode;
  int64_t draining_connections = 0;
};

// kube-proxy's Pod on a node.
struct FakeKubeProxy {
  std::string uid;
  std::string owner;  // uid of the DaemonSet
  std::map<std::string, std::string> labels;
  std::string file;  // what it has read at its start
  std::string config_map;
  bool ready = false;
  bool ends = false;
  bool serves = false;  // its rules are in the kernel; without the process they grow old
  bool operator==(const FakeKubeProxy&) const = default;
};

class FakeWorld {
 public:
  FakeWorld();

  void AddNode(const std::string& name, std::map<std::string, std::string> labels = {});
  void RemoveNode(const std::string& name);  // and, as the garbage collector does, its NodeProxy
  // The Node's Ready condition: False (or Unknown: `silent`) now, and Ready once before.
  void SetReady(const std::string& name, bool ready, bool silent = false);
  // A Node that was never Ready: nothing serves the API server's Service address there. It becomes
  // Ready when its agent serves.
  void AddBareNode(const std::string& name);
  // The machine is off and that has been noticed, or it is on again.
  void SetDead(const std::string& name, bool dead, bool silent = false);
  void SetLabels(const std::string& name, std::map<std::string, std::string> labels);

  // `spec`: JSON of a ProxyConfiguration's spec, merged into {"mode": "ipvs"}.
  void Apply(const std::string& name, const std::string& spec = "{}");
  void Delete(
      const std::string& name);  // sets the deletionTimestamp; gone when no finalizer is left

  // The cluster runs kube-proxy in a DaemonSet; its Pods serve at once. `affinity`: of the
  // template.
  void AddKubeProxy(const nlohmann::json& affinity = nullptr);
  // Somebody (an addon manager) writes the DaemonSet as it was, with its annotations or without.
  void PutKubeProxyBack(bool annotations);
  // The DaemonSet controller makes and ends Pods; then, one step, they come up or are gone.
  void StepKubeProxy();
  void StepKubeProxy(const std::string& node);
  bool IsReplaced(const std::string& node) const { return op::IsReplaced(*nodes.at(node)); }
  // A Service's connection on that node finds rules of somebody who keeps them up to date.
  bool Serves(const std::string& node) const;

  Plan MakePlan();
  // Another operator leads, which has seen nothing yet. `skew`: its clock differs from the last
  // one's by that.
  void ChangeLeader(std::chrono::seconds skew = {});
  // Performs everything of the plan, or only the first `writes` writes: the operator was killed.
  void Perform(const Plan& plan, size_t writes = SIZE_MAX);
  // The agent of that node reads its NodeProxy and does what it says: one step.
  void StepAgent(const std::string& name);
  void StepAgents();
  void Advance(std::chrono::seconds time) {
    now += time;
    instant += time;
  }
  // Somebody sets the operator's clock.
  void SetClock(std::chrono::seconds by) { now += by; }
  // Plans, performs and lets agents work until nothing changes at all, also not by waiting.
  // Returns the number of rounds; throws std::runtime_error when it does not come to rest.
  int Settle(const std::function<void()>& after_each_write = {});

  const kube::ProxyConfiguration& Configuration(const std::string& name) const;
  const kube::NodeProxy* Proxy(const std::string& name) const;
  const kube::Condition& ConditionOf(const std::string& configuration,
                                     const std::string& type) const;
  // Nodes that were asked to change and are not there yet.
  size_t InTransition() const;
  bool HasEvent(const std::string& reason) const;

  kube::TimePoint now;  // the operator's clock
  Instant instant{};
  Sightings sightings;
  std::map<std::string, std::shared_ptr<const kube::Node>> nodes;
  std::map<std::string, FakeAgent> agents;
  std::map<std::string, std::shared_ptr<const kube::ProxyConfiguration>> configurations;
  std::map<std::string, std::shared_ptr<const kube::NodeProxy>> proxies;
  std::map<std::string, Revision> revisions;
  std::vector<std::shared_ptr<const kube::Pod>> agent_pods;
  std::vector<std::shared_ptr<const kube::DaemonSet>> agent_daemon_sets;
  nlohmann::json kube_proxy_set;  // the DaemonSet; null: none
  nlohmann::json kube_proxy_set_at_first;
  std::map<std::string, FakeKubeProxy> kube_proxies;  // by node
  // Not scheduled yet, for another Pod of kube-proxy is on the node. (The cluster's own have no
  // anti-affinity to each other, but there is never more than one of them.)
  std::map<std::string, std::vector<FakeKubeProxy>> waiting_kube_proxies;
  std::map<std::string, nlohmann::json> config_maps;    // of kube-proxy's namespace, by name
  std::map<std::string, nlohmann::json> revision_sets;  // its other DaemonSets, by name
  bool rolling_updates = false;         // the DaemonSet controller does what updateStrategy says
  std::set<std::string> broken_modes;   // kube-proxy does not become Ready in these
  std::map<std::string, int> restarts;  // by node: Pods that were begun
  std::set<std::string> dead_kubelets;  // nodes whose Pods are not Ready, and do not change
  std::vector<std::shared_ptr<const kube::Pod>> other_kube_proxy_pods;
  std::string kube_proxy_unknown;  // why the operator may not read them; "": it may
  std::string no_provider;         // why provider KubeProxy cannot be served; "": it can
  bool kube_proxy_breaks = false;  // Pods that begin do not become Ready, and serve nothing
  // How often an agent has removed kube-proxy's rules where its Pod was.
  int removals_beside_kube_proxy = 0;
  std::map<std::string, Instant> changed_at;  // by NodeProxy: when it was last asked to change
  std::vector<PlannedEvent> events;
  std::function<void()> after_write;

 private:
  bool Write(size_t& writes, const std::function<void()>& write);
  void Change(const NodeProxyChange& change);
  void Change(const NodeLabelChange& change);
  void Change(const KubeProxyObjectChange& change);
  void RunSet(const std::string& node, const KubeProxyDaemonSet& set, bool own);
  void StepKubeProxy(const std::string& name, const KubeProxyDaemonSet* set,
                     const std::vector<std::shared_ptr<const KubeProxyDaemonSet>>& others);
  std::vector<std::shared_ptr<const KubeProxyDaemonSet>> RevisionSetsNow() const;
  void StartPod(const std::string& node, FakeKubeProxy pod);
  void Observe(const FakeAgent& agent, const std::string& node, kube::NodeProxy& proxy,
               const std::string& time);
  std::shared_ptr<const KubeProxyDaemonSet> DaemonSetNow() const;
  KubeProxyInput KubeProxyInputNow() const;

  int serial_ = 0;
  kube::TimePoint began_;
  std::set<std::string> bare_;
};

}  // namespace pointsman::op

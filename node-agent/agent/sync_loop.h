// The sync thread: takes what changed from the inbox, updates the model, writes the kernel, decides
// on modes and says how it went. It alone touches the kernel's rules.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kube/events/event_recorder.h"
#include "kube/pointsman/node_proxy.h"
#include "node-agent/agent/candidate_check.h"
#include "node-agent/agent/endpoints.h"
#include "node-agent/agent/flow_cleanup.h"
#include "node-agent/agent/health_checks.h"
#include "node-agent/agent/kernel_environment.h"
#include "node-agent/agent/kube_proxy_bridge.h"
#include "node-agent/agent/kube_proxy_removal.h"
#include "node-agent/agent/kube_proxy_return.h"
#include "node-agent/agent/metrics.h"
#include "node-agent/agent/mode_preflights.h"
#include "node-agent/agent/options.h"
#include "node-agent/agent/service_events.h"
#include "node-agent/agent/shown_state.h"
#include "node-agent/agent/stock_kube_proxy.h"
#include "node-agent/agent/sync_measure.h"
#include "node-agent/agent/this_node.h"
#include "node-agent/agent/watches.h"
#include "node-agent/handover/mode_controller.h"
#include "node-agent/health/proxy_health.h"
#include "node-agent/model/local_policies.h"
#include "node-agent/model/model_builder.h"
#include "node-agent/status/change_meter.h"
#include "node-agent/status/status_writer.h"
#include "node-agent/sync/change_inbox.h"

namespace pointsman::agent {

// Run is called once; the thread that calls it is the sync thread.
class SyncLoop {
 public:
  // What it works with; all of it outlives the loop.
  struct Surroundings {
    const Options& options;
    Metrics& metrics;
    kube::EventRecorder& events;
    ProxyHealth& health;
    ChangeInbox& inbox;
    const Watches& watches;
    Endpoints& endpoints;
    ShownState& shown;
    StatusWriter* status;  // null: there is no NodeProxy to write to
  };

  // `api_server`: its URL. Throws std::system_error when the kernel refuses a socket.
  SyncLoop(const Surroundings& surroundings, const std::string& api_server);

  // What is asked of this node, without a NodeProxy in the API server. Before Run.
  void Accept(std::shared_ptr<const kube::NodeProxy> proxy);
  // Until the inbox is stopped, and what drains then has ended. The kernel's rules stay in place:
  // the next agent adopts them.
  void Run();

 private:
  using Clock = std::chrono::steady_clock;

  void HandleGuarded(ChangeBatch& batch);
  void Handle(ChangeBatch& batch);
  void UpdateObjects(ChangeBatch& batch);
  void SetNode(std::shared_ptr<const kube::Node> node);
  void Program(const ChangeBatch& batch, Clock::time_point started);
  std::string WhyKubeProxysRulesStay() const;
  void WriteKernel(const ServiceModel& model, const ModelDelta& delta);
  bool IsStock() const;
  const ModeState& State() const;
  const std::optional<kube::KubeProxyStatus>& Leftovers() const;
  ProviderState Provided() const;
  void ForgetStock();
  void ServeAsStock(const ServiceModel& model, const ModelDelta& delta);
  void WriteBridge(const ServiceModel& model, const ModelDelta& delta);
  std::string WhyNoBridge(const kube::ProxySettings& settings);
  void HoldHooks();
  void ApplySettings(const ServiceModel& model);
  void WriteRemoved(const ServiceModel& model, const ModelDelta& delta);
  void RemoveAll();
  void ServeIpv6();
  bool LeaveToKernel();
  void ReadSysctlsBack();
  void LookAtNeighbours();
  void Report();
  void ReportStatus();
  Clock::duration RefreshPeriod() const;
  kube::Duration ActiveMinSyncPeriod() const;
  // Everything that the lists held has been taken from the inbox.
  bool CachesSynced() const { return synced_.all(); }

  const Surroundings with_;
  KernelEnvironment environment_;
  ModeController modes_;
  ModelBuilder model_;
  ThisNode node_;
  ServiceEvents service_events_;
  CandidateCheck candidate_;
  ModePreflights preflights_;
  KubeProxyRemoval kube_proxy_;
  KubeProxyReturn kube_proxy_return_;
  StockKubeProxy stock_;
  KubeProxyBridge bridge_;        // of that one
  KubeProxyRemoval former_mode_;  // of that one
  FlowCleanup flows_;
  SyncMeasure measure_;
  ChangeMeter change_;
  LocalPolicies local_policies_;
  HealthChecks health_checks_;
  const std::string kernel_release_;

  std::shared_ptr<const kube::NodeProxy> proxy_;
  kube::NodeProxyStatus status_;
  std::optional<std::vector<kube::SysctlStatus>> sysctls_;  // nullopt: not read yet
  NeighbourView neighbours_;
  CacheSet synced_;
  bool ipv6_asked_ = false;          // the node or a Service has IPv6
  std::string ipv6_refused_;         // why the kernel cannot serve it
  bool apply_ = false;               // proxy_'s settings are to be given to the mode controller
  bool applied_ = false;             // they were
  std::string removal_waits_;        // for what; "": it does not
  std::optional<bool> holds_hooks_;  // nullopt: the agent before may have
  bool bridges_ = false;             // rules of bridge_'s are in the kernel
  bool ending_ = false;              // told to end; what drains is waited for
  Clock::time_point removal_retry_ = Clock::time_point::max();
  Clock::time_point not_before_{};  // what comes sooner is held back (minSyncPeriod)
  Clock::time_point next_refresh_ = Clock::time_point::max();
};

}  // namespace pointsman::agent

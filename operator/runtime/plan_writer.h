// Performs plans: writes what they say to the API server.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "kube/client/client.h"
#include "kube/events/event_recorder.h"
#include "operator/plan/actions.h"
#include "operator/runtime/cluster_caches.h"
#include "operator/runtime/tenure.h"
#include "operator/runtime/write_pace.h"

namespace pointsman::op {

kube::ObjectReference ReferenceTo(const kube::ProxyConfiguration& configuration);

// Not thread-safe: belongs to the worker.
class PlanWriter {
 public:
  using Clock = std::chrono::steady_clock;

  // All outlive this. `client` writes everything but Events; nothing is written any more, also in
  // the middle of a plan, once `tenure` says no.
  // `kube_proxy_ns`: of kube-proxy's DaemonSet.
  PlanWriter(kube::Client client, std::string ns, std::string kube_proxy_ns, const Tenure& tenure,
             kube::EventRecorder& recorder, ClusterCaches& caches)
      : client_(std::move(client)),
        ns_(std::move(ns)),
        kube_proxy_ns_(std::move(kube_proxy_ns)),
        tenure_(tenure),
        recorder_(recorder),
        caches_(caches) {}

  struct Result {
    bool failed = false;  // something has to be tried again
    // So many NodeProxies were written that status and metrics are to follow first.
    bool more = false;
    bool revision_created = false;
    // How long the write of a ProxyConfiguration has to wait; zero: none has to.
    Clock::duration status_due = Clock::duration::zero();
  };
  // Throws nothing of what can be tried again.
  Result Write(const Plan& plan);

 private:
  bool Try(const std::string& what, const std::function<void()>& action) const;
  void Write(const ConfigurationPlan& part, Result& result);
  void WriteLast(const ConfigurationPlan& part, const std::string& version, Result& result);
  bool MayWriteMore(Result& result);
  void DeleteRevisions(const ConfigurationPlan& part);
  std::string PatchConfiguration(const kube::ProxyConfiguration& configuration,
                                 const std::string& version, kube::Json metadata,
                                 const kube::Json& status);
  void Change(const NodeProxyChange& change);
  void Change(const NodeLabelChange& change);
  void Change(const DaemonSetChange& change);
  void Change(const KubeProxyObjectChange& change);
  void Keep(const KubeProxyObjectChange& change, const kube::Json& answer);
  void Emit(const kube::ObjectReference& about, const PlannedEvent& event);

  // Between two writes of one ProxyConfiguration.
  static constexpr std::chrono::seconds kStatusInterval{1};

  kube::Client client_;
  const std::string ns_;
  const std::string kube_proxy_ns_;
  const Tenure& tenure_;
  kube::EventRecorder& recorder_;
  ClusterCaches& caches_;
  WritePace pace_{kStatusInterval};
  size_t node_proxies_ = 0;  // written for this plan
};

}  // namespace pointsman::op

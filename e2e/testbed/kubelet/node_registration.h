#pragma once

#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include "e2e/testbed/kubelet/local_pod.h"

namespace pointsman::e2e {

// The Node object of a kubelet and its Lease. Used by one thread.
class NodeRegistration {
 public:
  // `ready_when_served`: see KubeletOptions.
  NodeRegistration(const KubeletNode& context, std::string zone, bool ready_when_served)
      : context_(context), zone_(std::move(zone)), ready_when_served_(ready_when_served) {}

  // Registers the node after each boot, and renews the Lease when that is due. `boot`: the node's
  // boot ID. Throws kube::ApiError and what the transport throws.
  void Heartbeat(const std::string& boot);
  // The node lifecycle controller's part, done here because no other notices so early. The next
  // Heartbeat registers the node again.
  void ReportDown();

 private:
  nlohmann::json NodeConditions(const std::string& ready, const std::string& reason,
                                const std::string& message) const;
  nlohmann::json Conditions() const;
  void PatchStatus(const nlohmann::json& status) const;
  bool ServesApiServer() const;
  void Register(const std::string& boot);
  void RenewLease();
  const std::string& name() const { return context_.node.name(); }

  const KubeletNode context_;
  const std::string zone_;
  const bool ready_when_served_;
  std::string registered_boot_;
  bool served_ = false;  // the node was found to serve default/kubernetes
  KubeletClock::time_point next_lease_;
};

}  // namespace pointsman::e2e

#include "e2e/testbed/kubelet/node_registration.h"

#include <chrono>

#include "kube/client/api_error.h"
#include "kube/time/rfc3339.h"

namespace pointsman::e2e {
namespace {

constexpr std::chrono::seconds kLeaseRenewal{10};

std::string Trimmed(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' '))
    text.pop_back();
  return text;
}

}  // namespace

using kube::Json;

void NodeRegistration::PatchStatus(const Json& status) const {
  context_.client.Patch(kube::resources::kNodes, "", name(), kube::PatchType::kMerge,
                        {{"status", status}}, "status", "kubelet");
}

void NodeRegistration::ReportDown() {
  PatchStatus({{"conditions", NodeConditions("Unknown", "NodeStatusUnknown",
                                             "Kubelet stopped posting node status.")}});
  registered_boot_.clear();
}

void NodeRegistration::Heartbeat(const std::string& boot) {
  const auto now = KubeletClock::now();
  if (registered_boot_ != boot) {
    served_ = !ready_when_served_;
    Register(boot);
    registered_boot_ = boot;
    next_lease_ = now;
  }
  if (!served_ && ServesApiServer()) {
    served_ = true;
    PatchStatus({{"conditions", Conditions()}});
  }
  if (now < next_lease_) return;
  RenewLease();
  next_lease_ = now + kLeaseRenewal;
}

Json NodeRegistration::NodeConditions(const std::string& ready, const std::string& reason,
                                      const std::string& message) const {
  return Json::array({{{"type", "Ready"},
                       {"status", ready},
                       {"reason", reason},
                       {"message", message},
                       {"lastHeartbeatTime", TimeOfNow()},
                       {"lastTransitionTime", TimeOfNow()}}});
}

Json NodeRegistration::Conditions() const {
  return served_ ? NodeConditions("True", "KubeletReady", "kubelet is posting ready status")
                 : NodeConditions("False", "KubeletNotReady",
                                  "container runtime network not ready: NetworkPluginNotReady");
}

// As the network plugin's Pod on the host's network finds out.
bool NodeRegistration::ServesApiServer() const {
  const Json service = context_.client.Get(kube::resources::kServices, "default", "kubernetes");
  const std::string address = service.value("/spec/clusterIP"_json_pointer, "");
  return context_.node.Exec({"timeout", "1", "bash", "-c", "</dev/tcp/" + address + "/443"}).ok();
}

void NodeRegistration::Register(const std::string& boot) {
  const std::string release = Trimmed(context_.node.Check({"uname", "-r"}));
  const Json labels = {{"kubernetes.io/hostname", name()},
                       {"kubernetes.io/os", "linux"},
                       {"kubernetes.io/arch", "amd64"},
                       {"topology.kubernetes.io/zone", zone_}};
  const Json spec = {{"podCIDR", context_.node.pod_cidr()},
                     {"podCIDRs", {context_.node.pod_cidr()}}};
  try {
    context_.client.Create(kube::resources::kNodes, "",
                           {{"apiVersion", "v1"},
                            {"kind", "Node"},
                            {"metadata", {{"name", name()}, {"labels", labels}}},
                            {"spec", spec}});
  } catch (const kube::ApiError& error) {
    if (!error.IsAlreadyExists()) throw;
    context_.client.Patch(kube::resources::kNodes, "", name(), kube::PatchType::kMerge,
                          {{"metadata", {{"labels", labels}}}}, "", "kubelet");
  }
  const Json status = {{"addresses",
                        {{{"type", "InternalIP"}, {"address", context_.node.address()}},
                         {{"type", "Hostname"}, {"address", name()}}}},
                       {"capacity", {{"cpu", "1"}, {"memory", "512Mi"}, {"pods", "250"}}},
                       {"allocatable", {{"cpu", "1"}, {"memory", "512Mi"}, {"pods", "250"}}},
                       {"nodeInfo",
                        {{"architecture", "amd64"},
                         {"bootID", boot},
                         {"containerRuntimeVersion", "processes://1"},
                         {"kernelVersion", release},
                         {"kubeProxyVersion", ""},
                         {"kubeletVersion", "v1.36.0"},
                         {"machineID", name()},
                         {"operatingSystem", "linux"},
                         {"osImage", "Debian"},
                         {"systemUUID", name()}}},
                       {"conditions", Conditions()}};
  PatchStatus(status);
}

void NodeRegistration::RenewLease() {
  const std::string ns = "kube-node-lease";
  const Json spec = {{"holderIdentity", name()},
                     {"leaseDurationSeconds", 40},
                     {"renewTime", kube::FormatMicroTime(std::chrono::system_clock::now())}};
  try {
    context_.client.Patch(kube::resources::kLeases, ns, name(), kube::PatchType::kMerge,
                          {{"spec", spec}}, "", "kubelet");
    return;
  } catch (const kube::ApiError& error) {
    if (!error.IsNotFound()) throw;
  }
  const Json lease = {{"apiVersion", "coordination.k8s.io/v1"},
                      {"kind", "Lease"},
                      {"metadata", {{"name", name()}, {"namespace", ns}}},
                      {"spec", spec}};
  try {
    context_.client.Create(kube::resources::kLeases, ns, lease);
  } catch (const kube::ApiError& error) {
    if (!error.IsNotFound()) throw;  // only the namespace can be missing
    context_.client.Create(
        kube::resources::kNamespaces, "",
        {{"apiVersion", "v1"}, {"kind", "Namespace"}, {"metadata", {{"name", ns}}}});
    context_.client.Create(kube::resources::kLeases, ns, lease);
  }
}

}  // namespace pointsman::e2e

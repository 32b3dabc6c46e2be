// The real kernel behind the mode controller: makes the dataplanes, runs preflights and probes.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "node-agent/handover/mode_controller.h"
#include "node-agent/handover/probe.h"
#include "node-agent/iptables/base_rules.h"
#include "node-agent/iptables/iptables_tool.h"

namespace pointsman::agent {

// The sync thread owns it.
class KernelEnvironment final : public ModeEnvironment {
 public:
  // `api_server`: "https://10.0.0.1:6443"; probed before and after a handover.
  // `forwarder_launcher`: see ForwarderSettings::launcher. `log_format`: of the processes that this
  // starts and that write to the agent's log, "text" or "json".
  KernelEnvironment(std::string modules_root, const std::string& api_server,
                    std::string forwarder_launcher, std::string log_format);
  ~KernelEnvironment() override;

  std::unique_ptr<Dataplane> MakeDataplane(kube::Mode mode,
                                           const kube::ProxySettings& settings) override;
  std::unique_ptr<Dataplane> FindInKernel(kube::Mode mode,
                                          const kube::ProxySettings& settings) override;
  PreflightResult Preflight(kube::Mode mode, const kube::ProxySettings& settings,
                            bool load) override;
  SyncResult EnsureBase(const kube::ProxySettings& settings) override;
  SyncResult RemoveBase(const kube::ProxySettings& settings) override;
  std::vector<std::string> PassingProbes(const ServiceModel& model) override;
  // From the next dataplane on IPv6 Services are served too. Returns "" or why this kernel cannot;
  // what only some modes cannot is in the log.
  std::string ServeIpv6();
  // Calls of iptables-restore that failed, since the start.
  uint64_t RestoreFailures() const;
  // The API server's address, if it is known as one and not by name.
  std::optional<net::IpAddress> ApiServerAddress() const;
  std::chrono::steady_clock::time_point Now() override { return std::chrono::steady_clock::now(); }

 private:
  IptablesTool& Tool();
  std::vector<net::Family> Families() const;
  // "" or why this node cannot have the IPVS scheduler.
  std::string EnsureScheduler(const std::string& scheduler, kube::ModulePolicy policy) const;
  // Calls `call` with the base rules of each family, and adds up.
  SyncResult ForEachBase(const kube::ProxySettings& settings,
                         const std::function<SyncResult(BaseRules&)>& call);

  const std::string modules_root_;
  const std::string forwarder_launcher_;
  const std::string log_format_;
  std::optional<Probe> api_server_;
  // Made on first use: a preflight tells better than a constructor that iptables is missing.
  std::unique_ptr<IptablesTool> tool_;
  std::unique_ptr<IptablesTool> tool_v6_;  // null: the modes that use iptables serve no IPv6
  bool ipv6_ = false;
};

}  // namespace pointsman::agent

// The real kernel behind the mode controller: makes the dataplanes, runs preflights and probes.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "node-agent/agent/kernel_canaries.h"
#include "node-agent/agent/neighbour_announcer.h"
#include "node-agent/handover/canaries.h"
#include "node-agent/handover/combined_check.h"
#include "node-agent/handover/mode_environment.h"
#include "node-agent/handover/service_probes.h"
#include "node-agent/neighbours/neighbour_watch.h"
#include "node-agent/traffic/client_traffic.h"
#include "node-agent/xtables/base_rules.h"
#include "node-agent/xtables/iptables_tool.h"
#include "node-agent/xtables/kernel_jumps.h"

namespace pointsman::agent {

// The sync thread owns it.
class KernelEnvironment : public ModeEnvironment {
 public:
  // `api_server`: "https://10.0.0.1:6443"; probed before and after a handover.
  // `forwarder_launcher`: see ForwarderSettings::launcher. `log_format`: of the processes that this
  // starts and that write to the agent's log, "text" or "json". `windows`: for how long clients'
  // connections are watched.
  KernelEnvironment(std::string modules_root, const std::string& api_server,
                    std::string forwarder_launcher, std::string log_format,
                    ClientTraffic::Windows windows = {});
  ~KernelEnvironment() override;

  std::unique_ptr<Dataplane> MakeDataplane(kube::Mode mode,
                                           const kube::ProxySettings& settings) override;
  std::unique_ptr<Dataplane> FindInKernel(kube::Mode mode,
                                          const kube::ProxySettings& settings) override;
  std::vector<net::Family> Families() const override;
  uint64_t Generation() const override { return generation_; }
  PreflightResult Preflight(kube::Mode mode, const kube::ProxySettings& settings,
                            bool load) override;
  SyncResult EnsureBase(const kube::ProxySettings& settings) override;
  SyncResult RemoveBase(const kube::ProxySettings& settings) override;
  TrafficCheck& Traffic() override { return traffic_; }
  Announcer& Others() override { return announcer_; }
  Canaries::Names CanariesOf(kube::Mode mode) override;
  // IPv6 Services are to be served too, from the next dataplane on. Returns "" or why this kernel
  // cannot: IPv6 is off. What only the modes with iptables rules cannot is told by EnsureBase,
  // which also tries again.
  std::string ServeIpv6();
  // Calls of the tools that write rules which failed, since the start.
  uint64_t FailedToolCalls() const;
  // Whether an address is a mode's own, which ends the flows there itself (StaleFlows).
  static bool LooksAfterItsOwn(const net::IpAddress& address);
  // Who else is at work on this node, and what that means for `active` with these settings.
  NeighbourView LookAtNeighbours(const kube::ProxySettings& settings,
                                 std::optional<kube::Mode> active);
  // The API server's address, if it is known as one and not by name.
  std::optional<net::IpAddress> ApiServerAddress() const;
  std::chrono::steady_clock::time_point Now() override { return std::chrono::steady_clock::now(); }

 private:
  // Null: this node's kernel has no such tables, or its tools do not work; see tool_errors_. Tried
  // again by each call.
  xtables::IptablesTool* Tool(net::Family family);
  // Those that work, IPv4's first.
  std::vector<xtables::IptablesTool*> ToolsThereAre();
  // The same; none: throws.
  std::vector<xtables::IptablesTool*> Tools();
  void LoadTables() const;
  // "" or why this node cannot have the IPVS scheduler.
  std::string EnsureScheduler(const std::string& scheduler, kube::ModulePolicy policy) const;
  // Calls `call` with the base rules of each family, and adds up.
  SyncResult ForEachBase(const kube::ProxySettings& settings,
                         const std::function<SyncResult(xtables::BaseRules&)>& call);

  const std::string modules_root_;
  const std::string forwarder_launcher_;
  const std::string log_format_;
  const std::optional<net::IpPort> api_server_;
  ServiceProbes probes_;
  ClientTraffic clients_;
  CombinedCheck traffic_{std::vector<TrafficCheck*>{&clients_, &probes_}};
  // By family. Made on first use: a preflight tells better than a constructor that iptables is
  // missing.
  std::array<std::unique_ptr<xtables::IptablesTool>, 2> tools_;
  std::array<std::string, 2> tool_errors_;
  std::array<bool, 2> tables_incompatible_{};  // an xtables::IncompatibleTable was that error
  std::array<std::optional<xtables::KernelJumps>, 2> jumps_;  // of tools_
  NeighbourWatch neighbours_;
  NeighbourAnnouncer announcer_{modules_root_};
  std::map<kube::Mode, std::vector<std::string>> told_;  // warnings of preflights
  uint64_t generation_ = 0;
  bool ipv6_ = false;
};

}  // namespace pointsman::agent

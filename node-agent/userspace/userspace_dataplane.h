// userspace mode: a forwarder process carries the connections; iptables rules steer them to it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "kube/pointsman/proxy_settings.h"
#include "node-agent/dataplane/dataplane.h"
#include "node-agent/dataplane/family_problems.h"
#include "node-agent/userspace/forwarder_link.h"
#include "node-agent/userspace/slot_map.h"
#include "node-agent/xtables/family_rules.h"
#include "node-agent/xtables/iptables_tool.h"

namespace pointsman::agent {

// The rules are those of iptables mode with one "backend" a class of traffic: an address that means
// a slot of the forwarder's table (forwarder/address_plan.h). So a change of endpoints is a message
// to the forwarder and no change of rules; rules change with a Service's addresses and with its
// first and last endpoint.
//
// Backends see an address of this node as the client's, also with externalTrafficPolicy: Local, as
// in kube-proxy's userspace mode. SCTP is refused (ICMP port unreachable).
class UserspaceDataplane final : public Dataplane {
 public:
  // Of each chain's name.
  static constexpr std::string_view kChainPrefix = "POINTSMAN-USP-";

  struct Options {
    std::string forwarder_program;
    std::string launcher;  // see ForwarderSettings
    std::string run_directory = "/run/pointsman/forwarder";
    std::string version;
    uint64_t max_files = uint64_t{1} << 20;
    std::string log_format = "text";  // the forwarder's
  };

  // The tools outlive this; one a family that is served. Throws std::invalid_argument that names
  // the field.
  UserspaceDataplane(const kube::ProxySettings& settings, const Options& options,
                     const std::vector<xtables::IptablesTool*>& tools);
  // Rules and forwarder go on.
  ~UserspaceDataplane() override;

  kube::Mode mode() const override { return kube::Mode::kUserspace; }
  SyncResult FullSync(const ServiceModel& model) override;
  SyncResult Sync(const ServiceModel& model, const ModelDelta& delta) override;
  VerifyResult Verify(const ServiceModel& model) override;
  // Takes the jumps for new connections away; the forwarder keeps what it has until Remove. If
  // nobody asks any more, it ends by itself when it has nothing left, or after a minute or
  // settings.drain_timeout, whatever is longer: what ends the drain is Remove, since these settings
  // may be older than those that asked for it.
  DrainStatus Drain(const ServiceModel& model) override;
  std::vector<ClientBinding> Bindings(const ServiceModel& model) override;
  SyncResult Bind(const ServiceModel& model, const std::vector<ClientBinding>& bindings) override;
  SyncResult Remove() override;
  bool Present() override;

  // For metrics and tests. Throws when there is no forwarder.
  forwarder::Stats Statistics() { return link_.Statistics(); }
  pid_t forwarder_pid() { return link_.pid(); }

 private:
  using Slots = std::map<uint32_t, forwarder::Slot>;

  bool Serves(net::Family family) const;
  uint16_t PortOf(net::Family family) const {
    return family == net::Family::kIPv4 ? port_v4_ : port_v6_;
  }
  // The Services for which the forwarder's slots are not enough.
  std::set<std::pair<std::string, std::string>> WithoutSlots(const ServiceModel& model) const;
  // With `numbers`. A Service that cannot have a slot is refused on its addresses, rather than left
  // to whatever else answers there.
  static Steered Steer(const ServicePortEntry& entry, uint16_t port, bool without_slots,
                       SlotMap& numbers, ServiceRefusals& refusals);
  // A family in which the kernel gives the forwarder no sockets.
  void NoteFamiliesWithoutSockets(SyncResult& result) const;
  void SetRuleTexts();
  // Tells a draining forwarder which backends its slots have now.
  void RefreshSlots(const ServiceModel& model);
  static SyncResult EnsureRoute(net::Family family);
  void RemoveSlots(const std::vector<forwarder::Slot>& gone, SyncResult& result);
  // Deletes conntrack's UDP entries that lead to a slot for which `stale` says so.
  void ForgetDatagrams(const std::function<bool(net::Family, uint32_t)>& stale, SyncResult& result);

  const kube::ProxySettings settings_;
  ForwarderLink link_;
  std::vector<std::unique_ptr<xtables::FamilyRules>> families_;
  FamilyProblems rule_problems_;
  SlotMap numbers_;
  ServiceModel steered_;  // what the rules are made from
  std::unordered_map<ServicePortId, std::vector<uint32_t>, ServicePortIdHash> slots_of_;
  Slots slots_;           // what the forwarder has
  uint16_t port_v4_ = 0;  // in the rules
  uint16_t port_v6_ = 0;
  std::set<std::pair<std::string, std::string>> without_slots_;
  bool synced_ = false;
  bool drained_ = false;
};

}  // namespace pointsman::agent

// Rules for Services in one address family: what is wanted, what the kernel has, and the writing of
// what differs. The flavour says for which mode.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "kube/pointsman/proxy_settings.h"
#include "node-agent/dataplane/dataplane.h"
#include "node-agent/dataplane/draining_flows.h"
#include "node-agent/dataplane/route_localnet.h"
#include "node-agent/xtables/dispatch_tree.h"
#include "node-agent/xtables/iptables_tool.h"
#include "node-agent/xtables/jump_order.h"
#include "node-agent/xtables/kernel_rules.h"
#include "node-agent/xtables/service_rules.h"
#include "node-agent/xtables/shared_rules.h"

namespace pointsman::agent::xtables {

// Same contract as Dataplane. Remembers which addresses and ports lead to which Service (about 100
// bytes each), not the rules: those of a changed Service come from its states before and after.
class FamilyRules {
 public:
  // `tool` outlives this, and what flavour.prefix points to. Throws std::invalid_argument that
  // names the field.
  FamilyRules(const kube::ProxySettings& settings, IptablesTool& tool, const RuleFlavour& flavour,
              std::vector<ExtraChain> extra = {});

  // Other rules for one of the extra chains; written by the next sync, which is a full one then.
  void SetExtraText(std::string_view chain, std::string text);

  SyncResult FullSync(const ServiceModel& model);
  SyncResult Sync(const ServiceModel& model, const ModelDelta& delta);
  VerifyResult Verify(const ServiceModel& model);
  DrainStatus Drain(const ServiceModel& model);
  SyncResult Remove();
  bool Present();

  net::Family family() const { return rules_.family; }
  // sessionAffinity: ClientIP is kept (RuleSettings); known after the first full sync.
  bool keeps_affinity() const { return rules_.keeps_affinity; }
  // As Dataplane's.
  std::vector<std::string> Sysctls() const;

 private:
  struct TableJump {
    std::string builtin;
    Jump jump;
    bool new_connections;  // gone while draining
  };
  struct Table {
    std::string_view name;
    std::vector<TableJump> jumps;
    std::map<std::string_view, std::vector<Jump>> ByBuiltin() const;
  };
  struct Names {
    explicit Names(std::string_view prefix);
    std::string services, node_ports, hairpin, reject, reject_ports, forward, invalid, guard,
        health;
  };
  class Writer;   // collects one table's part of iptables-restore's input
  struct Change;  // of one object, found by a comparison
  using EachChain = std::function<void(std::string_view name, std::string_view text)>;

  void NameJumps();
  void ForEachExtraChain(std::string_view table, const EachChain& each) const;
  void Rebuild(const ServiceModel& model);
  // Which matches has it? Those that were there stay.
  void LookAtKernel();
  bool GuardsAgainstInvalid() const;
  std::vector<ServiceWarning> Warnings() const;
  void Set(const Dispatch& dispatch);
  void Erase(const Dispatch& dispatch);
  DispatchTree& Tree(DispatchTable table);
  // All chains that `model` asks for, in one table. The trees must be those of `model`.
  void ForEachChain(const Table& table, const ServiceModel& model, const EachChain& each) const;
  // Of those the ones that each table has of its own, whatever the Services.
  void ForEachNatChain(const EachChain& each) const;
  void ForEachFilterChain(const EachChain& each) const;
  void RenderEntrance(const DispatchTree& addresses, const DispatchTree& ports,
                      const NodeNetwork& node, std::string& text) const;
  void RenderGuard(std::string& text) const;
  void RenderHairpin(std::string& text) const;
  static void AddTreeChanges(DispatchTree& tree, Writer& writer, bool& entrance);
  // Compares the table in the kernel with what `model` asks for; returns how many rules that is.
  uint64_t Compare(const Table& table, const KernelRules& kernel, const ServiceModel& model,
                   Writer& writer, const std::function<void(const Change&)>& on_change) const;
  uint64_t Restore(const Writer& nat, const Writer& filter);
  bool IsToService(const netlink::ConntrackFlow& flow) const;

  const kube::ProxySettings settings_;
  RuleSettings rules_;
  const Names names_;
  std::vector<ExtraChain> extra_;
  Table nat_{"nat", {}};
  Table filter_{"filter", {}};
  IptablesTool& tool_;
  DispatchTree nat_addresses_;
  DispatchTree nat_ports_;
  DispatchTree filter_addresses_;
  DispatchTree filter_ports_;
  SharedRules shared_;
  LastKeepers keepers_;  // in table filter
  bool looked_at_kernel_ = false;
  bool has_bpf_ = false;  // one rule masquerades what an endpoint sends to itself
  RouteLocalnet localnet_;
  bool synced_ = false;   // the kernel has what the trees say
  bool drained_ = false;  // the jumps for new connections are gone
  DrainingFlows draining_;
};

}  // namespace pointsman::agent::xtables

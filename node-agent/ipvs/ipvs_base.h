// What ipvs mode needs in the kernel whatever the Services are: kernel parameters, the sets and the
// iptables rules of each family, and the device of the VIPs.
//
// One family may be out of order (kubernetes#99127: an ip6tables that refuses MARK): the other is
// served, and each full sync tries the first again. What the kernel holds of a family that is not
// served stays as it is until a full sync can serve it or Remove takes it away.
#pragma once

#include <map>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "kube/pointsman/proxy_settings.h"
#include "node-agent/dataplane/dataplane.h"
#include "node-agent/ipvs/nat_guard.h"
#include "node-agent/ipvs/room.h"
#include "node-agent/ipvs/strict_arp.h"
#include "node-agent/netlink/ipset.h"
#include "node-agent/netlink/ipvs.h"
#include "node-agent/netlink/socket.h"
#include "node-agent/xtables/iptables_tool.h"
#include "node-agent/xtables/jump_order.h"

namespace pointsman::agent::ipvs {

// Not thread-safe. What throws, throws std::system_error or what IptablesTool throws.
class IpvsBase {
 public:
  // Every name of ours of a set begins so.
  static constexpr std::string_view kSetPrefix = "PM-IPVS-";

  // Serves the tools' families. All but `room` and `modules_root` outlives this.
  IpvsBase(const kube::ProxySettings& settings, const std::vector<xtables::IptablesTool*>& tools,
           const Room& room, const std::string& modules_root, const char* device,
           netlink::Ipvs& ipvs, netlink::Ipset& ipset, netlink::Socket& route);

  // Writes what is missing. What is not there then, and must be before a VIP, leaves its family
  // unserved. `synced`: it was all there after the last full sync, so that what is written now is a
  // repair.
  void Ensure(const NodeNetwork& node, bool synced, SyncResult& result);
  // Compares the device and the rules of the families that are served, and names the others.
  VerifyResult Verify(const NodeNetwork& node);

  bool IsConfigured(net::Family family) const;
  // Configured, and the kernel took its sets and rules in the last Ensure.
  bool Serves(net::Family family) const;
  std::vector<net::Family> served() const;
  const std::vector<SyncProblem>& unserved() const { return unserved_; }
  // 0: there is none.
  int device_index() const { return device_index_; }
  // Looks for the device, which somebody may have deleted.
  void FindDevice();

  // New connections are kept for IPVS, and no longer for another of our modes. Of families that are
  // served.
  void TakeOver();
  // They are not any more.
  void StopTaking();
  // In this order. `result` has what went wrong; false: what follows must wait.
  bool RemoveEntrances(SyncResult& result);
  void RemoveRulesAndSets(SyncResult& result);
  // Is anything of ours there?
  bool Present();
  // As Dataplane's.
  std::vector<std::string> Sysctls() const;

 private:
  void EnsureTimeouts(SyncResult& result);
  void EnsureDevice(SyncResult& result);
  // `sets`: the names of those that exist.
  SyncResult EnsureFamily(net::Family family, xtables::IptablesTool& tool, const NodeNetwork& node,
                          const std::unordered_set<std::string>& sets, bool synced);
  VerifyResult VerifyRules(net::Family family, xtables::IptablesTool& tool,
                           const NodeNetwork& node) const;
  void EnsureStrictArp(bool recorded, SyncResult& result);
  void UndoStrictArp(SyncResult& result);

  const kube::ProxySettings& settings_;
  std::vector<std::pair<net::Family, xtables::IptablesTool*>> families_;
  std::map<net::Family, xtables::LastKeepers> keepers_;  // in table filter
  std::vector<SyncProblem> unserved_;  // why the last Ensure left out families; each names one
  const Room room_;
  const char* const device_;
  const std::string kernel_release_;
  netlink::Ipvs& ipvs_;
  netlink::Ipset& ipset_;
  netlink::Socket& route_;
  StrictArp strict_arp_;
  NatGuard nat_guard_;
  int device_index_ = 0;
};

}  // namespace pointsman::agent::ipvs

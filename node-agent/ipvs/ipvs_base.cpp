#include "node-agent/ipvs/ipvs_base.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <optional>
#include <stdexcept>
#include <system_error>
#include <thread>

#include "kube/process/kernel_release.h"
#include "node-agent/dataplane/family_parts.h"
#include "node-agent/ipvs/chains.h"
#include "node-agent/ipvs/rules.h"
#include "node-agent/ipvs/sets.h"
#include "node-agent/ipvs/sysctls.h"
#include "node-agent/netlink/link.h"

namespace pointsman::agent::ipvs {
namespace {

// An empty set that says: interfaces have strictARP from us. Whoever removes it knows no settings
// (--cleanup, or an agent whose settings have it off meanwhile).
constexpr char kStrictArpRecord[] = "PM-IPVS-STRICT-ARP";
constexpr std::string_view kRules = "iptables rules";

uint32_t Seconds(kube::Duration duration) {
  // A part of a second must not become "leave as it is".
  return static_cast<uint32_t>(std::chrono::ceil<std::chrono::seconds>(duration).count());
}

SyncProblem SetProblem(const std::string& name, std::string_view what, int error) {
  return {"ipset " + name, std::string(what) + ": " + netlink::IpsetErrorText(error)};
}

// Rules of nf_tables refer to a set until a worker of the kernel has destroyed them, a moment after
// the transaction that took them away (nf_tables_trans_destroy_work). 0 or an error number.
int DestroySet(netlink::Ipset& ipset, const std::string& name) {
  constexpr int kTries = 100;
  for (int tries = 1;; ++tries) {
    const int error = ipset.Destroy(name);
    if (error != netlink::Ipset::kInUse || tries == kTries) return error;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

SyncProblem RulesProblem(net::Family family, const std::exception& error) {
  return {"iptables rules of ipvs mode (" + std::string(net::ToString(family)) + ")", error.what()};
}

}  // namespace

IpvsBase::IpvsBase(const kube::ProxySettings& settings,
                   const std::vector<xtables::IptablesTool*>& tools, const Room& room,
                   const std::string& modules_root, const char* device, netlink::Ipvs& ipvs,
                   netlink::Ipset& ipset, netlink::Socket& route)
    : settings_(settings),
      room_(room),
      device_(device),
      kernel_release_(kube::KernelRelease()),
      ipvs_(ipvs),
      ipset_(ipset),
      route_(route),
      nat_guard_(ipset, settings.iptables.masquerade_bit, modules_root) {
  for (xtables::IptablesTool* tool : tools) {
    families_.emplace_back(tool->family(), tool);
    keepers_.try_emplace(tool->family(), tool->last_keepers());
  }
}

bool IpvsBase::IsConfigured(net::Family family) const {
  return std::any_of(families_.begin(), families_.end(),
                     [&](const auto& configured) { return configured.first == family; });
}

bool IpvsBase::Serves(net::Family family) const {
  return IsConfigured(family) &&
         std::none_of(unserved_.begin(), unserved_.end(),
                      [&](const SyncProblem& problem) { return problem.family == family; });
}

std::vector<net::Family> IpvsBase::served() const {
  std::vector<net::Family> served;
  for (const auto& [family, tool] : families_) {
    if (Serves(family)) served.push_back(family);
  }
  return served;
}

void IpvsBase::FindDevice() {
  const std::optional<netlink::Link> device = netlink::FindLink(route_, device_);
  device_index_ = device ? device->index : 0;
}

void IpvsBase::Ensure(const NodeNetwork& node, bool synced, SyncResult& result) {
  EnsureSysctls(NeededSysctls(kernel_release_, families_.size() > 1), result);
  EnsureTimeouts(result);
  EnsureSysctls(UdpTimeoutSysctls(settings_), result);

  std::unordered_set<std::string> sets;
  for (const netlink::SetInfo& set : ipset_.List())
    sets.insert(set.name);
  EnsureStrictArp(sets.contains(kStrictArpRecord), result);
  SyncResult all;
  for (const auto& [family, tool] : families_)
    AddPartOf(family, kRules, all, [&, &family = family, &tool = tool] {
      return EnsureFamily(family, *tool, node, sets, synced);
    });
  unserved_ = all.problems;
  result.Add(std::move(all));
  if (!served().empty()) EnsureDevice(result);
}

void IpvsBase::EnsureTimeouts(SyncResult& result) {
  const netlink::IpvsTimeouts wanted{Seconds(settings_.ipvs.tcp_timeout),
                                     Seconds(settings_.ipvs.tcp_fin_timeout),
                                     Seconds(settings_.ipvs.udp_timeout)};
  const netlink::IpvsTimeouts present = ipvs_.Timeouts();
  const auto differs = [](uint32_t want, uint32_t is) { return want != 0 && want != is; };
  if (!differs(wanted.tcp, present.tcp) && !differs(wanted.tcp_fin, present.tcp_fin) &&
      !differs(wanted.udp, present.udp))
    return;
  try {
    ipvs_.SetTimeouts(wanted);
    ++result.kernel_writes;
  } catch (const std::system_error& e) {
    result.problems.push_back({"ipvs timeouts", e.what()});
  }
}

void IpvsBase::EnsureDevice(SyncResult& result) {
  std::optional<netlink::Link> device = netlink::FindLink(route_, device_);
  if (!device) {
    netlink::CreateDummy(route_, device_, 0);
    ++result.kernel_writes;
    device = netlink::FindLink(route_, device_);
    if (!device)
      throw std::system_error(ENODEV, std::generic_category(),
                              std::string("interface ") + device_ + " vanished at once");
  } else if (!device->up) {
    netlink::SetLinkUp(route_, device_);
    ++result.kernel_writes;
  }
  device_index_ = device->index;
}

SyncResult IpvsBase::EnsureFamily(net::Family family, xtables::IptablesTool& tool,
                                  const NodeNetwork& node,
                                  const std::unordered_set<std::string>& sets, bool synced) {
  SyncResult result;
  for (const SetId id : kAllSets) {
    const std::string name = SetName(id, family);
    if (sets.contains(name)) continue;
    const int error = ipset_.Create(
        name, SetTypeOf(id), family,
        static_cast<uint32_t>(2 * std::max({room_.servers, room_.sources, room_.hairpins})));
    if (error != 0)
      result.problems.push_back(SetProblem(name, "create", error));
    else
      ++result.kernel_writes;
  }
  if (!result.ok()) return result;  // the rules name the sets
  std::vector<Chain> chains;
  try {
    chains = DesiredChains(family, settings_, node, tool.has_random_fully());
  } catch (const std::invalid_argument& e) {
    result.problems.push_back({std::string(kRules), e.what()});
    return result;
  }
  const EnsuredChains ensured = EnsureChains(tool, chains, keepers_.at(family));
  size_t written = ensured.written;
  if (!ensured.other_mode_takes) written += nat_guard_.Ensure(family);
  result.kernel_writes += written;
  if (synced && Serves(family)) result.repaired = written;
  return result;
}

std::vector<std::string> IpvsBase::Sysctls() const {
  std::vector<std::string> names;
  for (const auto& list :
       {NeededSysctls(kernel_release_, families_.size() > 1), UdpTimeoutSysctls(settings_)}) {
    for (const Sysctl& sysctl : list)
      names.push_back(sysctl.name);
  }
  // Last: there are as many as interfaces.
  names.insert(names.end(), strict_arp_.names().begin(), strict_arp_.names().end());
  return names;
}

void IpvsBase::EnsureStrictArp(bool recorded, SyncResult& result) {
  if (settings_.ipvs.strict_arp) {
    // The record first: killed between the two, nothing stays behind that nobody knows of.
    if (!recorded) {
      const int error =
          ipset_.Create(kStrictArpRecord, netlink::SetType::kHashIp, net::Family::kIPv4, 1);
      if (error != 0) {
        result.problems.push_back(SetProblem(kStrictArpRecord, "create", error));
        return;
      }
      ++result.kernel_writes;
    }
    strict_arp_.Ensure(route_, result);
  } else if (recorded) {
    UndoStrictArp(result);
  }
}

void IpvsBase::UndoStrictArp(SyncResult& result) {
  const size_t problems_before = result.problems.size();
  strict_arp_.Restore(route_, result);
  if (result.problems.size() != problems_before) return;
  const int error = ipset_.Destroy(kStrictArpRecord);
  if (error != 0 && error != ENOENT)
    result.problems.push_back(SetProblem(kStrictArpRecord, "destroy", error));
  else
    ++result.kernel_writes;
}

VerifyResult IpvsBase::Verify(const NodeNetwork& node) {
  VerifyResult result;
  const std::optional<netlink::Link> device = netlink::FindLink(route_, device_);
  ++result.objects_checked;
  if (!device || !device->up) result.Differ(device_, device ? "is down" : "is missing");
  device_index_ = device ? device->index : 0;
  for (const auto& [family, tool] : families_) {
    if (Serves(family))
      AddPartOf(family, kRules, result,
                [&, &family = family, &tool = tool] { return VerifyRules(family, *tool, node); });
  }
  for (const SyncProblem& problem : unserved_) {
    result.differences.push_back(problem);
    ++result.difference_count;
  }
  return result;
}

VerifyResult IpvsBase::VerifyRules(net::Family family, xtables::IptablesTool& tool,
                                   const NodeNetwork& node) const {
  const std::vector<Chain> chains = DesiredChains(family, settings_, node, tool.has_random_fully());
  VerifyResult result;
  result.objects_checked = chains.size();
  for (std::string& difference : CheckChains(tool, chains, keepers_.at(family)))
    result.Differ("iptables", std::move(difference));
  nat_guard_.Verify(family, result);
  return result;
}

void IpvsBase::TakeOver() {
  for (const auto& [family, tool] : families_) {
    if (Serves(family)) nat_guard_.Ensure(family);
  }
}

void IpvsBase::StopTaking() {
  for (const auto& [family, tool] : families_) {
    nat_guard_.Remove(family);
    ipvs::StopTaking(*tool);
  }
}

bool IpvsBase::RemoveEntrances(SyncResult& result) {
  // Where another dataplane serves, it has to get the new connections before the VIPs go.
  for (const auto& [family, tool] : families_) {
    try {
      if (nat_guard_.Remove(family)) ++result.kernel_writes;
      ipvs::StopTaking(*tool);
    } catch (const std::exception& e) {
      result.problems.push_back(RulesProblem(family, e));
      return false;
    }
  }
  // The VIPs first: nothing of the node may answer on them when the filter goes.
  try {
    if (netlink::DeleteLink(route_, device_)) ++result.kernel_writes;
  } catch (const std::system_error& e) {
    result.problems.push_back({device_, e.what()});
    return false;
  }
  device_index_ = 0;
  return true;
}

void IpvsBase::RemoveRulesAndSets(SyncResult& result) {
  for (const auto& [family, tool] : families_) {
    try {
      result.kernel_writes += RemoveChains(*tool);
    } catch (const std::exception& e) {
      result.problems.push_back(RulesProblem(family, e));
    }
  }
  for (const netlink::SetInfo& set : ipset_.List()) {
    if (!set.name.starts_with(kSetPrefix)) continue;
    if (set.name == kStrictArpRecord) {
      UndoStrictArp(result);
      continue;
    }
    const int error = DestroySet(ipset_, set.name);
    if (error != 0 && error != ENOENT)
      result.problems.push_back(SetProblem(set.name, "destroy", error));
    else
      ++result.kernel_writes;
  }
  unserved_.clear();
}

bool IpvsBase::Present() {
  if (netlink::FindLink(route_, device_)) return true;
  for (const netlink::SetInfo& set : ipset_.List()) {
    if (set.name.starts_with(kSetPrefix)) return true;
  }
  return std::any_of(families_.begin(), families_.end(), [this](const auto& configured) {
    const auto& [family, tool] = configured;
    return nat_guard_.Present(family) || AnyChain(*tool);
  });
}

}  // namespace pointsman::agent::ipvs

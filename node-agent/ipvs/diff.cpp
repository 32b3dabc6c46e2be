#include "node-agent/ipvs/diff.h"

#include <algorithm>
#include <iterator>
#include <linux/ip_vs.h>
#include <tuple>
#include <unordered_set>

namespace pointsman::agent::ipvs {
namespace {

using netlink::IpvsDestination;
using netlink::IpvsServer;

// Destinations and backends meet in this order.
auto Order(const IpvsDestination& d) {
  return std::tie(d.address, d.port);
}

auto Order(const Backend& backend) {
  return std::tie(backend.ip, backend.port);
}

bool IsSame(const IpvsServer& a, const IpvsServer& b) {
  return a.scheduler == b.scheduler && a.flags == b.flags &&
         ((a.flags & IP_VS_SVC_F_PERSISTENT) == 0 || a.persistence == b.persistence);
}

// Is the address and port of `gone` in one of the open sets of `entries` (sorted)? Not in the one
// that sends it elsewhere: where it was sent to, there may be another's virtual server from now on.
bool IsOpenIn(const std::vector<SetEntry>& entries, const SetEntry& gone) {
  return std::any_of(kAllSets.begin(), kAllSets.end(), [&](SetId id) {
    return IsOpenSet(id) && id != OtherPlace(gone.set) &&
           std::binary_search(entries.begin(), entries.end(), SetEntry{id, gone.element});
  });
}

class Differ {
 public:
  Differ(DesiredState& desired, const KernelState& kernel, const Schedulers& schedulers,
         const HostAddresses& host, DiffVisitor& visitor)
      : desired_(desired),
        kernel_(kernel),
        schedulers_(schedulers),
        host_(host),
        visitor_(visitor) {}

  size_t Run() {
    for (const FrontendKey& key : desired_.order)
      WantedFrontend(key, *desired_.frontends.Find(key));
    UnwantedFrontends();
    for (const auto& [element, uses] : desired_.shared)
      Want(element, nullptr);
    for (const SetEntry& element : desired_.node_elements)
      Want(element, nullptr);
    Surplus();
    return wanted_.size();
  }

 private:
  void Want(const SetEntry& element, const ServicePortEntry* entry) {
    wanted_.push_back(element);
    // A VIP's came with the first frontend that has it.
    if (element.set == SetId::kVip && vips_.contains(element.element.ip)) return;
    if (!kernel_.Has(element)) visitor_.MissingElement(element, entry);
  }

  void WantVip(const net::IpAddress& ip) {
    if (vips_.contains(ip)) return;
    Want(VipElement(ip), nullptr);
    vips_.insert(ip);
    if (!kernel_.vips.contains(ip)) visitor_.MissingVip(ip);
  }

  void WantedFrontend(const FrontendKey& key, const Frontend& frontend) {
    visitor_.BeginFrontend(key, frontend);
    if (frontend.vip) WantVip(key.ip);
    for (const SetEntry& element : OwnElements(key, frontend))
      Want(element, frontend.entry.get());
    visitor_.Server(DiffServer(key, &frontend, kernel_.Server(key), schedulers_));
    visitor_.EndFrontend();
  }

  void UnwantedFrontends() {
    for (const SetEntry& element : kernel_.elements) {
      if (element.set != SetId::kOwned) continue;
      const FrontendKey key = KeyOf(element);
      const ServerState* present = kernel_.Server(key);
      if (present == nullptr || desired_.frontends.Contains(key)) continue;
      ServerDiff diff = DiffServer(key, nullptr, present, schedulers_);
      diff.left_to_another = desired_.frontends.IsLeftToDnsCache(key);
      if (!visitor_.Server(diff)) continue;
      Frontend left;
      left.vip = kernel_.Has(VipElement(key.ip)) && !host_.Contains(key.ip);
      CountShared(key, desired_.frontends.AddTerminating(key, left), 1, desired_.shared);
      if (left.vip) vips_.insert(key.ip);
      Want(element, nullptr);
    }
  }

  void Surplus() {
    std::sort(wanted_.begin(), wanted_.end());
    wanted_.erase(std::unique(wanted_.begin(), wanted_.end()), wanted_.end());
    for (const SetEntry& element : kernel_.elements) {
      if (std::binary_search(wanted_.begin(), wanted_.end(), element)) continue;
      visitor_.SurplusElement(element, IsOpenIn(wanted_, element));
    }
    for (const net::IpAddress& ip : kernel_.vips) {
      if (!vips_.contains(ip)) visitor_.SurplusVip(ip);
    }
  }

  DesiredState& desired_;
  const KernelState& kernel_;
  const Schedulers& schedulers_;
  const HostAddresses& host_;
  DiffVisitor& visitor_;
  std::vector<SetEntry> wanted_;
  std::unordered_set<net::IpAddress> vips_;
};

}  // namespace

IpvsDestination MakeDestination(const net::IpAddress& ip, uint16_t port) {
  IpvsDestination d;
  d.address = ip;
  d.port = port;
  d.weight = 1;
  d.forwarding = IP_VS_CONN_F_MASQ;
  return d;
}

ServerDiff DiffServer(const FrontendKey& key, const Frontend* want, const ServerState* present,
                      const Schedulers& schedulers) {
  static const std::vector<Backend> kNoBackends;
  static const std::vector<IpvsDestination> kNoDestinations;
  ServerDiff diff;
  diff.key = key;
  diff.present = present;
  if (want != nullptr) {
    diff.entry = want->entry.get();
    diff.server = schedulers.ServerOf(key, *want->entry);
    diff.server_differs = present != nullptr && !IsSame(diff.server, present->server);
  } else if (present != nullptr) {
    diff.server = present->server;
  }
  const std::vector<Backend>& backends = want != nullptr ? want->backends() : kNoBackends;
  const std::vector<IpvsDestination>& destinations =
      present != nullptr ? present->destinations : kNoDestinations;
  diff.wanted = backends.size();
  auto at = destinations.begin();
  for (const Backend& backend : backends) {
    while (at != destinations.end() && Order(*at) < Order(backend))
      diff.surplus.push_back(&*at++);
    if (at == destinations.end() || Order(*at) != Order(backend)) {
      diff.missing.push_back(MakeDestination(backend.ip, backend.port));
      continue;
    }
    if (at->weight != 1 || at->forwarding != IP_VS_CONN_F_MASQ) diff.changed.push_back(&*at);
    ++at;
  }
  while (at != destinations.end())
    diff.surplus.push_back(&*at++);
  return diff;
}

ServerState MakeServerState(const FrontendKey& key, const Frontend& frontend,
                            const Schedulers& schedulers) {
  ServerState state;
  // Of an earlier process: no scheduler, which differs from any that is wanted.
  state.server =
      frontend.entry != nullptr ? schedulers.ServerOf(key, *frontend.entry) : ToServer(key);
  for (const Backend& backend : frontend.backends())
    state.destinations.push_back(MakeDestination(backend.ip, backend.port));
  return state;
}

void DiffElements(const std::vector<SetEntry>& present, const std::vector<SetEntry>& wanted,
                  const ServicePortEntry* entry, DiffVisitor& visitor) {
  std::vector<SetEntry> change;
  std::set_difference(wanted.begin(), wanted.end(), present.begin(), present.end(),
                      std::back_inserter(change));
  for (const SetEntry& element : change)
    visitor.MissingElement(element, entry);
  change.clear();
  std::set_difference(present.begin(), present.end(), wanted.begin(), wanted.end(),
                      std::back_inserter(change));
  for (const SetEntry& element : change)
    visitor.SurplusElement(element, IsOpenIn(wanted, element));
}

void DiffShared(const SharedElements::Changes& changes, DiffVisitor& visitor) {
  for (const SetEntry& element : changes.came) {
    visitor.MissingElement(element, nullptr);
    if (element.set == SetId::kVip) visitor.MissingVip(element.element.ip);
  }
  for (const SetEntry& element : changes.went) {
    visitor.SurplusElement(element, false);
    if (element.set == SetId::kVip) visitor.SurplusVip(element.element.ip);
  }
}

size_t Diff(DesiredState& desired, const KernelState& kernel, const Schedulers& schedulers,
            const HostAddresses& host, DiffVisitor& visitor) {
  return Differ(desired, kernel, schedulers, host, visitor).Run();
}

bool IsExcluded(const kube::ProxySettings& settings, const net::IpAddress& address) {
  return std::any_of(settings.ipvs.exclude_cidrs.begin(), settings.ipvs.exclude_cidrs.end(),
                     [&](const net::IpPrefix& cidr) { return cidr.Contains(address); });
}

std::vector<std::pair<FrontendKey, Frontend>> LeaveToOthers(DesiredState& desired,
                                                            const KernelState& kernel,
                                                            const kube::ProxySettings& settings) {
  std::vector<std::pair<FrontendKey, Frontend>> left;
  if (settings.ipvs.exclude_cidrs.empty()) return left;
  std::erase_if(desired.order, [&](const FrontendKey& key) {
    const Frontend& frontend = *desired.frontends.Find(key);
    if (!IsExcluded(settings, frontend.address)) return false;
    // The address that clients ask for has a virtual server of others.
    const FrontendKey theirs{frontend.address, key.port, key.protocol};
    if (kernel.Server(theirs) == nullptr || kernel.Has(OwnedElement(theirs))) return false;
    left.emplace_back(key, frontend);
    CountShared(key, frontend, -1, desired.shared);
    desired.frontends.Erase(key);
    return true;
  });
  return left;
}

}  // namespace pointsman::agent::ipvs

#include "node-agent/ipvs/ipvs_dataplane.h"

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <linux/ip_vs.h>
#include <linux/netfilter/ipset/ip_set.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <system_error>

#include <spdlog/spdlog.h>
#include <unistd.h>

#include "kube/net/socket_address.h"
#include "kube/pointsman/limits.h"
#include "kube/text/text.h"
#include "node-agent/dataplane/family_parts.h"
#include "node-agent/ipvs/internal_addresses.h"
#include "node-agent/ipvs/sysctls.h"
#include "node-agent/ipvs/template_sync.h"
#include "node-agent/netlink/address.h"
#include "node-agent/netlink/ipvs_table.h"
#include "node-agent/netlink/ipvs_templates.h"
#include "node-agent/netlink/link.h"
#include "node-agent/netlink/local_route.h"

namespace pointsman::agent {

using ipvs::FrontendKey;
using ipvs::FrontendSource;
using ipvs::SetEntry;
using ipvs::SetId;
using ipvs::Writer;
using netlink::IpvsDestination;
using netlink::IpvsServer;
using std::chrono::steady_clock;

namespace {

// An empty set that says: interfaces have strictARP from us. Whoever removes it knows no settings
// (--cleanup, or an agent whose settings have it off meanwhile).
constexpr char kStrictArpRecord[] = "PM-IPVS-STRICT-ARP";
// A first sync is carried out in pieces, so that memory for requests stays small and the first
// Services work before the last are written.
constexpr size_t kChangesPerFlush = 8192;
constexpr auto kUdpIdle = std::chrono::seconds(30);
// How often destinations of weight 0 are looked at while there are any.
constexpr auto kQuietLook = std::chrono::seconds(30);
constexpr size_t kMaxDifferences = VerifyResult::kMaxDifferences;
constexpr std::string_view kRules = "iptables rules";
// A table of a million connections takes older kernels minutes to print.
constexpr auto kBindingsTime = std::chrono::seconds(2);

std::string KernelRelease() {
  utsname names{};
  if (uname(&names) < 0) throw std::system_error(errno, std::generic_category(), "uname");
  return names.release;
}

// Destinations and backends meet in this order.
auto Order(const IpvsDestination& d) {
  return std::tie(d.address, d.port);
}

void SortDestinations(std::vector<IpvsDestination>& destinations) {
  std::sort(destinations.begin(), destinations.end(),
            [](const auto& a, const auto& b) { return Order(a) < Order(b); });
}

IpvsDestination MakeDestination(const Backend& backend) {
  IpvsDestination d;
  d.address = backend.ip;
  d.port = backend.port;
  d.weight = 1;
  d.forwarding = IP_VS_CONN_F_MASQ;
  return d;
}

uint32_t SchedulerFlags(const std::string& text) {
  uint32_t flags = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    const std::string_view word = std::string_view(text).substr(at, end - at);
    if (word == "flag-1" || word == "sh-fallback" || word == "mh-fallback")
      flags |= IP_VS_SVC_F_SCHED1;
    else if (word == "flag-2" || word == "sh-port" || word == "mh-port")
      flags |= IP_VS_SVC_F_SCHED2;
    else if (word == "flag-3")
      flags |= IP_VS_SVC_F_SCHED3;
    at = end + 1;
  }
  return flags;
}

bool SameServer(const IpvsServer& a, const IpvsServer& b) {
  return a.scheduler == b.scheduler && a.flags == b.flags &&
         ((a.flags & IP_VS_SVC_F_PERSISTENT) == 0 || a.persistence == b.persistence);
}

// A health check node port has no address of its own: the key's says the family.
std::optional<FrontendKey> HealthKey(const ServicePortEntry& entry) {
  if (entry.health_check_node_port == 0) return std::nullopt;
  return FrontendKey{ipvs::NodePortAddress(entry.id.family),
                     static_cast<uint16_t>(entry.health_check_node_port), IPPROTO_TCP};
}

std::array<SetEntry, 2> HealthElements(const FrontendKey& key) {
  return ipvs::PortElements(SetId::kHealth, key.ip.family(), key.port, key.protocol);
}

// The address that this node's connections to `ip` have as their source; nullopt: there is no
// route. Nothing is sent.
std::optional<net::IpAddress> SourceTo(const net::IpAddress& ip) {
  const sockaddr_storage to = net::ToSocketAddress(ip, 9);
  const int fd = ::socket(to.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return std::nullopt;
  sockaddr_storage own{};
  socklen_t size = sizeof own;
  const bool known =
      ::connect(fd, reinterpret_cast<const sockaddr*>(&to), net::SocketAddressSize(ip)) == 0 &&
      ::getsockname(fd, reinterpret_cast<sockaddr*>(&own), &size) == 0;
  ::close(fd);
  if (!known) return std::nullopt;
  return net::FromSocketAddress(own).ip;
}

// To elsewhere. Without a route there, there is none to a Service without its VIP either.
std::optional<net::IpAddress> UsualSource() {
  return SourceTo(net::IpAddress::V4(0xc0000201));  // 192.0.2.1, of RFC 5737: nobody's
}

SetEntry OwnedElement(const FrontendKey& key) {
  SetEntry owned;
  owned.set = SetId::kOwned;
  owned.element.ip = key.ip;
  owned.element.protocol = key.protocol;
  owned.element.port = key.port;
  return owned;
}

bool IsDraining(const ServicePortEntry& entry, const IpvsDestination& d) {
  const auto at = std::lower_bound(entry.draining.begin(), entry.draining.end(),
                                   Backend{d.address, d.port, false});
  return at != entry.draining.end() && at->ip == d.address && at->port == d.port;
}

bool IsIdle(const IpvsDestination& d) {
  return d.active == 0 && d.inactive == 0;
}

Writer::When WhenToAdd(SetId id) {
  if (ipvs::SendsOn(id)) return Writer::When::kLast;
  return ipvs::IsOpenSet(id) ? Writer::When::kLate : Writer::When::kEarly;
}

// `stays_open`: another open set has it, or will have it when WhenToAdd's time has come.
Writer::When WhenToDelete(SetId id, bool stays_open) {
  if (!ipvs::IsOpenSet(id)) return Writer::When::kLast;
  return stays_open ? Writer::When::kLast : Writer::When::kEarly;
}

// Is the address and port of `gone` in one of the open sets of `entries` (sorted)? Not in the one
// that sends it elsewhere: where it was sent to, there may be another's virtual server from now on.
bool IsOpenIn(const std::vector<SetEntry>& entries, const SetEntry& gone) {
  return std::any_of(ipvs::kAllSets.begin(), ipvs::kAllSets.end(), [&](SetId id) {
    return ipvs::IsOpenSet(id) && id != ipvs::OtherPlace(gone.set) &&
           std::binary_search(entries.begin(), entries.end(), SetEntry{id, gone.element});
  });
}

uint32_t Seconds(kube::Duration duration) {
  // A part of a second must not become "leave as it is".
  return static_cast<uint32_t>(std::chrono::ceil<std::chrono::seconds>(duration).count());
}

}  // namespace

struct IpvsDataplane::Kernel {
  std::unordered_map<Key, ServerState, ipvs::FrontendKeyHash> servers;  // not those by fwmark
  std::vector<SetEntry> elements;  // sorted; ours, all families
  std::unordered_set<net::IpAddress> routes;
  bool Has(const SetEntry& entry) const {
    return std::binary_search(elements.begin(), elements.end(), entry);
  }
};

struct IpvsDataplane::Desired {
  Frontends frontends;
  std::unordered_set<Key, ipvs::FrontendKeyHash> shared;
  std::vector<Claim> left_out;
  // The default/kubernetes Service first, the others by address.
  std::vector<Key> order;
  ipvs::Needs needs;
  std::map<ipvs::ServiceName, std::string> crowded;
};

IpvsDataplane::IpvsDataplane(const kube::ProxySettings& settings, EnsureScheduler ensure_scheduler,
                             const std::vector<IptablesTool*>& tools, const ipvs::Room& room)
    : settings_(settings),
      ensure_scheduler_(std::move(ensure_scheduler)),
      room_(room),
      kernel_release_(KernelRelease()),
      route_(NETLINK_ROUTE) {
  for (IptablesTool* tool : tools)
    families_.emplace_back(tool->family(), tool);
  // An old kernel ignores the filter of a route dump; what it then answers too many is skipped.
  static_cast<void>(route_.EnableStrictCheck());
}

bool IpvsDataplane::Excluded(const net::IpAddress& ip) const {
  return std::any_of(settings_.ipvs.exclude_cidrs.begin(), settings_.ipvs.exclude_cidrs.end(),
                     [&](const net::IpPrefix& cidr) { return cidr.Contains(ip); });
}

bool IpvsDataplane::IsHostAddress(const net::IpAddress& ip) const {
  return std::binary_search(host_addresses_.begin(), host_addresses_.end(), ip);
}

std::vector<SetEntry> IpvsDataplane::NodeAddresses(const NodeNetwork& node) const {
  std::vector<SetEntry> entries;
  // Nothing is said: every address of the node, which the rules know without a set.
  if (settings_.node_port_addresses.empty() && !settings_.node_port_primary) return entries;
  for (const net::IpAddress& ip : node.node_port_addresses) {
    if (Serves(ip.family()) && !ip.IsLoopback()) entries.push_back(ipvs::NodeAddressElement(ip));
  }
  return entries;
}

bool IpvsDataplane::NodeInRanges(const ServicePortEntry& entry) const {
  return std::any_of(
      entry.source_ranges.begin(), entry.source_ranges.end(), [&](const net::IpPrefix& range) {
        return std::any_of(host_addresses_.begin(), host_addresses_.end(),
                           [&](const net::IpAddress& ip) { return range.Contains(ip); });
      });
}

const std::string& IpvsDataplane::SchedulerOf(const ServicePortEntry& entry) const {
  const auto known = schedulers_.find(entry.ipvs_scheduler);
  const bool usable = known != schedulers_.end() && known->second.empty();
  return usable ? known->first : settings_.ipvs.scheduler;
}

void IpvsDataplane::CheckScheduler(const ServicePortEntry& entry) {
  if (entry.ipvs_scheduler.empty()) return;
  auto [known, unseen] = schedulers_.try_emplace(entry.ipvs_scheduler);
  if (unseen) {
    // The name comes from whoever may write Services: only the kernel's own schedulers are modules
    // that they may have loaded.
    if (!kube::limits::IsIpvsScheduler(entry.ipvs_scheduler)) {
      known->second = "IPVS has no such scheduler";
    } else {
      known->second = ensure_scheduler_(entry.ipvs_scheduler);
    }
  }
  if (known->second.empty()) return;
  scheduler_warnings_[entry.id] =
      "annotation pointsman.io/ipvs-scheduler: " + text::Quote(entry.ipvs_scheduler) +
      " cannot be used: " + known->second + "; " + settings_.ipvs.scheduler + " is used";
}

std::vector<ServiceWarning> IpvsDataplane::Warnings(const Frontends& frontends) const {
  std::vector<ServiceWarning> warnings;
  for (const auto& [id, message] : scheduler_warnings_)
    warnings.push_back({id.ns, id.name, message});
  const auto holder = [&](const Key& key) {
    const auto found = frontends.find(key);
    return found == frontends.end() || found->second.lingering
               ? std::string("another")
               : found->second.address.ToString() + " (Service port " +
                     found->second.entry->id.ToString() + ")";
  };
  for (const Claim& claim : left_out_) {
    const auto& [key, source, address] = claim.frontend;
    const std::optional<Key> spare = ipvs::SpareKey(claim.frontend);
    if (!ipvs::IsExternalAddress(source) || !spare) continue;
    warnings.push_back({claim.entry->id.ns, claim.entry->id.name,
                        address.ToString() + " is not served: its addresses in IPVS, " +
                            key.ip.ToString() + " and " + spare->ip.ToString() +
                            ", are also those of " + holder(key) + " and " + holder(*spare)});
  }
  std::sort(warnings.begin(), warnings.end());
  // One Service with several ports says it once.
  warnings.erase(std::unique(warnings.begin(), warnings.end()), warnings.end());
  return warnings;
}

void IpvsDataplane::NoteFullSyncDue() {
  full_sync_due_ = steady_clock::time_point::max();
  if (quiet_.empty()) return;
  const auto now = steady_clock::now();
  // Those whose connections have ended go then, and those of terminating pods are looked after.
  full_sync_due_ = now + kQuietLook;
  for (const auto& [key, destinations] : quiet_) {
    for (const Quiet& quiet : destinations) {
      if (!quiet.terminating) full_sync_due_ = std::min(full_sync_due_, quiet.deadline);
    }
  }
  full_sync_due_ = std::max(full_sync_due_, now + std::chrono::seconds(1));
}

IpvsServer IpvsDataplane::MakeServer(const Key& key, const ServicePortEntry& entry) const {
  IpvsServer server;
  server.address = key.ip;
  server.port = key.port;
  server.protocol = key.protocol;
  server.scheduler = SchedulerOf(entry);
  // Flags are meant for the scheduler that the Service asks for.
  if (entry.ipvs_scheduler.empty() || server.scheduler == entry.ipvs_scheduler)
    server.flags = SchedulerFlags(entry.ipvs_scheduler_flags);
  // These two keep a hash slot for a destination of weight 0 and would refuse its clients while it
  // drains, if they were not told to look further.
  if (server.scheduler == "sh" || server.scheduler == "mh") server.flags |= IP_VS_SVC_F_SCHED1;
  if (entry.affinity_timeout.count() > 0) {
    server.flags |= IP_VS_SVC_F_PERSISTENT;
    server.persistence = static_cast<uint32_t>(entry.affinity_timeout.count());
  }
  return server;
}

IpvsDataplane::Frontend IpvsDataplane::MakeFrontend(const EntryPtr& entry,
                                                    const ipvs::FrontendClaim& claim) const {
  Frontend frontend;
  frontend.entry = entry;
  frontend.source = claim.source;
  frontend.address = claim.address;
  frontend.vip = claim.source != FrontendSource::kClusterIp || !IsHostAddress(claim.key.ip);
  return frontend;
}

std::optional<FrontendKey> IpvsDataplane::PlaceOf(const Frontends& frontends,
                                                  const ServicePortId& id,
                                                  const ipvs::FrontendClaim& claim) {
  const auto is_at = [&](const Key& key) {
    const auto found = frontends.find(key);
    return found != frontends.end() && !found->second.lingering &&
           found->second.source == claim.source && found->second.address == claim.address &&
           found->second.entry->id == id;
  };
  if (is_at(claim.key)) return claim.key;
  const std::optional<Key> spare = ipvs::SpareKey(claim);
  return spare && is_at(*spare) ? spare : std::nullopt;
}

const std::vector<Backend>& IpvsDataplane::BackendsOf(const Frontend& frontend) {
  static const std::vector<Backend> kNone;
  if (frontend.lingering) return kNone;
  return ipvs::ChoiceOf(*frontend.entry, frontend.source).backends;
}

std::vector<SetEntry> IpvsDataplane::Elements(const Key& key, const Frontend& frontend) const {
  std::vector<SetEntry> elements;
  if (frontend.lingering) {
    elements.push_back(OwnedElement(key));
    return elements;
  }
  ipvs::ForEachOwnElement({key, frontend.source, frontend.address}, *frontend.entry,
                          NodeInRanges(*frontend.entry),
                          [&](const SetEntry& entry) { elements.push_back(entry); });
  std::sort(elements.begin(), elements.end());
  elements.erase(std::unique(elements.begin(), elements.end()), elements.end());
  return elements;
}

// What the kernel holds of a frontend, from memory.
IpvsDataplane::ServerState IpvsDataplane::Remembered(const Key& key,
                                                     const Frontend& frontend) const {
  ServerState state;
  if (frontend.entry != nullptr) {
    state.server = MakeServer(key, *frontend.entry);
  } else {
    state.server.address = key.ip;
    state.server.port = key.port;
    state.server.protocol = key.protocol;  // no scheduler: differs from any wanted server
  }
  for (const Backend& backend : BackendsOf(frontend))
    state.destinations.push_back(MakeDestination(backend));
  if (auto it = quiet_.find(key); it != quiet_.end()) {
    for (const Quiet& quiet : it->second) {
      IpvsDestination d;
      d.address = quiet.ip;
      d.port = quiet.port;
      d.forwarding = IP_VS_CONN_F_MASQ;
      state.destinations.push_back(d);
    }
  }
  SortDestinations(state.destinations);
  return state;
}

bool IpvsDataplane::PlanServer(Writer& writer, const Key& key, const ServerState* current,
                               bool counted, const Frontend* want) {
  static const std::vector<Backend> kNone;
  const ServicePortEntry* entry = want != nullptr ? want->entry.get() : nullptr;
  const std::vector<Backend>& backends = want != nullptr ? BackendsOf(*want) : kNone;
  if (current == nullptr && counted) quiet_.erase(key);  // whatever there was is gone
  if (current == nullptr && backends.empty()) return false;

  IpvsServer server;
  if (want != nullptr)
    server = MakeServer(key, *want->entry);
  else
    server = current->server;
  if (current == nullptr)
    writer.NewServer(server, entry);
  else if (!SameServer(server, current->server))
    writer.SetServer(server, entry);

  // New backends first: a Service never has fewer than before or after.
  static const std::vector<IpvsDestination> kNoDestinations;
  const std::vector<IpvsDestination>& present =
      current != nullptr ? current->destinations : kNoDestinations;
  std::vector<Quiet>* quiet = nullptr;
  if (auto it = quiet_.find(key); it != quiet_.end()) quiet = &it->second;
  auto unquiet = [&](const net::IpAddress& ip, uint16_t port) {
    if (quiet != nullptr)
      std::erase_if(*quiet, [&](const Quiet& q) { return q.ip == ip && q.port == port; });
  };
  size_t kept = backends.size();
  std::vector<const IpvsDestination*> gone;
  auto at = present.begin();
  for (const Backend& backend : backends) {
    while (at != present.end() && Order(*at) < std::tie(backend.ip, backend.port))
      gone.push_back(&*at++);
    const IpvsDestination wanted = MakeDestination(backend);
    if (at == present.end() || Order(*at) != Order(wanted)) {
      writer.NewDestination(server, wanted, entry);
      continue;
    }
    if (at->weight != wanted.weight || at->forwarding != wanted.forwarding) {
      writer.SetDestination(server, wanted, entry);
      unquiet(wanted.address, wanted.port);
    }
    ++at;
  }
  while (at != present.end())
    gone.push_back(&*at++);

  // UDP has no end that IPVS could see, and dh does not look past a destination of weight 0.
  const bool drains = key.protocol != IPPROTO_UDP && server.scheduler != "dh";
  const auto now = steady_clock::now();
  for (const IpvsDestination* d : gone) {
    const bool terminating = entry != nullptr && IsDraining(*entry, *d);
    if (!drains || (!terminating && settings_.drain_timeout.count() == 0)) {
      writer.DeleteDestination(server, *d, entry);
      unquiet(d->address, d->port);
      continue;
    }
    if (quiet == nullptr) quiet = &quiet_[key];
    const auto deadline =
        now + std::chrono::duration_cast<steady_clock::duration>(settings_.drain_timeout);
    auto known = std::find_if(quiet->begin(), quiet->end(), [&](const Quiet& q) {
      return q.ip == d->address && q.port == d->port;
    });
    if (d->weight != 0) {
      IpvsDestination stopped = *d;
      stopped.weight = 0;
      stopped.forwarding = IP_VS_CONN_F_MASQ;
      writer.SetDestination(server, stopped, entry);
      quieted_now_.insert(key);
    } else if (known != quiet->end() && !terminating && !known->terminating &&
               known->deadline <= now) {
      writer.DeleteDestination(server, *d, entry);
      quiet->erase(known);
      continue;
    } else if (counted && IsIdle(*d)) {
      writer.DeleteDestination(server, *d, entry);
      if (known != quiet->end()) quiet->erase(known);
      continue;
    }
    ++kept;
    if (known == quiet->end()) {
      quiet->push_back({d->address, d->port, deadline, terminating});
      continue;
    }
    if (known->terminating && !terminating) {
      // Gone from the slices is not dead: a Pod deleted by force, a slice of another controller. A
      // server that is dead answers here what it answers in the other modes.
      known->deadline = deadline;
      quieted_now_.insert(key);
    }
    known->terminating = terminating;
  }
  if (quiet != nullptr && quiet->empty()) quiet_.erase(key);
  if (kept == 0) writer.DeleteServer(server, entry);
  return kept != 0;
}

void IpvsDataplane::PlanElements(Writer& writer, const std::vector<SetEntry>& before,
                                 const std::vector<SetEntry>& after,
                                 const ServicePortEntry* owner) const {
  std::vector<SetEntry> change;
  std::set_difference(after.begin(), after.end(), before.begin(), before.end(),
                      std::back_inserter(change));
  for (const SetEntry& entry : change)
    writer.AddElement(WhenToAdd(entry.set), entry, owner);
  change.clear();
  std::set_difference(before.begin(), before.end(), after.begin(), after.end(),
                      std::back_inserter(change));
  for (const SetEntry& entry : change)
    writer.DeleteElement(WhenToDelete(entry.set, IsOpenIn(after, entry)), entry);
}

void IpvsDataplane::CountReferences(const Key& key, const Frontend& frontend, int by) {
  if (frontend.vip) {
    auto& count = vips_[key.ip];
    count = static_cast<uint32_t>(static_cast<int>(count) + by);
  }
  if (frontend.lingering) return;
  if (const auto health = HealthKey(*frontend.entry)) {
    auto& count = health_[*health];
    count = static_cast<uint32_t>(static_cast<int>(count) + by);
  }
  for (const Backend& backend : BackendsOf(frontend)) {
    if (!backend.MayBeHere()) continue;
    auto& count = hairpins_[{backend.ip, backend.port, key.protocol}];
    count = static_cast<uint32_t>(static_cast<int>(count) + by);
  }
}

bool IpvsDataplane::Serves(net::Family family) const {
  return std::any_of(families_.begin(), families_.end(),
                     [&](const auto& configured) { return configured.first == family; }) &&
         std::none_of(unserved_.begin(), unserved_.end(),
                      [&](const SyncProblem& problem) { return problem.family == family; });
}

bool IpvsDataplane::Serves(const ServicePortEntry& entry) const {
  return Serves(entry.id.family);
}

bool IpvsDataplane::ServesAny() const {
  return std::any_of(families_.begin(), families_.end(),
                     [&](const auto& family) { return Serves(family.first); });
}

bool IpvsDataplane::HasRoomFor(const ModelDelta& delta) {
  for (const EntryChange& change : delta.changes) {
    const EntryPtr& any = change.after != nullptr ? change.after : change.before;
    if (!Serves(*any)) continue;
    if (crowded_.contains({any->id.ns, any->id.name})) return false;
    if (change.before != nullptr) needs_ -= ipvs::NeedsOf(*change.before);
    if (change.after != nullptr) needs_ += ipvs::NeedsOf(*change.after);
  }
  // While some do without, what others give back is shared out by the next full sync.
  return room_.Has(needs_);
}

void IpvsDataplane::Place(Desired& desired, Claim claim) const {
  const auto rank = [](const FrontendSource& source, const ServicePortEntry& entry,
                       const net::IpAddress& address) {
    return std::tie(source, entry.created, entry.id, address);
  };
  for (Key key = claim.frontend.key;;) {
    const auto [at, fresh] = desired.frontends.try_emplace(key);
    Frontend& frontend = at->second;
    if (fresh) {
      frontend = MakeFrontend(claim.entry, claim.frontend);
      desired.order.push_back(key);
      return;
    }
    desired.shared.insert(claim.frontend.key);
    if (rank(claim.frontend.source, *claim.entry, claim.frontend.address) <
        rank(frontend.source, *frontend.entry, frontend.address)) {
      Claim displaced{frontend.entry,
                      ipvs::MakeClaim(frontend.source, frontend.address, key.port, key.protocol)};
      frontend = MakeFrontend(claim.entry, claim.frontend);
      claim = std::move(displaced);
    }
    const std::optional<Key> spare = ipvs::SpareKey(claim.frontend);
    if (!spare || key == *spare) {
      desired.left_out.push_back(std::move(claim));
      return;
    }
    key = *spare;
  }
}

IpvsDataplane::Desired IpvsDataplane::BuildDesired(const ServiceModel& model) {
  Desired desired;
  desired.crowded =
      ipvs::Crowded(model, room_, [this](const ServicePortEntry& entry) { return Serves(entry); });
  for (const auto& item : model.entries) {
    const ServicePortId& id = item.first;
    const EntryPtr& entry = item.second;
    if (!Serves(*entry)) continue;
    if (!desired.crowded.empty() && desired.crowded.contains({id.ns, id.name})) continue;
    desired.needs += ipvs::NeedsOf(*entry);
    ipvs::ForEachFrontend(*entry, [&](const ipvs::FrontendClaim& frontend) {
      Place(desired, {entry, frontend});
    });
  }
  std::sort(desired.order.begin(), desired.order.end());
  // What this node and its pods are sent to must be there before they are, which is said by the
  // frontend for those outside.
  std::stable_partition(desired.order.begin(), desired.order.end(), [&](const Key& key) {
    return ipvs::IsNear(desired.frontends.at(key).source);
  });
  std::stable_partition(desired.order.begin(), desired.order.end(), [&](const Key& key) {
    const ServicePortId& id = desired.frontends.at(key).entry->id;
    return id.ns == "default" && id.name == "kubernetes";
  });
  return desired;
}

void IpvsDataplane::ReadHost() {
  // kube-proxy binds what are Services' addresses too, and leaves them behind: no address of the
  // node, and none to rely on.
  const std::optional<netlink::Link> of_kube_proxy = netlink::FindLink(route_, "kube-ipvs0");
  const int of_kube_proxy_index = of_kube_proxy ? of_kube_proxy->index : 0;
  host_addresses_.clear();
  for (const netlink::InterfaceAddress& address : netlink::InterfaceAddresses(route_)) {
    if (address.interface_index != device_index_ && address.interface_index != of_kube_proxy_index)
      host_addresses_.push_back(address.address);
  }
  std::sort(host_addresses_.begin(), host_addresses_.end());
}

std::vector<IpvsDestination> IpvsDataplane::DestinationsOf(const IpvsServer& server) {
  std::vector<IpvsDestination> destinations;
  const int error = ipvs_.Destinations(server, destinations);
  if (error != 0 && error != ESRCH)
    throw std::system_error(error, std::generic_category(), "list IPVS destinations");
  SortDestinations(destinations);
  return destinations;
}

IpvsDataplane::Kernel IpvsDataplane::ReadKernel() {
  Kernel kernel;
  std::unordered_set<Key, ipvs::FrontendKeyHash> in_table;
  for (IpvsServer& server : ipvs_.Servers()) {
    if (server.fwmark != 0) continue;
    const Key key{server.address, server.port, server.protocol};
    kernel.servers[key].server = std::move(server);
  }
  netlink::ReadIpvsTable([&](const IpvsServer& server, std::vector<IpvsDestination>& destinations) {
    if (server.fwmark != 0) return;
    const Key key{server.address, server.port, server.protocol};
    const auto found = kernel.servers.find(key);
    if (found == kernel.servers.end()) return;  // came meanwhile: not ours, we are the only writer
    in_table.insert(key);
    SortDestinations(destinations);
    found->second.destinations = destinations;
  });
  // What someone else did meanwhile made the file skip these.
  for (auto& [key, state] : kernel.servers) {
    if (!in_table.contains(key)) state.destinations = DestinationsOf(state.server);
  }
  std::vector<netlink::SetElement> elements;
  for (const auto& [family, tool] : families_) {
    if (!Serves(family)) continue;  // what an earlier sync wrote for it stays as it is
    for (const SetId id : ipvs::kAllSets) {
      elements.clear();
      const std::string name = ipvs::SetName(id, family);
      const int error = ipset_.Elements(name, elements);
      if (error == ENOENT) continue;
      if (error != 0)
        throw std::runtime_error("read ipset " + name + ": " + netlink::IpsetErrorText(error));
      for (const netlink::SetElement& element : elements)
        kernel.elements.push_back({id, element});
    }
    if (device_index_ != 0) {
      for (const net::IpAddress& ip : netlink::LocalRoutes(route_, family, device_index_))
        kernel.routes.insert(ip);
    }
  }
  std::sort(kernel.elements.begin(), kernel.elements.end());
  return kernel;
}

// Everything that does not depend on Services.
void IpvsDataplane::EnsureBase(SyncResult& result) {
  ipvs::EnsureSysctls(ipvs::NeededSysctls(kernel_release_, families_.size() > 1), result);

  const netlink::IpvsTimeouts wanted{Seconds(settings_.ipvs.tcp_timeout),
                                     Seconds(settings_.ipvs.tcp_fin_timeout),
                                     Seconds(settings_.ipvs.udp_timeout)};
  const netlink::IpvsTimeouts present = ipvs_.Timeouts();
  auto differs = [](uint32_t want, uint32_t is) { return want != 0 && want != is; };
  if (differs(wanted.tcp, present.tcp) || differs(wanted.tcp_fin, present.tcp_fin) ||
      differs(wanted.udp, present.udp)) {
    try {
      ipvs_.SetTimeouts(wanted);
      ++result.kernel_writes;
    } catch (const std::system_error& e) {
      result.problems.push_back({"ipvs timeouts", e.what()});
    }
  }
  ipvs::EnsureSysctls(ipvs::UdpTimeoutSysctls(settings_), result);

  std::unordered_set<std::string> sets;
  for (const netlink::SetInfo& set : ipset_.List())
    sets.insert(set.name);
  EnsureStrictArp(sets.contains(kStrictArpRecord), result);
  EnsureFamilies(sets, result);
  if (!ServesAny()) return;

  std::optional<netlink::Link> device = netlink::FindLink(route_, kDevice);
  if (!device) {
    netlink::CreateDummy(route_, kDevice, 0);
    ++result.kernel_writes;
    device = netlink::FindLink(route_, kDevice);
    if (!device)
      throw std::system_error(ENODEV, std::generic_category(),
                              std::string("interface ") + kDevice + " vanished at once");
  } else if (!device->up) {
    netlink::SetLinkUp(route_, kDevice);
    ++result.kernel_writes;
  }
  device_index_ = device->index;
}

void IpvsDataplane::EnsureFamilies(const std::unordered_set<std::string>& sets,
                                   SyncResult& result) {
  SyncResult all;
  for (const auto& [family, tool] : families_)
    AddPartOf(family, kRules, all, [&] { return EnsureFamily(family, *tool, sets); });
  unserved_ = all.problems;
  result.Add(std::move(all));
}

SyncResult IpvsDataplane::EnsureFamily(net::Family family, IptablesTool& tool,
                                       const std::unordered_set<std::string>& sets) {
  SyncResult result;
  for (const SetId id : ipvs::kAllSets) {
    const std::string name = ipvs::SetName(id, family);
    if (sets.contains(name)) continue;
    const int error = ipset_.Create(
        name, ipvs::SetTypeOf(id), family,
        static_cast<uint32_t>(2 * std::max({room_.servers, room_.sources, room_.hairpins})));
    if (error != 0)
      result.problems.push_back({"ipset " + name, "create: " + netlink::IpsetErrorText(error)});
    else
      ++result.kernel_writes;
  }
  if (!result.ok()) return result;  // the rules name the sets
  std::vector<ipvs::Chain> chains;
  try {
    chains = ipvs::DesiredChains(family, settings_, tool.has_random_fully());
  } catch (const std::invalid_argument& e) {
    result.problems.push_back({std::string(kRules), e.what()});
    return result;
  }
  const size_t written = ipvs::EnsureChains(tool, chains);
  result.kernel_writes += written;
  if (synced_ && Serves(family)) result.repaired = written;
  return result;
}

std::vector<std::string> IpvsDataplane::Sysctls() const {
  std::vector<std::string> names;
  for (const auto& list : {ipvs::NeededSysctls(kernel_release_, families_.size() > 1),
                           ipvs::UdpTimeoutSysctls(settings_)}) {
    for (const ipvs::Sysctl& sysctl : list)
      names.push_back(sysctl.name);
  }
  // Last: there are as many as interfaces.
  names.insert(names.end(), strict_arp_.names().begin(), strict_arp_.names().end());
  return names;
}

void IpvsDataplane::EnsureStrictArp(bool recorded, SyncResult& result) {
  if (settings_.ipvs.strict_arp) {
    // The record first: killed between the two, nothing stays behind that nobody knows of.
    if (!recorded) {
      const int error =
          ipset_.Create(kStrictArpRecord, netlink::SetType::kHashIp, net::Family::kIPv4, 1);
      if (error != 0) {
        result.problems.push_back({std::string("ipset ") + kStrictArpRecord,
                                   "create: " + netlink::IpsetErrorText(error)});
        return;
      }
      ++result.kernel_writes;
    }
    strict_arp_.Ensure(route_, result);
  } else if (recorded) {
    UndoStrictArp(result);
  }
}

void IpvsDataplane::UndoStrictArp(SyncResult& result) {
  const size_t problems_before = result.problems.size();
  strict_arp_.Restore(route_, result);
  if (result.problems.size() != problems_before) return;
  const int error = ipset_.Destroy(kStrictArpRecord);
  if (error != 0 && error != ENOENT) {
    result.problems.push_back(
        {std::string("ipset ") + kStrictArpRecord, "destroy: " + netlink::IpsetErrorText(error)});
  } else {
    ++result.kernel_writes;
  }
}

SyncResult IpvsDataplane::FullSync(const ServiceModel& model) {
  SyncResult result;
  const bool was_synced = synced_;
  if (!was_synced && ipvs::StopOwnDaemon(ipvs_)) ++result.kernel_writes;
  const std::optional<netlink::Link> device = netlink::FindLink(route_, kDevice);
  device_index_ = device ? device->index : 0;
  ReadHost();
  scheduler_warnings_.clear();
  schedulers_.clear();  // what could not be loaded is tried again
  for (const auto& [id, entry] : model.entries)
    CheckScheduler(*entry);
  EnsureBase(result);
  synced_ = false;  // until this has gone through
  drained_ = false;
  if (!ServesAny()) return result;
  Desired desired = BuildDesired(model);
  shared_ = std::move(desired.shared);
  left_out_ = std::move(desired.left_out);
  needs_ = desired.needs;
  crowded_ = std::move(desired.crowded);
  for (const auto& [id, entry] : model.entries) {
    const auto found = crowded_.find({id.ns, id.name});
    if (found != crowded_.end() && Serves(*entry)) result.refusals.Add(id, found->second);
  }
  result.warnings = Warnings(desired.frontends);
  const Kernel kernel = ReadKernel();

  vips_.clear();
  hairpins_.clear();
  health_.clear();
  quieted_now_.clear();
  Frontends lingering;
  Writer writer(ipvs_, ipset_, route_, device_index_, result);
  std::vector<SetEntry> wanted;  // of all frontends

  for (const Key& key : desired.order) {
    const Frontend& frontend = desired.frontends.at(key);
    const uint64_t planned = writer.planned();
    const std::vector<SetEntry> elements = Elements(key, frontend);
    const auto server = kernel.servers.find(key);
    if (IsLeftToOthers(kernel, key, frontend)) {
      if (!ipvs::IsNear(frontend.source)) {
        result.refusals.Add(frontend.entry->id,
                            "virtual server " +
                                Key{frontend.address, key.port, key.protocol}.ToString() +
                                " exists, is not ours and lies in ipvs.excludeCIDRs: left alone");
      }
      desired.frontends.erase(key);
      continue;
    }
    const ServerState* current = server != kernel.servers.end() ? &server->second : nullptr;
    CountReferences(key, frontend, 1);
    if (frontend.vip && vips_[key.ip] == 1) {
      const SetEntry vip = ipvs::VipElement(key.ip);
      wanted.push_back(vip);
      if (!kernel.Has(vip)) writer.AddElement(Writer::When::kEarly, vip);
      if (!kernel.routes.contains(key.ip)) writer.Bind(key.ip);
    }
    for (const SetEntry& entry : elements) {
      if (!kernel.Has(entry)) writer.AddElement(WhenToAdd(entry.set), entry, frontend.entry.get());
      wanted.push_back(entry);
    }
    PlanServer(writer, key, current, true, &frontend);
    const auto before = frontends_.find(key);
    if (was_synced && before != frontends_.end() && before->second.entry == frontend.entry)
      result.repaired += writer.planned() - planned;
    if (writer.pending() >= kChangesPerFlush) writer.Flush();
  }

  // Ours, and no longer wanted.
  for (const SetEntry& entry : kernel.elements) {
    if (entry.set != SetId::kOwned) continue;
    const Key key{entry.element.ip, entry.element.port, entry.element.protocol};
    if (desired.frontends.contains(key)) continue;
    const auto server = kernel.servers.find(key);
    if (server == kernel.servers.end()) continue;
    if (!PlanServer(writer, key, &server->second, true, nullptr)) continue;
    Frontend left;
    left.lingering = true;
    left.vip = kernel.Has(ipvs::VipElement(key.ip)) && !IsHostAddress(key.ip);
    CountReferences(key, left, 1);
    if (left.vip) wanted.push_back(ipvs::VipElement(key.ip));
    wanted.push_back(entry);
    lingering.emplace(key, left);
  }

  auto want_early = [&](const SetEntry& entry) {
    wanted.push_back(entry);
    if (!kernel.Has(entry)) writer.AddElement(Writer::When::kEarly, entry);
  };
  for (const auto& [key, count] : hairpins_)
    want_early(ipvs::HairpinElement(key.ip, key.port, key.protocol));
  for (const auto& [key, count] : health_) {
    for (const SetEntry& entry : HealthElements(key))
      want_early(entry);
  }
  for (const SetEntry& entry : NodeAddresses(model.node))
    want_early(entry);
  std::sort(wanted.begin(), wanted.end());
  wanted.erase(std::unique(wanted.begin(), wanted.end()), wanted.end());
  for (const SetEntry& entry : kernel.elements) {
    if (std::binary_search(wanted.begin(), wanted.end(), entry)) continue;
    writer.DeleteElement(WhenToDelete(entry.set, IsOpenIn(wanted, entry)), entry);
  }
  for (const net::IpAddress& ip : kernel.routes) {
    if (!vips_.contains(ip)) writer.Unbind(ip);
  }
  writer.Flush();

  frontends_ = std::move(desired.frontends);
  frontends_.merge(lingering);
  std::erase_if(quiet_, [&](const auto& item) { return !frontends_.contains(item.first); });
  ReapIdle(writer);
  NoteFullSyncDue();
  synced_ = true;
  return result;
}

bool IpvsDataplane::IsLeftToOthers(const Kernel& kernel, const Key& key,
                                   const Frontend& frontend) const {
  if (!Excluded(frontend.address)) return false;
  const Key asked{frontend.address, key.port, key.protocol};
  return kernel.servers.contains(asked) && !kernel.Has(OwnedElement(asked));
}

bool IpvsDataplane::ChangesShared(const ModelDelta& delta) const {
  if (shared_.empty()) return false;
  const auto sharing = [&](const EntryPtr& entry) {
    std::vector<std::tuple<Key, FrontendSource, net::IpAddress>> claims;
    if (entry == nullptr || !Serves(*entry)) return claims;
    ipvs::ForEachFrontend(*entry, [&](const ipvs::FrontendClaim& claim) {
      if (shared_.contains(claim.key)) claims.emplace_back(claim.key, claim.source, claim.address);
    });
    return claims;
  };
  return std::any_of(delta.changes.begin(), delta.changes.end(), [&](const EntryChange& change) {
    return sharing(change.before) != sharing(change.after);
  });
}

void IpvsDataplane::ReleaseClaims(const EntryPtr& entry, Touched& touched) {
  ipvs::ForEachFrontend(*entry, [&](const ipvs::FrontendClaim& claim) {
    const std::optional<Key> key = PlaceOf(frontends_, entry->id, claim);
    if (!key) return;
    const auto held = frontends_.find(*key);
    touched.try_emplace(*key, held->second);
    frontends_.erase(held);
  });
}

bool IpvsDataplane::MakeClaims(const EntryPtr& entry, Touched& touched) {
  bool all_placed = true;
  ipvs::ForEachFrontend(*entry, [&](const ipvs::FrontendClaim& claim) {
    Key key = claim.key;
    if (shared_.contains(key)) {
      // It was here already (ChangesShared), and is where it was or left out.
      const auto was_at = [&](const std::optional<Key>& place) {
        const auto before = place ? touched.find(*place) : touched.end();
        return before != touched.end() && before->second &&
               before->second->address == claim.address && before->second->source == claim.source;
      };
      if (const std::optional<Key> spare = ipvs::SpareKey(claim); was_at(spare))
        key = *spare;
      else if (!was_at(key))
        return;
    }
    const auto held = frontends_.find(key);
    touched.try_emplace(key, held != frontends_.end() ? std::optional(held->second) : std::nullopt);
    if (held == frontends_.end())
      frontends_.emplace(key, MakeFrontend(entry, claim));
    else if (held->second.lingering)
      held->second = MakeFrontend(entry, claim);
    else
      all_placed = false;
  });
  return all_placed;
}

SyncResult IpvsDataplane::Sync(const ServiceModel& model, const ModelDelta& delta) {
  if (!synced_ || delta.node_changed || ChangesShared(delta) || !HasRoomFor(delta))
    return FullSync(model);
  SyncResult result;
  synced_ = false;  // until this has gone through
  auto ours = [&](const EntryPtr& entry) { return entry != nullptr && Serves(*entry); };
  Touched touched;
  for (const EntryChange& change : delta.changes) {
    if (ours(change.before)) ReleaseClaims(change.before, touched);
  }
  for (const EntryChange& change : delta.changes) {
    if (change.before != nullptr) scheduler_warnings_.erase(change.before->id);
    if (!ours(change.after)) continue;
    CheckScheduler(*change.after);
    if (!MakeClaims(change.after, touched)) return FullSync(model);
  }
  result.warnings = Warnings(frontends_);
  for (const auto& [key, before] : touched) {
    const auto now = frontends_.find(key);
    // Someone else's virtual server may be there; which are ours is known from the kernel alone.
    if ((!before || before->lingering) && now != frontends_.end() && Excluded(now->second.address))
      return FullSync(model);
  }

  quieted_now_.clear();
  Writer writer(ipvs_, ipset_, route_, device_index_, result);
  // Before and after of what frontends share, to write only what changes in the end.
  std::unordered_map<net::IpAddress, uint32_t> vips_before;
  std::unordered_map<Key, uint32_t, ipvs::FrontendKeyHash> hairpins_before;
  std::unordered_map<Key, uint32_t, ipvs::FrontendKeyHash> health_before;
  auto note = [&](const Key& key, const Frontend& frontend) {
    if (frontend.vip) vips_before.try_emplace(key.ip, vips_[key.ip]);
    if (frontend.lingering) return;
    if (const auto health = HealthKey(*frontend.entry))
      health_before.try_emplace(*health, health_[*health]);
    for (const Backend& backend : BackendsOf(frontend)) {
      if (!backend.MayBeHere()) continue;
      const Key hairpin{backend.ip, backend.port, key.protocol};
      hairpins_before.try_emplace(hairpin, hairpins_[hairpin]);
    }
  };
  auto write = [&](const Key& key, const std::optional<Frontend>& before, const Frontend* after) {
    std::vector<SetEntry> elements_before;
    if (before) {
      note(key, *before);
      CountReferences(key, *before, -1);
      elements_before = Elements(key, *before);
    }
    std::optional<ServerState> current;
    if (before) current = Remembered(key, *before);
    if (current && current->destinations.empty()) current.reset();
    const bool stays = PlanServer(writer, key, current ? &*current : nullptr, false, after);
    if (after == nullptr && stays) {
      Frontend left = *before;
      left.lingering = true;
      after = &frontends_.emplace(key, left).first->second;
    }
    std::vector<SetEntry> elements_after;
    if (after != nullptr) {
      note(key, *after);
      CountReferences(key, *after, 1);
      elements_after = Elements(key, *after);
    }
    PlanElements(writer, elements_before, elements_after,
                 after != nullptr ? after->entry.get() : nullptr);
  };
  for (const auto& [key, before] : touched) {
    const auto found = frontends_.find(key);
    write(key, before, found != frontends_.end() ? &found->second : nullptr);
  }
  for (const auto& [ip, count] : vips_before) {
    if (count != 0 || vips_.at(ip) == 0) continue;
    writer.AddElement(Writer::When::kEarly, ipvs::VipElement(ip));
    writer.Bind(ip);
  }
  for (const auto& [key, count] : hairpins_before) {
    if (count != 0 || hairpins_.at(key) == 0) continue;
    writer.AddElement(Writer::When::kEarly, ipvs::HairpinElement(key.ip, key.port, key.protocol));
  }
  for (const auto& [key, count] : health_before) {
    if (count != 0 || health_.at(key) == 0) continue;
    for (const SetEntry& entry : HealthElements(key))
      writer.AddElement(Writer::When::kEarly, entry);
  }
  for (const auto& [ip, count] : vips_before) {
    const auto now = vips_.find(ip);
    if (count != 0 && now->second == 0) {
      writer.Unbind(ip);
      writer.DeleteElement(Writer::When::kLast, ipvs::VipElement(ip));
    }
    if (now->second == 0) vips_.erase(now);
  }
  for (const auto& [key, count] : hairpins_before) {
    const auto now = hairpins_.find(key);
    if (count != 0 && now->second == 0) {
      writer.DeleteElement(Writer::When::kLast,
                           ipvs::HairpinElement(key.ip, key.port, key.protocol));
    }
    if (now->second == 0) hairpins_.erase(now);
  }
  for (const auto& [key, count] : health_before) {
    const auto now = health_.find(key);
    if (count != 0 && now->second == 0) {
      for (const SetEntry& entry : HealthElements(key))
        writer.DeleteElement(Writer::When::kLast, entry);
    }
    if (now->second == 0) health_.erase(now);
  }
  writer.Flush();
  ReapIdle(writer);
  NoteFullSyncDue();
  synced_ = true;
  // They are as long as no full sync has mended them.
  result.problems.insert(result.problems.end(), unserved_.begin(), unserved_.end());
  return result;
}

void IpvsDataplane::ReapIdle(Writer& writer) {
  for (const Key& key : quieted_now_) {
    const auto found = frontends_.find(key);
    if (found == frontends_.end()) continue;
    const Frontend& frontend = found->second;
    IpvsServer server;
    server.address = key.ip;
    server.port = key.port;
    server.protocol = key.protocol;
    std::vector<IpvsDestination> destinations;
    ipvs_.Destinations(server, destinations);
    size_t left = destinations.size();
    for (const IpvsDestination& d : destinations) {
      if (d.weight != 0 || !IsIdle(d)) continue;
      const auto quiet = quiet_.find(key);
      if (quiet == quiet_.end()) continue;
      if (std::erase_if(quiet->second,
                        [&](const Quiet& q) { return q.ip == d.address && q.port == d.port; }) == 0)
        continue;
      writer.DeleteDestination(server, d, frontend.entry.get());
      --left;
      if (quiet->second.empty()) quiet_.erase(quiet);
    }
    if (left != 0) continue;
    writer.DeleteServer(server, frontend.entry.get());
    if (frontend.lingering) ForgetFrontend(writer, key);
  }
  quieted_now_.clear();
  writer.Flush();
}

void IpvsDataplane::ForgetFrontend(Writer& writer, const Key& key) {
  const auto found = frontends_.find(key);
  const Frontend frontend = found->second;
  for (const SetEntry& entry : Elements(key, frontend))
    writer.DeleteElement(Writer::When::kLast, entry);
  CountReferences(key, frontend, -1);
  if (frontend.vip && vips_[key.ip] == 0) {
    vips_.erase(key.ip);
    writer.Unbind(key.ip);
    writer.DeleteElement(Writer::When::kLast, ipvs::VipElement(key.ip));
  }
  frontends_.erase(found);
}

VerifyResult IpvsDataplane::Verify(const ServiceModel& model) {
  VerifyResult result;
  auto differ = [&](std::string object, std::string message) {
    ++result.difference_count;
    if (result.differences.size() < kMaxDifferences)
      result.differences.push_back({std::move(object), std::move(message)});
  };
  const std::optional<netlink::Link> device = netlink::FindLink(route_, kDevice);
  ++result.objects_checked;
  if (!device || !device->up) differ(kDevice, device ? "is down" : "is missing");
  device_index_ = device ? device->index : 0;
  ReadHost();
  Desired desired = BuildDesired(model);
  for (const auto& [family, tool] : families_) {
    if (Serves(family))
      AddPartOf(family, kRules, result, [&] { return VerifyRules(family, *tool); });
  }
  for (const SyncProblem& problem : unserved_) {
    result.differences.push_back(problem);
    ++result.difference_count;
  }
  const Kernel kernel = ReadKernel();

  std::unordered_set<net::IpAddress> bound;
  std::vector<SetEntry> wanted;
  for (const Key& key : desired.order) {
    const Frontend& frontend = desired.frontends.at(key);
    if (IsLeftToOthers(kernel, key, frontend)) {
      desired.frontends.erase(key);
      continue;
    }
    const std::string object = frontend.entry->id.ToString();
    for (const SetEntry& entry : Elements(key, frontend))
      wanted.push_back(entry);
    if (frontend.vip && bound.insert(key.ip).second) {
      wanted.push_back(ipvs::VipElement(key.ip));
      ++result.objects_checked;
      if (!kernel.routes.contains(key.ip)) differ(object, key.ip.ToString() + " is not bound");
    }
    const std::vector<Backend>& backends = BackendsOf(frontend);
    result.objects_checked += 1 + backends.size();
    for (const Backend& backend : backends) {
      if (backend.MayBeHere())
        wanted.push_back(ipvs::HairpinElement(backend.ip, backend.port, key.protocol));
    }
    if (const auto health = HealthKey(*frontend.entry)) {
      for (const SetEntry& entry : HealthElements(*health))
        wanted.push_back(entry);
    }
    const auto server = kernel.servers.find(key);
    if (server == kernel.servers.end()) {
      if (!backends.empty()) differ(object, "virtual server " + key.ToString() + " is missing");
      continue;
    }
    const IpvsServer& present = server->second.server;
    if (!SameServer(present, MakeServer(key, *frontend.entry)) && !backends.empty()) {
      differ(object, "virtual server " + key.ToString() + " has scheduler " + present.scheduler +
                         ", flags " + std::to_string(present.flags) + ", persistence " +
                         std::to_string(present.persistence));
    }
    const std::vector<IpvsDestination>& destinations = server->second.destinations;
    auto at = destinations.begin();
    auto surplus = [&](const IpvsDestination& d) {
      if (d.weight == 0) return;  // draining
      differ(object, "destination " + d.address.ToString() + ":" + std::to_string(d.port) + " of " +
                         key.ToString() + " does not belong there");
    };
    for (const Backend& backend : backends) {
      while (at != destinations.end() && Order(*at) < std::tie(backend.ip, backend.port))
        surplus(*at++);
      if (at == destinations.end() || Order(*at) != std::tie(backend.ip, backend.port)) {
        differ(object, "destination " + backend.ip.ToString() + ":" + std::to_string(backend.port) +
                           " of " + key.ToString() + " is missing");
        continue;
      }
      if (at->weight != 1 || at->forwarding != IP_VS_CONN_F_MASQ) {
        differ(object, "destination " + backend.ip.ToString() + ":" + std::to_string(backend.port) +
                           " of " + key.ToString() + " has weight " + std::to_string(at->weight));
      }
      ++at;
    }
    while (at != destinations.end())
      surplus(*at++);
  }
  for (const SetEntry& entry : NodeAddresses(model.node))
    wanted.push_back(entry);
  std::sort(wanted.begin(), wanted.end());
  wanted.erase(std::unique(wanted.begin(), wanted.end()), wanted.end());
  result.objects_checked += wanted.size();
  for (const SetEntry& entry : wanted) {
    if (!kernel.Has(entry)) {
      differ("ipset " + ipvs::SetName(entry.set, entry.element.ip.family()),
             entry.element.ToString(ipvs::SetTypeOf(entry.set)) + " is missing");
    }
  }
  // What lingers (a frontend that is gone but has connections) is owned, and its VIP bound.
  std::unordered_set<net::IpAddress> lingering;
  for (const SetEntry& entry : kernel.elements) {
    if (entry.set != SetId::kOwned) continue;
    const Key key{entry.element.ip, entry.element.port, entry.element.protocol};
    if (!desired.frontends.contains(key) && kernel.servers.contains(key)) lingering.insert(key.ip);
  }
  for (const SetEntry& entry : kernel.elements) {
    if (std::binary_search(wanted.begin(), wanted.end(), entry)) continue;
    const Key key{entry.element.ip, entry.element.port, entry.element.protocol};
    if (entry.set == SetId::kVip && lingering.contains(entry.element.ip)) continue;
    if (entry.set == SetId::kOwned && kernel.servers.contains(key)) continue;
    differ("ipset " + ipvs::SetName(entry.set, entry.element.ip.family()),
           entry.element.ToString(ipvs::SetTypeOf(entry.set)) + " does not belong there");
  }
  for (const net::IpAddress& ip : kernel.routes) {
    if (!bound.contains(ip) && !lingering.contains(ip))
      differ("address " + ip.ToString(), "is bound and no Service has it");
  }
  return result;
}

VerifyResult IpvsDataplane::VerifyRules(net::Family family, IptablesTool& tool) const {
  const std::vector<ipvs::Chain> chains =
      ipvs::DesiredChains(family, settings_, tool.has_random_fully());
  VerifyResult result;
  result.objects_checked = chains.size();
  for (std::string& difference : ipvs::CheckChains(tool, chains))
    result.differences.push_back({"iptables", std::move(difference)});
  result.difference_count = result.differences.size();
  return result;
}

void IpvsDataplane::ReadOwned(std::vector<Key>& owned) {
  std::vector<netlink::SetElement> elements;
  // Both families, whatever is configured now: an earlier process may have had another.
  for (const net::Family family : {net::Family::kIPv4, net::Family::kIPv6}) {
    const std::string name = ipvs::SetName(SetId::kOwned, family);
    elements.clear();
    const int error = ipset_.Elements(name, elements);
    if (error != 0 && error != ENOENT)
      throw std::runtime_error("read ipset " + name + ": " + netlink::IpsetErrorText(error));
    for (const netlink::SetElement& e : elements)
      owned.push_back({e.ip, e.port, e.protocol});
  }
}

void IpvsDataplane::KeepVipsFromBeingSources() {
  // IPv6 takes no source from a route of type local that names none (net/ipv6/route.c).
  const auto device = netlink::FindLink(route_, kDevice);
  const auto source = UsualSource();
  if (!device || !source) return;
  const std::vector<net::IpAddress> vips =
      netlink::LocalRoutes(route_, net::Family::kIPv4, device->index);
  netlink::Batch batch;
  for (const net::IpAddress& vip : vips)
    netlink::SetLocalRouteSource(batch, vip, device->index, *source);
  if (batch.empty()) return;
  for (const netlink::Failure& failure : route_.Execute(batch)) {
    spdlog::warn("connections of this node to {} will end with ipvs mode: {}",
                 vips[failure.index].ToString(), std::generic_category().message(failure.error));
  }
}

DrainStatus IpvsDataplane::Drain(const ServiceModel&) {
  // The rules of the other dataplane see a new connection before IPVS does (PREROUTING and OUTPUT
  // come before LOCAL_IN) once ours do not keep it for IPVS any more. All else must stay for the
  // old connections.
  if (!drained_) {
    synced_ = false;
    KeepVipsFromBeingSources();
    for (const auto& [family, tool] : families_)
      ipvs::StopTaking(*tool);
    drained_ = true;
  }
  DrainStatus status;
  std::vector<Key> list;
  ReadOwned(list);
  const std::unordered_set<Key, ipvs::FrontendKeyHash> owned(list.begin(), list.end());
  const auto now = steady_clock::now();
  std::unordered_map<std::string, UdpActivity> seen;
  std::vector<IpvsServer> udp;  // with flows
  netlink::ReadIpvsTable([&](const IpvsServer& server, std::vector<IpvsDestination>& destinations) {
    const Key key{server.address, server.port, server.protocol};
    if (server.fwmark != 0 || !owned.contains(key)) return;
    if (key.protocol != IPPROTO_UDP) {
      for (const IpvsDestination& d : destinations)
        status.connections += d.active;
    } else if (!std::all_of(destinations.begin(), destinations.end(), IsIdle)) {
      udp.push_back(server);
    }
  });
  for (const IpvsServer& server : udp) {
    const Key key{server.address, server.port, server.protocol};
    // The file does not count packets.
    for (const IpvsDestination& d : DestinationsOf(server)) {
      if (d.inactive == 0) continue;
      const std::string name =
          key.ToString() + " " + d.address.ToString() + " " + std::to_string(d.port);
      UdpActivity activity{d.in_packets, now};
      if (const auto it = udp_activity_.find(name);
          it != udp_activity_.end() && it->second.packets == d.in_packets)
        activity.changed = it->second.changed;
      if (now - activity.changed < kUdpIdle) status.connections += d.inactive;
      seen.emplace(name, activity);
    }
  }
  udp_activity_ = std::move(seen);
  return status;
}

std::vector<ClientBinding> IpvsDataplane::Bindings(const ServiceModel& model) {
  // Not from `frontends_`: a restarted agent may be asked before its first sync.
  const std::optional<netlink::Link> device = netlink::FindLink(route_, kDevice);
  device_index_ = device ? device->index : 0;
  ReadHost();
  const Desired desired = BuildDesired(model);
  const std::optional<net::IpAddress> usual_source = UsualSource();

  std::vector<ClientBinding> bindings;
  std::unordered_map<const ServicePortEntry*, std::unordered_map<net::IpAddress, size_t>> known;
  const auto deadline = steady_clock::now() + kBindingsTime;
  const bool all = netlink::ReadIpvsTemplates(deadline, [&](const netlink::IpvsTemplate& t) {
    const bool ftp = t.port == 0;
    const Key key{t.address, ftp ? ipvs::kFtpPort : t.port, t.protocol};
    const auto found = desired.frontends.find(key);
    if (found == desired.frontends.end()) return;
    const Frontend& frontend = found->second;
    const ServicePortEntry& entry = *frontend.entry;
    if (entry.affinity_timeout.count() == 0) return;

    ClientBinding binding;
    binding.entry = frontend.entry;
    binding.client = t.client;
    // The node itself: to a VIP that is bound here it comes from the VIP, in no other mode.
    if (t.client == t.address && t.client.is_v4() && frontend.vip) {
      if (!usual_source) return;
      binding.client = *usual_source;
    }
    binding.backend_ip = t.destination;
    binding.backend_port = t.destination_port;
    if (ftp) {
      const auto is_there = [&](const Backend& backend) { return backend.ip == t.destination; };
      const std::vector<Backend>& backends = ipvs::ChoiceOf(entry, frontend.source).backends;
      if (std::count_if(backends.begin(), backends.end(), is_there) != 1) return;
      binding.backend_port = std::find_if(backends.begin(), backends.end(), is_there)->port;
    }
    if (!MayGoTo(entry, binding.backend_ip, binding.backend_port)) return;
    // Longer than the Service's: while a connection is open or not forgotten, IPVS prolongs it.
    binding.left = std::clamp(t.left, std::chrono::seconds(1), entry.affinity_timeout);

    // One client may have one for each frontend of the entry.
    auto& clients = known[&entry];
    const auto same = clients.find(binding.client);
    if (same != clients.end()) {
      if (bindings[same->second].left < binding.left) bindings[same->second] = binding;
    } else if (bindings.size() < kMostBindings) {
      clients.emplace(binding.client, bindings.size());
      bindings.push_back(std::move(binding));
    }
  });
  if (!all) {
    spdlog::warn("IPVS's connections are too many to be read in time: only {} clients stay bound",
                 bindings.size());
  }
  return bindings;
}

SyncResult IpvsDataplane::Bind(const ServiceModel&, const std::vector<ClientBinding>& bindings) {
  SyncResult result;
  std::vector<netlink::IpvsTemplate> templates;
  std::vector<std::pair<std::chrono::seconds, netlink::IpvsTemplate>>
      own;  // of the node itself, by its VIPs
  std::unordered_map<net::IpAddress, std::optional<net::IpAddress>> sources;
  size_t ftp = 0;
  for (const ClientBinding& binding : bindings) {
    const ServicePortEntry& bound = *binding.entry;
    const bool node = IsHostAddress(binding.client);
    ipvs::ForEachFrontend(bound, [&](const ipvs::FrontendClaim& frontend) {
      const std::optional<Key> place = PlaceOf(frontends_, bound.id, frontend);
      if (!place) return;
      const Key& key = *place;
      const FrontendSource source = frontend.source;
      const auto held = frontends_.find(key);
      const ServicePortEntry& entry = *held->second.entry;
      if (entry.affinity_timeout.count() == 0 ||
          !Has(ipvs::ChoiceOf(entry, source), binding.backend_ip, binding.backend_port))
        return;
      if (key.port == ipvs::kFtpPort) {
        ++ftp;
        return;
      }
      netlink::IpvsTemplate t;
      t.protocol = key.protocol;
      t.client = binding.client;
      t.address = key.ip;
      t.port = key.port;
      t.destination = binding.backend_ip;
      t.destination_port = binding.backend_port;
      // Not what is left: IPVS renews a template with the time that it was made with.
      t.left = entry.affinity_timeout;
      templates.push_back(t);
      if (!node || !held->second.vip || source != FrontendSource::kClusterIp) return;
      auto [from, unknown] = sources.try_emplace(key.ip);
      if (unknown) from->second = SourceTo(key.ip);
      if (!from->second || *from->second == binding.client) return;
      t.client = *from->second;
      own.emplace_back(binding.left, t);
    });
  }
  // The node's addresses may be bound to different backends: the one with most time left counts.
  std::stable_sort(own.begin(), own.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  for (const auto& [left, t] : own)
    templates.push_back(t);
  if (!templates.empty()) ipvs::MakeTemplates(ipvs_, templates, result);
  if (ftp != 0) {
    result.problems.push_back(
        {"ipvs persistence",
         std::to_string(ftp) + " templates are not made: IPVS takes none for port 21"});
  }
  return result;
}

SyncResult IpvsDataplane::Remove() {
  SyncResult result;
  synced_ = false;
  try {
    if (ipvs::StopOwnDaemon(ipvs_)) ++result.kernel_writes;
  } catch (const std::system_error& e) {
    result.problems.push_back({"ipvs", e.what()});
  }
  // Where another dataplane serves, it has to get the new connections before the VIPs go.
  for (const auto& [family, tool] : families_) {
    try {
      ipvs::StopTaking(*tool);
    } catch (const std::exception& e) {
      result.problems.push_back(
          {"iptables rules of ipvs mode (" + std::string(net::ToString(family)) + ")", e.what()});
      return result;
    }
  }
  // The VIPs first: nothing of the node may answer on them when the filter goes.
  try {
    if (netlink::DeleteLink(route_, kDevice)) ++result.kernel_writes;
  } catch (const std::system_error& e) {
    result.problems.push_back({kDevice, e.what()});
    return result;
  }
  device_index_ = 0;

  std::vector<Key> owned;
  ReadOwned(owned);
  if (!owned.empty()) {
    std::unordered_set<Key, ipvs::FrontendKeyHash> present;
    for (const IpvsServer& server : ipvs_.Servers()) {
      if (server.fwmark == 0) present.insert({server.address, server.port, server.protocol});
    }
    Writer writer(ipvs_, ipset_, route_, 0, result);
    for (const Key& key : owned) {
      if (!present.contains(key)) continue;
      IpvsServer server;
      server.address = key.ip;
      server.port = key.port;
      server.protocol = key.protocol;
      writer.DeleteServer(server, nullptr);
      if (writer.pending() >= kChangesPerFlush) writer.Flush();
    }
    writer.Flush();
    // The record of what is ours stays until all of it is gone.
    if (!result.ok()) return result;
  }
  for (const auto& [family, tool] : families_) {
    try {
      result.kernel_writes += ipvs::RemoveChains(*tool);
    } catch (const std::exception& e) {
      result.problems.push_back(
          {"iptables rules of ipvs mode (" + std::string(net::ToString(family)) + ")", e.what()});
    }
  }
  for (const netlink::SetInfo& set : ipset_.List()) {
    if (!set.name.starts_with("PM-IPVS-")) continue;
    if (set.name == kStrictArpRecord) {
      UndoStrictArp(result);
      continue;
    }
    const int error = ipset_.Destroy(set.name);
    if (error != 0 && error != ENOENT)
      result.problems.push_back(
          {"ipset " + set.name, "destroy: " + netlink::IpsetErrorText(error)});
    else
      ++result.kernel_writes;
  }
  frontends_.clear();
  shared_.clear();
  left_out_.clear();
  quiet_.clear();
  vips_.clear();
  hairpins_.clear();
  health_.clear();
  udp_activity_.clear();
  unserved_.clear();
  return result;
}

bool IpvsDataplane::Present() {
  if (netlink::FindLink(route_, kDevice)) return true;
  for (const netlink::SetInfo& set : ipset_.List()) {
    if (set.name.starts_with("PM-IPVS-")) return true;
  }
  return std::any_of(families_.begin(), families_.end(),
                     [](const auto& family) { return ipvs::AnyChain(*family.second); });
}

}  // namespace pointsman::agent

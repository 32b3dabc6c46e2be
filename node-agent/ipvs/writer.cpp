#include "node-agent/ipvs/writer.h"

#include <algorithm>
#include <arpa/inet.h>  // netinet/in.h, which has to come before linux/in.h
#include <array>
#include <cerrno>
#include <linux/netfilter/ipset/ip_set.h>
#include <linux/netfilter/ipset/ip_set_hash.h>
#include <system_error>

#include "node-agent/netlink/local_route.h"

namespace pointsman::agent::ipvs {
namespace {

// A kernel that refuses everything must not cost memory for a sentence about each of 100,000.
constexpr size_t kMaxProblems = 200;

std::string ErrnoText(int error) {
  // What IPVS means by some of them is not what errno's text says (ip_vs_ctl.c).
  switch (error) {
    case ESRCH:
      return "no such virtual server";
    case ENOENT:
      return "no such destination, or the kernel does not know the scheduler";
    default:
      return std::generic_category().message(error);
  }
}

std::string Endpoint(const net::IpAddress& ip, uint16_t port) {
  return (ip.is_v4() ? ip.ToString() : "[" + ip.ToString() + "]") + ":" + std::to_string(port);
}

}  // namespace

Writer::Writer(netlink::Ipvs& ipvs, netlink::Ipset& ipset, netlink::Socket& route, int device_index,
               SyncResult& result)
    : ipvs_(ipvs), ipset_(ipset), route_(route), device_index_(device_index), result_(result) {}

void Writer::AddProblem(std::string object, std::string message) {
  if (result_.problems.size() < kMaxProblems) {
    result_.problems.push_back({std::move(object), std::move(message)});
    return;
  }
  ++unsaid_problems_;
  result_.problems.back() = {"ipvs", "and " + std::to_string(unsaid_problems_ + 1) + " more"};
}

Writer::When Writer::WhenToAdd(SetId id) {
  if (SendsOn(id)) return When::kLast;
  return IsOpenSet(id) ? When::kLate : When::kEarly;
}

Writer::When Writer::WhenToDelete(SetId id, bool stays_open) {
  return IsOpenSet(id) && !stays_open ? When::kEarly : When::kLast;
}

void Writer::AddElement(const SetEntry& element, const ServicePortEntry* entry) {
  elements_[static_cast<size_t>(WhenToAdd(element.set))].push_back({true, element, entry});
  ++planned_;
}

void Writer::DeleteElement(const SetEntry& element, bool stays_open) {
  const When when = WhenToDelete(element.set, stays_open);
  elements_[static_cast<size_t>(when)].push_back({false, element, nullptr});
  ++planned_;
}

void Writer::Plan(Verb verb, const netlink::IpvsServer& server, const netlink::IpvsDestination* d,
                  const ServicePortEntry* entry) {
  switch (verb) {
    case Verb::kNewServer:
      ipvs_.NewServer(batch_, server);
      break;
    case Verb::kSetServer:
      ipvs_.SetServer(batch_, server);
      break;
    case Verb::kDeleteServer:
      ipvs_.DeleteServer(batch_, server);
      break;
    case Verb::kNewDestination:
      ipvs_.NewDestination(batch_, server, *d);
      break;
    case Verb::kSetDestination:
      ipvs_.SetDestination(batch_, server, *d);
      break;
    case Verb::kDeleteDestination:
      ipvs_.DeleteDestination(batch_, server, *d);
      break;
  }
  servers_.push_back({verb, KeyOf(server), d != nullptr ? d->address : net::IpAddress(),
                      d != nullptr ? d->port : uint16_t{0}, entry});
  ++planned_;
}

void Writer::NewServer(const netlink::IpvsServer& server, const ServicePortEntry* entry) {
  Plan(Verb::kNewServer, server, nullptr, entry);
}
void Writer::SetServer(const netlink::IpvsServer& server, const ServicePortEntry* entry) {
  Plan(Verb::kSetServer, server, nullptr, entry);
}
void Writer::DeleteServer(const netlink::IpvsServer& server, const ServicePortEntry* entry) {
  Plan(Verb::kDeleteServer, server, nullptr, entry);
}
void Writer::NewDestination(const netlink::IpvsServer& server, const netlink::IpvsDestination& d,
                            const ServicePortEntry* entry) {
  Plan(Verb::kNewDestination, server, &d, entry);
}
void Writer::SetDestination(const netlink::IpvsServer& server, const netlink::IpvsDestination& d,
                            const ServicePortEntry* entry) {
  Plan(Verb::kSetDestination, server, &d, entry);
}
void Writer::DeleteDestination(const netlink::IpvsServer& server, const netlink::IpvsDestination& d,
                               const ServicePortEntry* entry) {
  Plan(Verb::kDeleteDestination, server, &d, entry);
}

void Writer::AddVip(const net::IpAddress& vip) {
  new_vips_.push_back(vip);
  ++planned_;
}

void Writer::RemoveVip(const net::IpAddress& vip) {
  gone_vips_.push_back(vip);
  ++planned_;
}

void Writer::FlushElements(std::vector<ElementChange>& changes) {
  if (changes.empty()) return;
  // The names, made once, not for each of 10,000 elements.
  std::array<std::array<std::string, 2>, kAllSets.size()> names;
  for (const SetId id : kAllSets) {
    names[static_cast<size_t>(id)] = {SetName(id, net::Family::kIPv4),
                                      SetName(id, net::Family::kIPv6)};
  }
  auto name = [&](const SetEntry& entry) -> const std::string& {
    return names[static_cast<size_t>(entry.set)][entry.element.ip.is_v4() ? 0 : 1];
  };
  netlink::Batch batch;
  for (const ElementChange& change : changes) {
    const netlink::SetType type = SetTypeOf(change.entry.set);
    if (change.add)
      netlink::Ipset::Add(batch, name(change.entry), type, change.entry.element);
    else
      netlink::Ipset::Delete(batch, name(change.entry), type, change.entry.element);
  }
  const std::vector<netlink::Failure> failures = ipset_.Execute(batch);
  for (const netlink::Failure& failure : failures) {
    const ElementChange& change = changes[failure.index];
    std::string what = std::string(change.add ? "add " : "delete ") +
                       change.entry.element.ToString(SetTypeOf(change.entry.set)) + ": " +
                       netlink::IpsetErrorText(failure.error);
    if (failure.error == IPSET_ERR_HASH_FULL && change.owner != nullptr)
      result_.refusals.Add(change.owner->id, "ipset " + name(change.entry) + ": " + what);
    else
      AddProblem("ipset " + name(change.entry), std::move(what));
  }
  result_.kernel_writes += changes.size() - failures.size();
  changes.clear();
}

void Writer::FlushServers() {
  if (servers_.empty()) return;
  const std::vector<netlink::Failure> failures = ipvs_.Execute(batch_);
  result_.kernel_writes += servers_.size() - failures.size();
  // A server that was refused makes each of its destinations fail; one sentence is enough.
  std::unordered_set<FrontendKey, FrontendKeyHash> refused;
  for (const netlink::Failure& failure : failures) {
    const ServerChange& change = servers_[failure.index];
    const bool deletion =
        change.verb == Verb::kDeleteServer || change.verb == Verb::kDeleteDestination;
    if (deletion && (failure.error == ESRCH || failure.error == ENOENT)) continue;
    std::string what;
    switch (change.verb) {
      case Verb::kNewServer:
        refused.insert(change.key);
        what = "add virtual server " + change.key.ToString();
        break;
      case Verb::kSetServer:
        what = "change virtual server " + change.key.ToString();
        break;
      case Verb::kDeleteServer:
        what = "delete virtual server " + change.key.ToString();
        break;
      case Verb::kNewDestination:
        if (failure.error == ESRCH && refused.contains(change.key)) continue;
        what = "add destination ";
        break;
      case Verb::kSetDestination:
        what = "change destination ";
        break;
      case Verb::kDeleteDestination:
        what = "delete destination ";
        break;
    }
    if (change.backend_port != 0 || change.verb >= Verb::kNewDestination) {
      what += Endpoint(change.backend_ip, change.backend_port) + " of " + change.key.ToString();
    }
    what += ": " + ErrnoText(failure.error);
    const bool own_scheduler = change.verb <= Verb::kSetServer && failure.error == ENOENT &&
                               change.entry != nullptr && !change.entry->ipvs_scheduler.empty();
    if (own_scheduler)
      result_.refusals.Add(change.entry->id, std::move(what));
    else
      AddProblem(change.entry != nullptr ? change.entry->id.ToString() : change.key.ToString(),
                 std::move(what));
  }
  batch_.clear();
  servers_.clear();
}

void Writer::FlushRoutes(std::vector<net::IpAddress>& vips, bool add) {
  if (vips.empty()) return;
  netlink::Batch batch;
  for (const net::IpAddress& vip : vips) {
    if (add)
      netlink::AddLocalRoute(batch, vip, device_index_);
    else
      netlink::DeleteLocalRoute(batch, vip, device_index_);
  }
  uint64_t failed = 0;
  for (const netlink::Failure& failure : route_.Execute(batch)) {
    ++failed;
    if (failure.error == (add ? EEXIST : ESRCH)) continue;  // it is as it should be
    AddProblem(
        "address " + vips[failure.index].ToString(),
        std::string(add ? "bind: " : "unbind: ") + std::generic_category().message(failure.error));
  }
  result_.kernel_writes += vips.size() - failed;
  vips.clear();
}

void Writer::Flush() {
  FlushRoutes(gone_vips_, false);
  FlushElements(elements_[static_cast<size_t>(When::kEarly)]);
  FlushServers();
  // Before what keeps a VIP's packets from the rules of another mode, or of kube-proxy, which serve
  // it until then: a first packet that neither they nor a local route sends on leaves the node, and
  // connection tracking keeps its connection untranslated for ever.
  FlushRoutes(new_vips_, true);
  FlushElements(elements_[static_cast<size_t>(When::kLate)]);
  FlushElements(elements_[static_cast<size_t>(When::kLast)]);
}

}  // namespace pointsman::agent::ipvs

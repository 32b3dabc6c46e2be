#include "node-agent/nftables/nftables_family.h"

#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <cstring>
#include <linux/membarrier.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <netinet/in.h>
#include <sys/syscall.h>

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "node-agent/netlink/conntrack.h"
#include "node-agent/nftables/affinity.h"
#include "node-agent/nftables/kernel_support.h"
#include "node-agent/sysctl/sysctl.h"

namespace pointsman::agent::nft {
namespace {

constexpr char kRouteLocalnet[] = "net.ipv4.conf.all.route_localnet";
constexpr size_t kMaxDifferences = 20;
constexpr size_t kMostIdleClasses = 64;
// An abort of that many costs little, and so does the rest of them when one is refused.
constexpr size_t kMostClientsAtOnce = 1024;
// Each costs the kernel an RCU grace period, and finding one client takes up to 11 of them.
constexpr int kMostRefusals = 1000;
// Somebody else may have changed our table between our look at it and our write.
constexpr int kTries = 3;

std::string_view View(const std::array<uint8_t, 8>& key) {
  return {reinterpret_cast<const char*>(key.data()), key.size()};
}

// What a packet that is under way with the older rules may still look up is deleted only after the
// newer ones are in force; what leads packets to them goes together with them.
bool IsEntrance(SetId set) {
  return set == SetId::kServices || set == SetId::kNodePorts || set == SetId::kRefused ||
         set == SetId::kRefusedPorts || set == SetId::kClusterIps;
}

// Until every packet that was in our rules when this was called has left them. A packet that the
// node itself sends can be preempted between two look-ups for as long as any thread. The kernel
// answers this command after an RCU grace period (kernel/sched/membarrier.c), within which all of
// netfilter's hooks run. Takes some milliseconds; by then what is new is in force.
void WaitForPacketsUnderWay() {
  if (::syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) != 0) {
    // A sandbox may forbid it. Then a packet under way may be lost, once.
    spdlog::debug("membarrier: {}", std::generic_category().message(errno));
  }
}

template <typename Object>
bool HasName(const std::vector<Object>& objects, std::string_view name) {
  return std::any_of(objects.begin(), objects.end(),
                     [name](const Object& object) { return object.name == name; });
}

std::string Describe(const Element& element) {
  return element.entry == nullptr ? std::string("the node") : element.entry->id.ToString();
}

std::string CommentOf(const Element& element) {
  if (element.entry == nullptr || !IsEntrance(element.set)) return {};
  const ServicePortId& id = element.entry->id;
  return fmt::format("{}/{}{}{}", id.ns, id.name, id.port_name.empty() ? "" : ":", id.port_name);
}

// Adds `changes` to `uses` and returns what came into use and what went out of it.
template <typename Uses>
std::pair<std::vector<typename Uses::key_type>, std::vector<typename Uses::key_type>> Apply(
    const Uses& changes, Uses& uses) {
  std::pair<std::vector<typename Uses::key_type>, std::vector<typename Uses::key_type>> result;
  for (const auto& [key, change] : changes) {
    if (change == 0) continue;
    const auto [place, fresh] = uses.try_emplace(key, 0);
    place->second += change;
    if (fresh) {
      result.first.push_back(key);
    } else if (place->second == 0) {
      result.second.push_back(key);
      uses.erase(place);
    }
  }
  return result;
}

}  // namespace

struct NftablesFamily::Desired {
  std::vector<Chain> chains;      // in the order in which they can be made
  std::vector<Element> elements;  // sorted, each key once
  ClassUses classes;
  SharedUses shared;
  ServiceRefusals refusals;  // what two Services claim

  std::pair<size_t, size_t> Range(SetId set) const {
    const auto less = [](const Element& element, SetId id) { return element.set < id; };
    const auto more = [](SetId id, const Element& element) { return id < element.set; };
    const auto begin = std::lower_bound(elements.begin(), elements.end(), set, less);
    return {
        static_cast<size_t>(begin - elements.begin()),
        static_cast<size_t>(std::upper_bound(begin, elements.end(), set, more) - elements.begin())};
  }
};

// What is to be written, in up to three transactions, as a packet under way may meet both the old
// and the new state:
// * sets, chains and their rules come before what leads to them. A packet keeps to the rules as
//   they were when it came (nft_do_chain reads the generation once), while its look-ups see the
//   newest elements: one that led to a chain of the same transaction would find the chain empty;
// * what nothing leads to any more goes after. Else a packet that had just read the older value of
//   one map could miss what that leads to in the next map.
struct NftablesFamily::Plan {
  explicit Plan(net::Family family)
      : structure(family, kTable), first(family, kTable), second(family, kTable) {}
  Transaction structure;
  Transaction first;
  Transaction second;
  bool rewrite = false;  // the whole table, since what is there cannot be changed into ours
  uint64_t differences = 0;
  uint64_t checked = 0;
  std::vector<SyncProblem> notes;
  std::set<std::string> idle_chains;  // of traffic classes that nothing uses any more

  void Note(std::string object, std::string_view what) {
    ++differences;
    if (notes.size() < kMaxDifferences) notes.push_back({std::move(object), std::string(what)});
  }
};

NftablesFamily::NftablesFamily(const kube::ProxySettings& settings, net::Family family)
    : layout_(settings, family) {}

Connection& NftablesFamily::Kernel() {
  if (!connection_) connection_ = std::make_unique<Connection>();
  return *connection_;
}

NftablesFamily::Desired NftablesFamily::MakeDesired(const ServiceModel& model,
                                                    bool owns_route_localnet) const {
  Desired desired;
  desired.elements.reserve(model.entries.size() + model.endpoint_count);
  for (const auto& [id, entry] : model.entries) {
    if (id.family != family()) continue;
    AppendElements(*entry, model.node, desired.elements);
    CountShared(*entry, layout_, 1, desired.shared);
  }
  AppendNodeElements(layout_, model.node, desired.elements);
  for (const auto& [shared, uses] : desired.shared)
    desired.elements.push_back(ToElement(shared));

  // Of two that claim an address, the same one wins each time.
  std::sort(
      desired.elements.begin(), desired.elements.end(), [](const Element& a, const Element& b) {
        return SameKey(a, b) && a.entry != nullptr && b.entry != nullptr ? a.entry->id < b.entry->id
                                                                         : a < b;
      });
  const auto duplicate = [&](const Element& a, const Element& b) {
    if (!SameKey(a, b)) return false;
    if (a.entry != b.entry) {
      const std::string what = fmt::format("has an address or node port that is {}'s", Describe(a));
      if (b.entry != nullptr) {
        desired.refusals.Add(b.entry->id, what);
      } else {
        spdlog::warn("nftables: {} {}", Describe(b), what);
      }
    }
    return true;
  };
  desired.elements.erase(std::unique(desired.elements.begin(), desired.elements.end(), duplicate),
                         desired.elements.end());
  for (const Element& element : desired.elements) {
    TrafficClass traffic_class;
    if (ClassOf(element, traffic_class)) ++desired.classes[traffic_class];
  }
  desired.chains = StaticChains(layout_, model.node, owns_route_localnet);
  for (const auto& [traffic_class, uses] : desired.classes)
    desired.chains.push_back(ClassChain(layout_, traffic_class));
  return desired;
}

void NftablesFamily::WriteChains(const std::vector<Chain>& chains, Transaction& transaction) const {
  for (const Chain& chain : chains)
    transaction.AddChain(chain);
  for (const Chain& chain : chains) {
    for (const Rule& rule : chain.rules)
      transaction.AppendRule(chain.name, rule);
  }
}

void NftablesFamily::AddElement(const Element& element, Transaction& transaction) const {
  const SetDefinition& set = Set(element.set);
  transaction.AddElement(set, element.Raw(set), CommentOf(element));
}

void NftablesFamily::AddClass(const TrafficClass& traffic_class, Transaction& transaction) const {
  transaction.AddGoto(Set(ClassMap(traffic_class)), View(ClassKey(traffic_class)),
                      ClassChainName(traffic_class));
}

void NftablesFamily::DeleteClass(const TrafficClass& traffic_class,
                                 Transaction& transaction) const {
  transaction.DeleteElement(Set(ClassMap(traffic_class)), {View(ClassKey(traffic_class)), {}});
}

void NftablesFamily::WriteAll(const Desired& desired, const KernelTable& kernel,
                              Transaction& transaction) const {
  if (kernel.present) transaction.DeleteTable();
  transaction.AddTable();
  for (const SetDefinition& set : SetsOf(family()))
    transaction.AddSet(set);
  WriteChains(desired.chains, transaction);
  for (const auto& [traffic_class, uses] : desired.classes)
    AddClass(traffic_class, transaction);
  for (const Element& element : desired.elements)
    AddElement(element, transaction);
}

void NftablesFamily::Compare(const Desired& desired, const KernelTable& kernel, Plan& plan) {
  if (!kernel.present) {
    plan.Note(fmt::format("table {}", kTable), "is missing");
    plan.rewrite = true;
    return;
  }
  if (kernel.flags != 0) {
    plan.Note(fmt::format("table {}", kTable), "is dormant or has other flags");
    plan.structure.AddTable();
  }
  std::vector<bool> have(kSets);
  for (size_t i = 0; i < kSets; ++i) {
    const SetDefinition& set = SetsOf(family())[i];
    const auto found = kernel.sets.find(set.name);
    have[i] = found != kernel.sets.end();
    if (!have[i]) {
      plan.Note(fmt::format("set {}", set.name), "is missing");
      plan.structure.AddSet(set);
    } else if (!found->second.Is(set)) {
      plan.Note(fmt::format("set {}", set.name), "is of another kind");
      plan.rewrite = true;
    }
  }
  plan.checked += kernel.sets.size() + kernel.chains.size();
  CompareChains(desired, kernel, plan);
  if (plan.rewrite) return;
  for (const SetId map : {SetId::kClasses, SetId::kClassesFromNode}) {
    if (have[static_cast<size_t>(map)]) {
      CompareClasses(desired, map, plan);
      continue;
    }
    for (const auto& [traffic_class, uses] : desired.classes) {
      if (ClassMap(traffic_class) == map) AddClass(traffic_class, plan.first);
    }
  }
  for (size_t i = 0; i < kModelSets && !plan.rewrite; ++i) {
    const auto set = static_cast<SetId>(i);
    if (have[i]) {
      CompareElements(desired, set, plan);
      continue;
    }
    const auto [begin, end] = desired.Range(set);
    for (size_t at = begin; at < end; ++at)
      AddElement(desired.elements[at], plan.first);
  }
  // Last, when no chain and no element names them any more.
  for (const auto& [name, chain] : kernel.chains) {
    if (HasName(desired.chains, name)) continue;
    if (!plan.idle_chains.contains(name)) plan.Note("chain " + name, "belongs to nothing");
    plan.second.DeleteChain(name);
  }
  for (const auto& [name, set] : kernel.sets) {
    if (HasName(SetsOf(family()), name)) continue;
    plan.Note("set " + name, "belongs to nothing");
    plan.second.DeleteSet(name);
  }
}

void NftablesFamily::CompareChains(const Desired& desired, const KernelTable& kernel, Plan& plan) {
  std::vector<const Chain*> changed;
  for (const Chain& chain : desired.chains) {
    const auto found = kernel.chains.find(chain.name);
    if (found == kernel.chains.end()) {
      plan.Note("chain " + chain.name, "is missing");
      plan.structure.AddChain(chain);
      changed.push_back(&chain);
    } else if (!found->second.HasHookOf(chain)) {
      plan.Note("chain " + chain.name, "has another hook, priority or policy");
      plan.rewrite = true;
    } else if (!found->second.HasRulesOf(chain)) {
      plan.Note("chain " + chain.name, "has other rules than were written");
      plan.structure.FlushChain(chain.name);
      changed.push_back(&chain);
    }
  }
  for (const Chain* chain : changed) {
    for (const Rule& rule : chain->rules)
      plan.structure.AppendRule(chain->name, rule);
  }
  // Emptied before any is deleted: they may name one another.
  for (const auto& [name, chain] : kernel.chains) {
    if (HasName(desired.chains, name)) continue;
    plan.second.FlushChain(name);
  }
}

void NftablesFamily::CompareClasses(const Desired& desired, SetId map, Plan& plan) {
  const SetDefinition& set = Set(map);
  std::map<std::string, std::string> kernel;
  bool strange = false;
  ReadElements(
      Kernel(), family(), kTable, set.name,
      [&] {
        kernel.clear();
        strange = false;
      },
      [&](const KernelElement& element) {
        if (element.key.size() != set.key_size) strange = true;
        kernel.emplace(element.key, element.plain ? element.data : std::string_view());
      });
  if (strange) {
    plan.Note(fmt::format("set {}", set.name), "has an element that matches everything");
    plan.rewrite = true;
    return;
  }
  plan.checked += kernel.size();
  for (const auto& [traffic_class, uses] : desired.classes) {
    if (ClassMap(traffic_class) != map) continue;
    const auto found = kernel.find(std::string(View(ClassKey(traffic_class))));
    if (found != kernel.end() && found->second == ClassChainName(traffic_class)) {
      kernel.erase(found);
      continue;
    }
    plan.Note(fmt::format("element {} of set {}", ClassChainName(traffic_class), set.name),
              found == kernel.end() ? "is missing" : "leads elsewhere");
    if (found != kernel.end()) {
      DeleteClass(traffic_class, plan.first);
      kernel.erase(found);
    }
    AddClass(traffic_class, plan.first);
  }
  for (const auto& [key, chain] : kernel) {
    if (ClassChainName(ClassFromKey(
            std::span(reinterpret_cast<const uint8_t*>(key.data()), key.size()))) == chain) {
      plan.idle_chains.insert(chain);  // no damage: Sync leaves it
    } else {
      plan.Note(fmt::format("element {} of set {}", chain, set.name), "belongs to nothing");
    }
    plan.second.DeleteElement(set, {key, {}});
  }
}

void NftablesFamily::CompareElements(const Desired& desired, SetId id, Plan& plan) {
  const SetDefinition& set = Set(id);
  const auto [begin, end] = desired.Range(id);
  const auto first = desired.elements.begin() + static_cast<ptrdiff_t>(begin);
  const auto last = desired.elements.begin() + static_cast<ptrdiff_t>(end);
  enum State : uint8_t { kMissing, kSame, kOther };
  std::vector<uint8_t> states(end - begin);
  std::vector<Element> surplus;
  uint64_t seen = 0;
  bool strange = false;
  ReadElements(
      Kernel(), family(), kTable, set.name,
      [&] {
        std::fill(states.begin(), states.end(), kMissing);
        surplus.clear();
        seen = 0;
        strange = false;
      },
      [&](const KernelElement& raw) {
        ++seen;
        Element element;
        element.set = id;
        if (raw.key.size() != set.key_size || raw.data.size() > element.data.size()) {
          strange = true;
          return;
        }
        std::copy(raw.key.begin(), raw.key.end(), element.key.begin());
        std::copy(raw.data.begin(), raw.data.end(), element.data.begin());
        const auto found = std::lower_bound(first, last, element);
        if (found == last || !SameKey(*found, element)) {
          surplus.push_back(element);
        } else if (raw.plain && *found == element) {
          states[static_cast<size_t>(found - first)] = kSame;
        } else {
          // With the value that the kernel has: an interval is deleted by both of its ends.
          surplus.push_back(element);
          states[static_cast<size_t>(found - first)] = kOther;
        }
      });
  if (strange) {
    plan.Note(fmt::format("set {}", set.name), "has an element that matches everything");
    plan.rewrite = true;
    return;
  }
  plan.checked += seen;
  for (const Element& element : surplus) {
    const auto found = std::lower_bound(first, last, element);
    const bool replaced = found != last && SameKey(*found, element);
    if (!replaced) plan.Note(fmt::format("an element of set {}", set.name), "belongs to nothing");
    (replaced || IsEntrance(id) ? plan.first : plan.second).DeleteElement(set, element.Raw(set));
  }
  for (size_t i = 0; i < states.size(); ++i) {
    if (states[i] == kSame) continue;
    const Element& element = desired.elements[begin + i];
    plan.Note(fmt::format("an element of set {} of {}", set.name, Describe(element)),
              states[i] == kMissing ? "is missing" : "has another value");
    AddElement(element, plan.first);
  }
}

bool NftablesFamily::Commit(Plan& plan, SyncResult& result) {
  for (Transaction* transaction : {&plan.structure, &plan.first, &plan.second}) {
    if (transaction->empty()) continue;
    if (transaction == &plan.second) WaitForPacketsUnderWay();
    const uint64_t objects = transaction->objects();
    const std::vector<Refusal> refusals = Kernel().Commit(*transaction);
    for (const Refusal& refusal : refusals) {
      if (result.problems.size() >= kMaxDifferences) break;
      result.problems.push_back(
          {fmt::format("nftables {} {}", net::ToString(family()), refusal.object),
           refusal.message});
    }
    if (!refusals.empty()) return false;
    result.kernel_writes += objects;
  }
  return true;
}

bool NftablesFamily::OwnsRouteLocalnet(const KernelTable& kernel) const {
  if (owns_route_localnet_) return true;
  for (const auto& [name, chain] : kernel.chains) {
    for (const KernelRule& rule : chain.rules) {
      if (rule.comment == GuardComment(true)) return true;
    }
  }
  return false;
}

std::vector<std::string> NftablesFamily::Sysctls() const {
  std::vector<std::string> names{family() == net::Family::kIPv4 ? "net.ipv4.ip_forward"
                                                                : "net.ipv6.conf.all.forwarding"};
  if (wants_route_localnet_) names.emplace_back(kRouteLocalnet);
  return names;
}

void NftablesFamily::SwitchRouteLocalnetOff(SyncResult& result) {
  owns_route_localnet_ = false;
  const SysctlResult reset = WriteSysctl(kRouteLocalnet, "0");
  if (!reset.ok()) result.problems.push_back({fmt::format("sysctl {}", reset.name), reset.error});
}

SyncResult NftablesFamily::FullSync(const ServiceModel& model) {
  const bool had_synced = synced_;
  synced_ = false;
  Kernel();
  const bool wants_localnet = WantsRouteLocalnet(layout_, model.node);
  wants_route_localnet_ = wants_localnet;
  SyncResult result;
  for (int attempt = 1;; ++attempt) {
    result = {};
    const KernelTable kernel = ReadTable(Kernel(), family(), kTable);
    bool owns_localnet = OwnsRouteLocalnet(kernel);
    if (wants_localnet && !owns_localnet) {
      std::string error;
      const std::optional<std::string> now = ReadSysctl(kRouteLocalnet, &error);
      if (!now) result.problems.push_back({fmt::format("sysctl {}", kRouteLocalnet), error});
      owns_localnet = now == "0";
    } else if (!wants_localnet && owns_localnet) {
      SwitchRouteLocalnetOff(result);  // before the guard goes
      owns_localnet = false;
    }
    Desired desired = MakeDesired(model, owns_localnet);
    Plan plan(family());
    Compare(desired, kernel, plan);
    Plan whole(family());
    if (plan.rewrite) WriteAll(desired, kernel, whole.first);
    if (!Commit(plan.rewrite ? whole : plan, result)) {
      if (attempt < kTries) continue;
      return result;
    }
    // In a process that has just started, what differs may be the cluster's change and not damage.
    if (had_synced && !drained_) result.repaired = plan.differences;
    // The next change may free the address for the other: only a full sync knows of that one.
    synced_ = desired.refusals.empty();
    result.refusals = std::move(desired.refusals);
    owns_route_localnet_ = owns_localnet;
    classes_ = std::move(desired.classes);
    idle_classes_.clear();
    shared_ = std::move(desired.shared);
    break;
  }
  if (wants_localnet) {
    const SysctlResult set = WriteSysctl(kRouteLocalnet, "1");
    if (!set.ok()) {
      result.problems.push_back({fmt::format("sysctl {}", set.name), set.error});
    } else if (set.changed) {
      ++result.kernel_writes;
    }
  }
  drained_ = false;
  draining_.clear();
  return result;
}

SyncResult NftablesFamily::Sync(const ServiceModel& model, const ModelDelta& delta) {
  if (!synced_ || delta.node_changed) return FullSync(model);
  synced_ = false;  // until all of it is in the kernel

  std::vector<Element> before;
  std::vector<Element> after;
  SharedUses shared_changes;
  for (const EntryChange& change : delta.changes) {
    const EntryPtr& any = change.before ? change.before : change.after;
    if (!any || any->id.family != family()) continue;
    if (change.before) {
      AppendElements(*change.before, model.node, before);
      CountShared(*change.before, layout_, -1, shared_changes);
    }
    if (change.after) {
      AppendElements(*change.after, model.node, after);
      CountShared(*change.after, layout_, 1, shared_changes);
    }
  }
  std::sort(before.begin(), before.end());
  std::sort(after.begin(), after.end());

  ClassUses class_changes;
  const auto count_classes = [&](const std::vector<Element>& elements, int by) {
    for (const Element& element : elements) {
      TrafficClass traffic_class;
      if (ClassOf(element, traffic_class)) class_changes[traffic_class] += by;
    }
  };
  count_classes(before, -1);
  count_classes(after, 1);
  auto [new_classes, gone_classes] = Apply(class_changes, classes_);
  std::erase_if(new_classes, [this](const auto& each) { return idle_classes_.erase(each) > 0; });
  idle_classes_.insert(gone_classes.begin(), gone_classes.end());
  gone_classes.clear();
  if (idle_classes_.size() > kMostIdleClasses) {
    gone_classes.assign(idle_classes_.begin(), idle_classes_.end());
    idle_classes_.clear();
  }
  const auto [new_shared, gone_shared] = Apply(shared_changes, shared_);

  Plan plan(family());
  std::vector<Chain> new_chains;
  for (const TrafficClass& traffic_class : new_classes)
    new_chains.push_back(ClassChain(layout_, traffic_class));
  WriteChains(new_chains, plan.structure);
  for (const TrafficClass& traffic_class : new_classes)
    AddClass(traffic_class, plan.first);

  std::vector<const Element*> add;
  auto old = before.begin();
  const auto drop_old = [&](bool replaced) {
    const SetDefinition& set = Set(old->set);
    (replaced || IsEntrance(old->set) ? plan.first : plan.second).DeleteElement(set, old->Raw(set));
    ++old;
  };
  for (const Element& element : after) {
    while (old != before.end() && *old < element)
      drop_old(false);
    if (old != before.end() && *old == element) {
      ++old;
      continue;
    }
    if (old != before.end() && SameKey(*old, element)) drop_old(true);
    add.push_back(&element);
  }
  while (old != before.end())
    drop_old(false);
  for (const Element* element : add)
    AddElement(*element, plan.first);
  for (const SharedElement& shared : new_shared)
    AddElement(ToElement(shared), plan.first);
  for (const SharedElement& shared : gone_shared) {
    const SetDefinition& set = Set(shared.set);
    (IsEntrance(shared.set) ? plan.first : plan.second)
        .DeleteElement(set, ToElement(shared).Raw(set));
  }
  for (const TrafficClass& traffic_class : gone_classes)
    DeleteClass(traffic_class, plan.second);
  for (const TrafficClass& traffic_class : gone_classes)
    plan.second.DeleteChain(ClassChainName(traffic_class));

  SyncResult result;
  if (!Commit(plan, result)) {
    // Not what we left there: somebody else has been at it. Read it and repair.
    spdlog::warn("{}: {}; the table is read again", result.problems[0].object,
                 result.problems[0].message);
    SyncResult full = FullSync(model);
    full.kernel_writes += result.kernel_writes;
    full.repaired = std::max<uint64_t>(full.repaired, 1);
    return full;
  }
  synced_ = true;
  return result;
}

VerifyResult NftablesFamily::Verify(const ServiceModel& model) {
  const KernelTable kernel = ReadTable(Kernel(), family(), kTable);
  const Desired desired = MakeDesired(model, OwnsRouteLocalnet(kernel));
  Plan plan(family());
  Compare(desired, kernel, plan);
  VerifyResult result;
  for (SyncProblem& note : plan.notes) {
    result.differences.push_back(
        {fmt::format("nftables {} {}", net::ToString(family()), note.object),
         std::move(note.message)});
  }
  result.difference_count = plan.differences;
  result.objects_checked = plan.checked;
  return result;
}

DrainStatus NftablesFamily::Drain(const ServiceModel& model) {
  const auto is_ours = [this](const netlink::ConntrackFlow& flow) {
    // ipvs does not set this bit: its flows' reply direction is rewritten without NAT of conntrack
    // (net/netfilter/ipvs/ip_vs_nfct.c).
    return (flow.status & IPS_DST_NAT) != 0 && netlink::IsOpen(flow) &&
           (!drained_ || draining_.contains(flow.id));
  };
  if (drained_) {
    uint64_t connections = 0;
    netlink::Conntrack().ForEach(family(), 0, [&](const netlink::ConntrackFlow& flow) {
      if (is_ours(flow)) ++connections;
    });
    return {.connections = connections};
  }

  // The chains stay, and with them conntrack's hooks, without which established connections stall;
  // so do the masquerade rules.
  const KernelTable kernel = ReadTable(Kernel(), family(), kTable);
  Transaction transaction(family(), kTable);
  for (const std::string_view chain : {kPrerouting, kOutput, kRefusePrerouting, kRefuseOutput}) {
    const auto found = kernel.chains.find(chain);
    if (found != kernel.chains.end() && !found->second.rules.empty()) transaction.FlushChain(chain);
  }
  if (!transaction.empty()) {
    const std::vector<Refusal> refusals = Kernel().Commit(transaction);
    if (!refusals.empty()) {
      throw std::system_error(
          refusals[0].error, std::generic_category(),
          fmt::format("drain nftables {} {}", net::ToString(family()), refusals[0].object));
    }
  }
  // Which of the connections are to a Service is found by the keys of our own maps.
  std::unordered_set<std::string> frontends;
  std::vector<Element> elements;
  for (const auto& [id, entry] : model.entries) {
    if (id.family != family()) continue;
    elements.clear();
    AppendElements(*entry, model.node, elements);
    for (const Element& element : elements) {
      if (IsEntrance(element.set)) frontends.emplace(element.Raw(Set(element.set)).key);
    }
  }
  draining_.clear();
  netlink::Conntrack().ForEach(family(), 0, [&](const netlink::ConntrackFlow& flow) {
    if (!is_ours(flow)) return;
    const std::string by_address = FrontendKey(flow.original.destination, flow.original.protocol,
                                               flow.original.destination_port);
    const std::string by_port = by_address.substr(flow.original.destination.size());
    if (frontends.contains(by_address) || frontends.contains(by_port)) draining_.insert(flow.id);
  });
  drained_ = true;
  return {.connections = draining_.size()};
}

// What is to be an element of `affinity`.
struct NftablesFamily::BoundClient {
  Element element;
  std::chrono::seconds left{0};
  enum class There : uint8_t {
    kNo,
    kYes,    // bound already
    kStale,  // the element leads where the Service's traffic may not go any more
  } there = There::kNo;
};

void NftablesFamily::ReadAffinity(const std::function<void()>& restart,
                                  const std::function<void(const KernelElement&)>& each) const {
  // The kernel walks from the map's beginning for each 32 KB of a dump (nft_set_hash.c,
  // nft_rhash_walk): 0.6 s for 100,000 clients, 4 s for 200,000, 17 s for 400,000.
  class Enough : public std::exception {};
  // For this alone: what is left of a dump that is broken off stays in the socket.
  Connection connection;
  size_t seen = 0;
  try {
    ReadElements(
        connection, family(), kTable, Set(SetId::kAffinity).name,
        [&] {
          seen = 0;
          restart();
        },
        [&](const KernelElement& element) {
          if (seen++ == kMostBindings) throw Enough();
          each(element);
        });
  } catch (const Enough&) {
    spdlog::debug("nftables {}: only {} clients are looked at", net::ToString(family()),
                  kMostBindings);
  }
}

std::vector<ClientBinding> NftablesFamily::Bindings(const ServiceModel& model, size_t most) {
  const AffinityEndpoints endpoints(model, family());
  std::vector<ClientBinding> bindings;
  if (endpoints.empty()) return bindings;
  // A client can have an element for each kind of traffic to a Service port; the newest tells.
  std::unordered_map<const ServicePortEntry*, std::unordered_map<net::IpAddress, size_t>> places;
  ReadAffinity(
      [&] {
        bindings.clear();
        places.clear();
      },
      [&](const KernelElement& element) {
        ClientBinding binding;
        if (element.expires.count() <= 0 || !endpoints.Read(element.key, element.data, binding))
          return;
        const std::chrono::seconds timeout(AffinitySeconds(*binding.entry));
        binding.left = std::min(std::chrono::ceil<std::chrono::seconds>(element.expires), timeout);
        auto& clients = places[binding.entry.get()];
        const auto known = clients.find(binding.client);
        if (known != clients.end()) {
          if (bindings[known->second].left < binding.left)
            bindings[known->second] = std::move(binding);
        } else if (bindings.size() < most) {
          clients.emplace(binding.client, bindings.size());
          bindings.push_back(std::move(binding));
        }
      });
  return bindings;
}

std::optional<Refusal> NftablesFamily::WriteEach(
    std::span<const BoundClient* const> clients,
    const std::function<void(Transaction&, const BoundClient&)>& request,
    std::initializer_list<int> expected, int& refusals_left, SyncResult& result) {
  if (clients.size() > kMostClientsAtOnce) {
    for (size_t at = 0; at < clients.size(); at += kMostClientsAtOnce) {
      const auto part = clients.subspan(at, std::min(kMostClientsAtOnce, clients.size() - at));
      if (auto refusal = WriteEach(part, request, expected, refusals_left, result)) return refusal;
    }
    return std::nullopt;
  }
  if (clients.empty()) return std::nullopt;
  Transaction transaction(family(), kTable);
  for (const BoundClient* client : clients)
    request(transaction, *client);
  const std::vector<Refusal> refusals = Kernel().Commit(transaction);
  if (refusals.empty()) {
    result.kernel_writes += clients.size();
    return std::nullopt;
  }
  if (--refusals_left < 0) return refusals.front();
  if (clients.size() == 1) {
    const int error = refusals.front().error;
    if (std::find(expected.begin(), expected.end(), error) != expected.end()) return std::nullopt;
    return refusals.front();
  }
  // The kernel does not say which it was.
  const size_t half = clients.size() / 2;
  if (auto refusal = WriteEach(clients.first(half), request, expected, refusals_left, result))
    return refusal;
  return WriteEach(clients.subspan(half), request, expected, refusals_left, result);
}

SyncResult NftablesFamily::Bind(const ServiceModel& model,
                                const std::vector<ClientBinding>& bindings) {
  SyncResult result;
  const AffinityEndpoints endpoints(model, family());
  const SetDefinition& map = Set(SetId::kAffinity);
  std::unordered_map<std::string, BoundClient> clients;
  std::vector<Element> elements;
  for (const ClientBinding& binding : bindings) {
    elements.clear();
    endpoints.AppendElements(binding, elements);
    for (const Element& element : elements) {
      const std::chrono::seconds timeout(AffinitySeconds(*element.entry));
      const std::chrono::seconds left = std::clamp(binding.left, std::chrono::seconds(1), timeout);
      clients.try_emplace(std::string(element.Raw(map).key), BoundClient{element, left});
    }
  }
  if (clients.empty()) return result;
  ReadAffinity(
      [&] {
        for (auto& [key, client] : clients)
          client.there = BoundClient::There::kNo;
      },
      [&](const KernelElement& element) {
        const auto found = clients.find(std::string(element.key));
        // The kernel takes one whose time has ended for none.
        if (found == clients.end() || element.expires.count() <= 0) return;
        ClientBinding binding;
        found->second.there = endpoints.Read(element.key, element.data, binding)
                                  ? BoundClient::There::kYes
                                  : BoundClient::There::kStale;
      });
  std::vector<const BoundClient*> add;
  std::vector<const BoundClient*> stale;
  for (const auto& [key, client] : clients) {
    if (client.there != BoundClient::There::kYes) add.push_back(&client);
    if (client.there == BoundClient::There::kStale) stale.push_back(&client);
  }
  // Should the map become full, those who have just been here are in it.
  std::sort(add.begin(), add.end(),
            [](const BoundClient* a, const BoundClient* b) { return a->left > b->left; });
  int refusals_left = kMostRefusals;
  // In the meantime packets may have put their clients there or taken them away.
  std::optional<Refusal> refusal = WriteEach(
      stale,
      [&map](Transaction& transaction, const BoundClient& client) {
        transaction.DeleteElement(map, {client.element.Raw(map).key, {}});
      },
      {ENOENT}, refusals_left, result);
  uint64_t bound = 0;
  if (!refusal) {
    SyncResult written;
    refusal = WriteEach(
        add,
        [&map](Transaction& transaction, const BoundClient& client) {
          transaction.AddExpiring(map, client.element.Raw(map),
                                  std::chrono::seconds(AffinitySeconds(*client.element.entry)),
                                  client.left);
        },
        // Older kernels say EBUSY of a key that has another value.
        {EEXIST, EBUSY}, refusals_left, written);
    bound = written.kernel_writes;
    result.Add(std::move(written));
  }
  if (refusal) {
    result.problems.push_back({fmt::format("nftables {} map {}", net::ToString(family()), map.name),
                               fmt::format("sessionAffinity of {} clients could not be kept: {}",
                                           add.size() - bound, refusal->message)});
  }
  return result;
}

SyncResult NftablesFamily::Remove() {
  synced_ = false;
  drained_ = false;
  draining_.clear();
  classes_.clear();
  idle_classes_.clear();
  shared_.clear();
  SyncResult result;
  if (!Present()) return result;
  const KernelTable kernel = ReadTable(Kernel(), family(), kTable);
  if (OwnsRouteLocalnet(kernel)) SwitchRouteLocalnetOff(result);  // before the guard goes
  Plan plan(family());
  plan.first.DeleteTable();
  Commit(plan, result);
  result.kernel_writes += kernel.chains.size() + kernel.sets.size();
  return result;
}

bool NftablesFamily::Present() {
  try {
    // Without a look at what the kernel can do: it may not have nf_tables at all.
    Connection connection;
    return HasTable(connection, family(), kTable);
  } catch (const std::system_error& error) {
    if (error.code() == std::errc::protocol_not_supported) return false;  // nor netfilter's netlink
    throw;
  }
}

}  // namespace pointsman::agent::nft

#include "node-agent/userspace/userspace_dataplane.h"

#include <cerrno>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>

#include <fmt/format.h>

#include "node-agent/dataplane/family_parts.h"
#include "node-agent/netlink/conntrack.h"
#include "node-agent/netlink/local_route.h"
#include "node-agent/xtables/base_rules.h"

namespace pointsman::agent {
namespace {

constexpr std::string_view kPrefix = UserspaceDataplane::kChainPrefix;
constexpr std::string_view kInput = "POINTSMAN-USP-INPUT";
constexpr std::string_view kAccept = "POINTSMAN-USP-ACCEPT";
constexpr std::string_view kGuard = "POINTSMAN-USP-GUARD";
constexpr std::string_view kRules = "iptables rules";
constexpr std::string_view kOwn = "POINTSMAN-USP-OWN";
// Of an agent that drains: it asks each second, unless it is killed or has much to write.
constexpr std::chrono::seconds kLongestSilence{60};

std::string Jump(std::string_view match, std::string_view what, std::string_view chain) {
  return fmt::format("{}-m comment --comment \"pointsman: {}\" -j {}", match, what, chain);
}

std::vector<xtables::ExtraChain> ExtraChains(net::Family family, uint32_t mark_bit) {
  using xtables::JumpPlace;
  const std::string mark = fmt::format("{:#x}", mark_bit);
  // The forwarder's own connections to backends are not to be steered back to it, whatever a user
  // wrote into an EndpointSlice. The mark comes off again: it also means "masquerade", and the
  // address is the node's own anyway. ACCEPT and not RETURN: nor is any other proxy to take them.
  const std::string own = fmt::format(
      "-A {0} -j MARK --set-xmark {1}/0x0\n"
      "-A {0} -j ACCEPT\n",
      kOwn, mark);
  return {
      {.table = "nat",
       .name = std::string(kOwn),
       .text = own,
       .jumps = {{"OUTPUT",
                  {Jump(fmt::format("-m mark --mark {0}/{0} ", mark), "from the forwarder", kOwn),
                   JumpPlace::kBeforeProxies}}}},
      {.table = "filter",
       .name = std::string(kInput),
       .jumps = {{"INPUT", {Jump("", "to the forwarder", kInput), JumpPlace::kStays}}}},
      // Whatever else refuses the node's own addresses: a Service is not one of these.
      {.table = "filter",
       .name = std::string(kAccept),
       .text = fmt::format("-A {} -d {} -m conntrack --ctstate DNAT -j ACCEPT\n", kAccept,
                           forwarder::SlotPrefix(family).ToString()),
       .jumps = {{"INPUT", {Jump("", "to the forwarder", kAccept), JumpPlace::kBehindPolicies}}}},
      {.table = "filter",
       .name = std::string(kGuard),
       .jumps = {{"OUTPUT", {Jump("", "from the forwarder", kGuard), JumpPlace::kStays}}}}};
}

// Only what the rules have sent there gets to the forwarder.
std::string InputText(net::Family family, uint16_t port) {
  const std::string slots = forwarder::SlotPrefix(family).ToString();
  std::string text = fmt::format(
      "-A {0} -d {1} -m conntrack --ctstate DNAT -j RETURN\n"
      "-A {0} -d {1} -j DROP\n",
      kInput, slots);
  if (port == 0) return text;
  return text +
         fmt::format(
             "-A {0} -p tcp -m tcp --dport {1} -j REJECT --reject-with tcp-reset\n"
             "-A {0} -p udp -m udp --dport {1} -j REJECT --reject-with {2}\n",
             kInput, port,
             family == net::Family::kIPv4 ? "icmp-port-unreachable" : "icmp6-port-unreachable");
}

// What conntrack does not know any more would leave with a slot's address as its source.
std::string GuardText(net::Family family) {
  return fmt::format("-A {} -s {} -m conntrack ! --ctstate RELATED,ESTABLISHED -j DROP\n", kGuard,
                     forwarder::SlotPrefix(family).ToString());
}

forwarder::PortRange ParsePortRange(const std::string& text) {
  if (text.empty()) return {};
  unsigned first = 0;
  unsigned last = 0;
  if (std::sscanf(text.c_str(), "%u-%u", &first, &last) != 2 || first == 0 || last < first ||
      last > 65535) {
    throw std::invalid_argument(
        fmt::format("userspace.portRange: '{}' is not a range of ports like 30000-30500", text));
  }
  return {static_cast<uint16_t>(first), static_cast<uint16_t>(last)};
}

ForwarderSettings LinkSettings(const kube::ProxySettings& settings,
                               const UserspaceDataplane::Options& options) {
  return {.program = options.forwarder_program,
          .launcher = options.launcher,
          .directory = options.run_directory,
          // One that marks its packets otherwise would not be told from its clients.
          .version =
              fmt::format("{} mark {:#x}", options.version, 1U << settings.iptables.masquerade_bit),
          .port_range = ParsePortRange(settings.userspace.port_range),
          .udp_idle_timeout = settings.userspace.udp_idle_timeout,
          .mark = 1U << settings.iptables.masquerade_bit,
          .max_files = options.max_files,
          .log_format = options.log_format};
}

std::chrono::seconds DrainTimeout(const kube::ProxySettings& settings) {
  return std::chrono::ceil<std::chrono::seconds>(settings.drain_timeout);
}

int LoopbackIndex() {
  const unsigned index = ::if_nametoindex("lo");
  if (index == 0) throw std::system_error(errno, std::generic_category(), "interface lo");
  return static_cast<int>(index);
}

}  // namespace

UserspaceDataplane::UserspaceDataplane(const kube::ProxySettings& settings, const Options& options,
                                       const std::vector<xtables::IptablesTool*>& tools)
    : settings_(settings), link_(LinkSettings(settings, options)) {
  const uint32_t mark_bit = 1U << settings.iptables.masquerade_bit;
  for (xtables::IptablesTool* tool : tools) {
    families_.push_back(std::make_unique<xtables::FamilyRules>(
        settings, *tool, xtables::RuleFlavour{.prefix = kPrefix, .sends_on = false},
        ExtraChains(tool->family(), mark_bit)));
  }
}

UserspaceDataplane::~UserspaceDataplane() = default;

bool UserspaceDataplane::Serves(net::Family family) const {
  return std::any_of(families_.begin(), families_.end(),
                     [&](const auto& served) { return served->family() == family; });
}

std::set<std::pair<std::string, std::string>> UserspaceDataplane::WithoutSlots(
    const ServiceModel& model) const {
  return agent::WithoutSlots(model, forwarder::kMaxSlot, [this](const ServicePortEntry& entry) {
    return Serves(entry.id.family);
  });
}

void UserspaceDataplane::NoteFamiliesWithoutSockets(SyncResult& result) const {
  for (const auto& family : families_) {
    if (PortOf(family->family()) != 0) continue;
    result.problems.push_back({"the forwarder",
                               fmt::format("the kernel gives the forwarder no {} sockets",
                                           net::ToString(family->family())),
                               family->family()});
  }
}

Steered UserspaceDataplane::Steer(const ServicePortEntry& entry, uint16_t port, bool without_slots,
                                  SlotMap& numbers, ServiceRefusals& refusals) {
  std::string why;
  try {
    if (port != 0 && !without_slots) {
      Steered steered = numbers.Steer(entry, port);
      if (steered.backends_left_out > 0) {
        refusals.Add(entry.id,
                     fmt::format("{} endpoints are left out: the forwarder takes the first {}",
                                 steered.backends_left_out, forwarder::kMaxBackendsOfSlot));
      }
      return steered;
    }
    if (without_slots) {
      why = fmt::format(
          "is refused: userspace mode has {} slots for all Service ports; where they are not "
          "enough, the largest Service of the namespace with most of them goes first",
          forwarder::kMaxSlot);
    }
  } catch (const std::length_error& error) {
    why = error.what();
  }
  if (!why.empty()) refusals.Add(entry.id, why);
  ServicePortEntry refused = entry;
  for (BackendChoice* choice : {&refused.internal, &refused.external, &refused.external_from_node})
    *choice = {};
  return {.entry = std::make_shared<const ServicePortEntry>(std::move(refused)), .slots = {}};
}

void UserspaceDataplane::SetRuleTexts() {
  for (const auto& family : families_) {
    const bool v4 = family->family() == net::Family::kIPv4;
    family->SetExtraText(kInput, InputText(family->family(), v4 ? port_v4_ : port_v6_));
    family->SetExtraText(kGuard, GuardText(family->family()));
  }
}

SyncResult UserspaceDataplane::EnsureRoute(net::Family family) {
  SyncResult result;
  netlink::Socket socket(NETLINK_ROUTE);
  const int loopback = LoopbackIndex();
  const net::IpPrefix prefix = forwarder::SlotPrefix(family);
  const auto there = netlink::LocalPrefixes(socket, family, loopback);
  if (std::find(there.begin(), there.end(), prefix) != there.end()) return result;
  netlink::Batch batch;
  netlink::AddLocalRoute(batch, prefix, loopback);
  for (const netlink::Failure& failure : socket.Execute(batch)) {
    throw std::system_error(failure.error, std::generic_category(),
                            fmt::format("route local {}", prefix.ToString()));
  }
  ++result.kernel_writes;
  return result;
}

SyncResult UserspaceDataplane::FullSync(const ServiceModel& model) {
  SyncResult result;
  const bool had_synced = std::exchange(synced_, false);
  const ForwarderLink::Found found = link_.Ensure();
  const std::vector<forwarder::Slot> there = link_.Dump();
  if (found == ForwarderLink::Found::kStarted && there.empty()) {
    numbers_.StartAfresh();
    // What an earlier forwarder's conntrack entries lead to is nobody now.
    ForgetDatagrams([](net::Family, uint32_t) { return true; }, result);
  } else if (numbers_.empty()) {
    numbers_.Adopt(there, link_.last_slot());
  }
  port_v4_ = link_.port(net::Family::kIPv4);
  port_v6_ = link_.port(net::Family::kIPv6);
  for (const auto& family : families_) {
    AddPartOf(family->family(), "local routes", result, [&] {
      SyncResult route = EnsureRoute(family->family());
      if (had_synced && !drained_) route.repaired = route.kernel_writes;
      return route;
    });
  }

  slots_.clear();
  slots_of_.clear();
  steered_ = {};
  steered_.node = model.node;
  without_slots_ = WithoutSlots(model);
  NoteFamiliesWithoutSockets(result);
  for (const auto& [id, entry] : model.entries) {
    if (!Serves(id.family)) continue;
    Steered steered = Steer(*entry, PortOf(id.family), without_slots_.contains({id.ns, id.name}),
                            numbers_, result.refusals);
    std::vector<uint32_t>& numbers = slots_of_[id];
    for (forwarder::Slot& slot : steered.slots) {
      numbers.push_back(slot.number);
      slots_.emplace(slot.number, std::move(slot));
    }
    steered_.entries.emplace(id, std::move(steered.entry));
  }

  std::vector<forwarder::Slot> gone;
  std::unordered_map<uint32_t, const forwarder::Slot*> known;
  for (const forwarder::Slot& slot : there) {
    const auto wanted = slots_.find(slot.number);
    if (wanted != slots_.end() && wanted->second.service == slot.service &&
        wanted->second.kind == slot.kind) {
      known.emplace(slot.number, &slot);
    } else if (wanted == slots_.end()) {
      gone.push_back(slot);
    }
  }
  std::vector<forwarder::Slot> set;
  for (const auto& [number, slot] : slots_) {
    const auto same = known.find(number);
    if (same == known.end() || *same->second != slot) set.push_back(slot);
  }
  if (!set.empty()) {
    result.kernel_writes += set.size();
    if (had_synced && !drained_) result.repaired += set.size();
    // A slot is there before a rule sends anything to it, and goes after the last one.
    link_.Change(std::move(set), {}, numbers_.last());
  }
  SetRuleTexts();
  for (const auto& family : families_)
    rule_problems_.Try(family->family(), kRules, result,
                       [&] { return family->FullSync(steered_); });
  if (had_synced && !drained_) result.repaired += gone.size();
  RemoveSlots(gone, result);
  link_.RetireOthers(DrainTimeout(settings_));
  drained_ = false;
  synced_ = WentThroughInPart(result.problems);
  return result;
}

SyncResult UserspaceDataplane::Sync(const ServiceModel& model, const ModelDelta& delta) {
  if (delta.node_changed) return FullSync(model).WithoutRepairs();
  if (!synced_ || drained_ || link_.port(net::Family::kIPv4) != port_v4_ ||
      link_.port(net::Family::kIPv6) != port_v6_) {
    return FullSync(model);
  }
  for (const EntryChange& change : delta.changes) {
    const ServicePortId& id = (change.after ? change.after : change.before)->id;
    if (without_slots_.contains({id.ns, id.name})) return FullSync(model);
  }
  synced_ = false;  // until all of it is done
  SyncResult result;
  NoteFamiliesWithoutSockets(result);
  ModelDelta rules;
  std::vector<forwarder::Slot> set;
  std::vector<forwarder::Slot> gone;
  for (const EntryChange& change : delta.changes) {
    const EntryPtr& any = change.after ? change.after : change.before;
    if (!any || !Serves(any->id.family)) continue;
    std::vector<uint32_t> before = std::exchange(slots_of_[any->id], {});
    EntryPtr steered_before;
    if (const auto entry = steered_.entries.find(any->id); entry != steered_.entries.end()) {
      steered_before = entry->second;
    }
    EntryPtr steered_after;
    if (change.after) {
      Steered steered = Steer(*change.after, PortOf(any->id.family), /*without_slots=*/false,
                              numbers_, result.refusals);
      steered_after = std::move(steered.entry);
      for (forwarder::Slot& slot : steered.slots) {
        std::erase(before, slot.number);
        slots_of_[any->id].push_back(slot.number);
        const auto known = slots_.find(slot.number);
        if (known != slots_.end() && known->second == slot) continue;
        slots_.insert_or_assign(slot.number, slot);
        set.push_back(std::move(slot));
      }
      steered_.entries[any->id] = steered_after;
    } else {
      steered_.entries.erase(any->id);
      slots_of_.erase(any->id);
    }
    for (uint32_t number : before) {
      const auto slot = slots_.find(number);
      gone.push_back(std::move(slot->second));
      slots_.erase(slot);
    }
    const bool same = steered_before && steered_after && *steered_before == *steered_after;
    if (!same) rules.changes.push_back({steered_before, steered_after});
  }
  if (!set.empty()) {
    result.kernel_writes += set.size();
    link_.Change(std::move(set), {}, numbers_.last());
  }
  for (const auto& family : families_) {
    rule_problems_.TryChange(family->family(), kRules, result,
                             [&] { return family->Sync(steered_, rules); });
  }
  RemoveSlots(gone, result);
  synced_ = WentThroughInPart(result.problems);
  return result;
}

void UserspaceDataplane::RemoveSlots(const std::vector<forwarder::Slot>& gone, SyncResult& result) {
  if (gone.empty()) return;
  std::vector<uint32_t> numbers;
  std::unordered_set<uint32_t> datagrams;
  for (const forwarder::Slot& slot : gone) {
    numbers.push_back(slot.number);
    if (slot.udp) datagrams.insert(slot.number);
  }
  link_.Change({}, numbers, numbers_.last());
  for (const forwarder::Slot& slot : gone)
    numbers_.Free(slot);
  result.kernel_writes += gone.size();
  // A client that keeps its port would be sent to the slot that is gone for as long as it sends.
  if (!datagrams.empty()) {
    ForgetDatagrams([&](net::Family, uint32_t slot) { return datagrams.contains(slot); }, result);
  }
}

void UserspaceDataplane::ForgetDatagrams(const std::function<bool(net::Family, uint32_t)>& stale,
                                         SyncResult& result) {
  netlink::Conntrack conntrack;
  for (const auto& family : families_) {
    netlink::Batch batch;
    conntrack.ForEach(family->family(), IPPROTO_UDP, [&](const netlink::ConntrackFlow& flow) {
      const auto slot = forwarder::SlotOf(flow.reply.source);
      if (slot && stale(family->family(), *slot)) netlink::Conntrack::Delete(batch, flow);
    });
    if (batch.empty()) continue;
    const size_t found = batch.size();
    size_t failed = 0;
    for (const netlink::Failure& failure : conntrack.Execute(batch)) {
      ++failed;
      if (failure.error == ENOENT) continue;  // it ended by itself
      result.problems.push_back({"conntrack entries of UDP clients",
                                 "delete: " + std::generic_category().message(failure.error)});
    }
    result.kernel_writes += found - failed;
  }
}

VerifyResult UserspaceDataplane::Verify(const ServiceModel& model) {
  VerifyResult result;
  if (!link_.Adopt()) {
    result.Differ("the forwarder", "does not run");
    return result;
  }
  // What the forwarder has, by its own account.
  std::map<std::pair<std::string, uint8_t>, forwarder::Slot> there;
  const std::vector<forwarder::Slot> dumped = link_.Dump();
  for (const forwarder::Slot& slot : dumped)
    there.emplace(std::pair(slot.service, slot.kind), slot);
  if (numbers_.empty()) numbers_.Adopt(dumped, link_.last_slot());
  const uint16_t port_v4 = link_.port(net::Family::kIPv4);
  const uint16_t port_v6 = link_.port(net::Family::kIPv6);
  SlotMap numbers = numbers_;
  const auto without_slots = WithoutSlots(model);
  ServiceRefusals refusals;
  ServiceModel steered;
  steered.node = model.node;
  for (const auto& [id, entry] : model.entries) {
    if (!Serves(id.family)) continue;
    const Steered wanted = Steer(*entry, id.family == net::Family::kIPv4 ? port_v4 : port_v6,
                                 without_slots.contains({id.ns, id.name}), numbers, refusals);
    for (const forwarder::Slot& slot : wanted.slots) {
      ++result.objects_checked;
      const auto found = there.find({slot.service, slot.kind});
      if (found == there.end()) {
        result.Differ(fmt::format("the forwarder's slot of {}", slot.service), "is missing");
        continue;
      }
      if (found->second != slot) {
        result.Differ(fmt::format("the forwarder's slot of {}", slot.service),
                      "has other backends than its Service");
      }
      there.erase(found);
    }
    steered.entries.emplace(id, wanted.entry);
  }
  for (const auto& [key, slot] : there) {
    result.Differ(fmt::format("the forwarder's slot of {}", key.first), "belongs to no Service");
  }
  netlink::Socket socket(NETLINK_ROUTE);
  const int loopback = LoopbackIndex();
  for (const auto& family : families_) {
    AddPartOf(family->family(), kRules, result, [&] {
      VerifyResult part;
      const net::IpPrefix prefix = forwarder::SlotPrefix(family->family());
      const auto routes = netlink::LocalPrefixes(socket, family->family(), loopback);
      ++part.objects_checked;
      if (std::find(routes.begin(), routes.end(), prefix) == routes.end())
        part.Differ(fmt::format("route local {}", prefix.ToString()), "is missing");
      family->SetExtraText(
          kInput,
          InputText(family->family(), family->family() == net::Family::kIPv4 ? port_v4 : port_v6));
      family->SetExtraText(kGuard, GuardText(family->family()));
      part.Add(family->Verify(steered));
      return part;
    });
  }
  return result;
}

DrainStatus UserspaceDataplane::Drain(const ServiceModel& model) {
  for (const auto& family : families_)
    family->Drain(synced_ ? steered_ : model);
  drained_ = true;
  const forwarder::Stats left = link_.Drain(std::max(DrainTimeout(settings_), kLongestSilence));
  if (left.udp_flows > 0 && link_.Adopt()) RefreshSlots(model);
  return {.connections = left.tcp_connections + left.udp_flows,
          .end_with_it = left.tcp_connections};
}

// Datagrams of its clients come for as long as conntrack knows them, and must not go to a backend
// that is gone meanwhile.
void UserspaceDataplane::RefreshSlots(const ServiceModel& model) {
  if (slots_.empty()) {
    const std::vector<forwarder::Slot> there = link_.Dump();
    for (const forwarder::Slot& slot : there)
      slots_.emplace(slot.number, slot);
    numbers_.Adopt(there, link_.last_slot());
  }
  SlotMap numbers = numbers_;
  ServiceRefusals told_already;
  std::vector<forwarder::Slot> set;
  for (const auto& [id, entry] : model.entries) {
    if (id.protocol != Protocol::kUdp || !Serves(id.family)) continue;
    // The rules' port is not in the slots.
    for (forwarder::Slot& slot :
         Steer(*entry, /*port=*/1, /*without_slots=*/false, numbers, told_already).slots) {
      const auto known = slots_.find(slot.number);
      if (known == slots_.end() || known->second == slot) continue;
      known->second = slot;
      set.push_back(std::move(slot));
    }
  }
  if (!set.empty()) link_.Change(std::move(set), {}, numbers_.last());
}

std::vector<ClientBinding> UserspaceDataplane::Bindings(const ServiceModel& model) {
  static_assert(forwarder::BackendTable::kMaxAffineClients <= kMostBindings);
  std::unordered_map<std::string, EntryPtr> affine;  // by the forwarder's name for it
  for (const auto& [id, entry] : model.entries) {
    if (entry->affinity_timeout.count() > 0) affine.emplace(id.ToString(), entry);
  }
  std::vector<ClientBinding> bindings;
  for (const forwarder::ServiceBindings& of : link_.Bindings()) {
    const auto found = affine.find(of.service);
    if (found == affine.end()) continue;
    const EntryPtr& entry = found->second;
    for (const forwarder::Binding& binding : of.bindings) {
      if (binding.client.family() != entry->id.family ||
          !MayGoTo(*entry, binding.backend.ip, binding.backend.port)) {
        continue;
      }
      // A time-out that became shorter may not have got to the forwarder yet.
      const auto left =
          std::min(std::chrono::seconds(binding.seconds_left), entry->affinity_timeout);
      bindings.push_back({entry, binding.client, binding.backend.ip, binding.backend.port, left});
    }
  }
  return bindings;
}

SyncResult UserspaceDataplane::Bind(const ServiceModel& model,
                                    const std::vector<ClientBinding>& bindings) {
  std::unordered_map<ServicePortId, forwarder::ServiceBindings, ServicePortIdHash> by_service;
  size_t afresh = 0;
  for (const ClientBinding& binding : bindings) {
    const ServicePortId& id = binding.entry->id;
    // Refused here, which is told elsewhere: there is nothing to bind its clients to.
    if (id.protocol == Protocol::kSctp || !Serves(id.family)) continue;
    const auto entry = model.entries.find(id);
    if (entry == model.entries.end() ||
        !MayGoTo(*entry->second, binding.backend_ip, binding.backend_port) ||
        binding.left.count() < 1) {
      ++afresh;
      continue;
    }
    forwarder::ServiceBindings& of = by_service[id];
    if (of.service.empty()) of.service = id.ToString();
    // The forwarder knows the time-out, and takes no longer time.
    const auto left = std::min<int64_t>(binding.left.count(), UINT32_MAX);
    of.bindings.push_back(
        {binding.client, {binding.backend_ip, binding.backend_port}, static_cast<uint32_t>(left)});
  }
  std::vector<forwarder::ServiceBindings> given;
  given.reserve(by_service.size());
  for (auto& [id, of] : by_service)
    given.push_back(std::move(of));
  SyncResult result;
  try {
    if (!given.empty()) afresh += link_.Bind(given);
  } catch (const std::runtime_error& error) {
    result.problems.push_back({"the forwarder's clients with affinity", error.what()});
  }
  if (afresh > 0) {
    result.problems.push_back(
        {"the forwarder's clients with affinity",
         fmt::format("{} of {} will be rebalanced: their Service no longer has that endpoint",
                     afresh, bindings.size())});
  }
  return result;
}

SyncResult UserspaceDataplane::Remove() {
  SyncResult result;
  synced_ = false;
  drained_ = false;
  for (const auto& family : families_)
    AddPartOf(family->family(), kRules, result, [&] { return family->Remove(); });
  // Before the forwarder goes: the clients' next datagrams are the next mode's.
  ForgetDatagrams([](net::Family, uint32_t) { return true; }, result);
  try {
    result.kernel_writes += link_.ExitAll();
  } catch (const std::runtime_error& error) {
    result.problems.push_back({"the forwarder", error.what()});
  }
  netlink::Socket socket(NETLINK_ROUTE);
  const int loopback = LoopbackIndex();
  for (const auto& family : families_) {
    const net::IpPrefix prefix = forwarder::SlotPrefix(family->family());
    const auto routes = netlink::LocalPrefixes(socket, family->family(), loopback);
    if (std::find(routes.begin(), routes.end(), prefix) == routes.end()) continue;
    netlink::Batch batch;
    netlink::DeleteLocalRoute(batch, prefix, loopback);
    for (const netlink::Failure& failure : socket.Execute(batch)) {
      result.problems.push_back({fmt::format("route local {}", prefix.ToString()),
                                 std::generic_category().message(failure.error)});
    }
    ++result.kernel_writes;
  }
  slots_.clear();
  slots_of_.clear();
  steered_ = {};
  numbers_.Adopt({}, 0);
  return result;
}

bool UserspaceDataplane::Present() {
  if (link_.AnyPresent()) return true;
  return std::any_of(families_.begin(), families_.end(),
                     [](const auto& family) { return family->Present(); });
}

}  // namespace pointsman::agent

#include "node-agent/nftables/table_change.h"

#include <cerrno>
#include <linux/membarrier.h>
#include <string>
#include <sys/syscall.h>
#include <system_error>

#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

namespace pointsman::agent::nft {
namespace {

std::string CommentOf(const Element& element) {
  if (element.entry == nullptr || !IsEntrance(element.set)) return {};
  const ServicePortId& id = element.entry->id;
  return fmt::format("{}/{}{}{}", id.ns, id.name, id.port_name.empty() ? "" : ":", id.port_name);
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

}  // namespace

TableChange::TableChange(net::Family family)
    : family_(family),
      structure_(family, kTable),
      first_(family, kTable),
      second_(family, kTable) {}

void TableChange::WriteWhole(const DesiredTable& desired, bool replaces) {
  // All at once: nothing of the old table is left to lead anywhere.
  if (replaces) first_.DeleteTable();
  first_.AddTable();
  for (const SetDefinition& set : SetsOf(family_))
    first_.AddSet(set);
  WriteChains(desired.chains, first_);
  for (const auto& [traffic_class, uses] : desired.classes)
    AddClass(traffic_class, first_);
  for (const Element& element : desired.elements)
    AddElement(element, first_);
}

void TableChange::WriteChains(std::span<const Chain> chains, Transaction& transaction) const {
  for (const Chain& chain : chains)
    transaction.AddChain(chain);
  for (const Chain& chain : chains) {
    for (const Rule& rule : chain.rules)
      transaction.AppendRule(chain.name, rule);
  }
}

void TableChange::AddElement(const Element& element, Transaction& transaction) const {
  const SetDefinition& set = Set(element.set);
  transaction.AddElement(set, element.Raw(set), CommentOf(element));
}

void TableChange::AddClass(const TrafficClass& traffic_class, Transaction& transaction) const {
  transaction.AddGoto(Set(ClassMap(traffic_class)), View(ClassKey(traffic_class)),
                      ClassChainName(traffic_class));
}

void TableChange::AddChains(std::span<const Chain> chains) {
  WriteChains(chains, structure_);
}

void TableChange::AppendRules(const Chain& chain) {
  for (const Rule& rule : chain.rules)
    structure_.AppendRule(chain.name, rule);
}

void TableChange::AddElement(const Element& element) {
  AddElement(element, first_);
}

void TableChange::DeleteElement(const Element& element, bool replaced) {
  const SetDefinition& set = Set(element.set);
  (replaced || IsEntrance(element.set) ? first_ : second_).DeleteElement(set, element.Raw(set));
}

void TableChange::AddClass(const TrafficClass& traffic_class) {
  AddClass(traffic_class, first_);
}

void TableChange::ReplaceClass(const TrafficClass& traffic_class) {
  first_.DeleteElement(Set(ClassMap(traffic_class)), {View(ClassKey(traffic_class)), {}});
  AddClass(traffic_class);
}

void TableChange::DeleteClass(SetId map, std::string_view key) {
  second_.DeleteElement(Set(map), {key, {}});
}

void TableChange::ReplaceElements(std::span<const Element> before, std::span<const Element> after) {
  std::vector<const Element*> add;
  auto old = before.begin();
  for (const Element& element : after) {
    for (; old != before.end() && *old < element; ++old)
      DeleteElement(*old, MakesRoom(*old, after));
    const bool same_key = old != before.end() && SameKey(*old, element);
    if (!same_key || !(*old == element)) {
      if (same_key) DeleteElement(*old, true);
      add.push_back(&element);
    }
    if (same_key) ++old;
  }
  for (; old != before.end(); ++old)
    DeleteElement(*old, MakesRoom(*old, after));
  for (const Element* element : add)
    AddElement(*element);
}

bool TableChange::Commit(Connection& connection, SyncResult& result) {
  for (Transaction* transaction : {&structure_, &first_, &second_}) {
    if (transaction->empty()) continue;
    if (transaction == &second_) WaitForPacketsUnderWay();
    const uint64_t objects = transaction->objects();
    const std::vector<Refusal> refusals = connection.Commit(*transaction);
    for (const Refusal& refusal : refusals) {
      if (result.problems.size() >= VerifyResult::kMaxDifferences) break;
      result.problems.push_back(
          {fmt::format("nftables {} {}", net::ToString(family_), refusal.object), refusal.message});
    }
    if (!refusals.empty()) return false;
    result.kernel_writes += objects;
  }
  return true;
}

}  // namespace pointsman::agent::nft

#include "node-agent/nftables/nftables_family.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "node-agent/nftables/affinity_store.h"
#include "node-agent/nftables/table_diff.h"

namespace pointsman::agent::nft {
namespace {

constexpr size_t kMaxIdleClasses = 64;
// Something else may have changed our table between our look at it and our write.
constexpr int kTries = 3;

bool HasRouteLocalnetMark(const KernelTable& kernel) {
  return std::any_of(kernel.chains.begin(), kernel.chains.end(), [](const auto& chain) {
    const std::vector<KernelRule>& rules = chain.second.rules;
    return std::any_of(rules.begin(), rules.end(),
                       [](const KernelRule& rule) { return RouteLocalnet::IsMark(rule.comment); });
  });
}

}  // namespace

NftablesFamily::NftablesFamily(const kube::ProxySettings& settings, net::Family family,
                               const std::vector<xtables::IptablesTool*>& tools)
    : layout_(settings, family),
      forward_{xtables::ForwardAccept(family, xtables::XtablesVariant::kLegacy,
                                      settings.nftables.masquerade_bit, tools),
               xtables::ForwardAccept(family, xtables::XtablesVariant::kNft,
                                      settings.nftables.masquerade_bit, tools)},
      drain_(family) {}

Connection& NftablesFamily::Kernel() {
  if (!connection_) connection_ = std::make_unique<Connection>();
  return *connection_;
}

std::vector<std::string> NftablesFamily::Sysctls() const {
  std::vector<std::string> names{family() == net::Family::kIPv4 ? "net.ipv4.ip_forward"
                                                                : "net.ipv6.conf.all.forwarding"};
  if (localnet_.wanted()) names.emplace_back(RouteLocalnet::kName);
  return names;
}

SyncResult NftablesFamily::Forward(const std::function<SyncResult(xtables::ForwardAccept&)>& call) {
  SyncResult result;
  for (xtables::ForwardAccept& forward : forward_) {
    try {
      result.Add(call(forward));
    } catch (const std::runtime_error& error) {
      // Services are served all the same, and those that nothing drops reach their backends.
      const bool legacy = forward.variant() == xtables::XtablesVariant::kLegacy;
      result.problems.push_back({fmt::format("{} chain FORWARD of table filter of iptables-{}",
                                             net::ToString(family()), legacy ? "legacy" : "nft"),
                                 error.what()});
    }
  }
  return result;
}

SyncResult NftablesFamily::FullSync(const ServiceModel& model) {
  const bool counts_repairs = synced_ && !drain_.active();
  // First what accepts: as soon as the table is there new connections come.
  SyncResult result = Forward([](xtables::ForwardAccept& forward) { return forward.Ensure(); });
  if (!counts_repairs) result.repaired = 0;
  result.Add(WriteTable(model));
  return result;
}

SyncResult NftablesFamily::WriteTable(const ServiceModel& model) {
  const bool had_synced = std::exchange(synced_, false);
  localnet_.Want(family(), model.node);
  for (int attempt = 1;; ++attempt) {
    SyncResult result;
    const KernelTable kernel = ReadTable(Kernel(), family(), kTable);
    localnet_.Learn(HasRouteLocalnetMark(kernel));
    localnet_.PrepareGuard(result);
    DesiredTable desired = MakeDesiredTable(model, layout_, localnet_.guard_comment());
    TableDiff diff = CompareTable(desired, kernel, family(), Kernel());
    if (!diff.change.Commit(Kernel(), result)) {
      if (attempt < kTries) continue;
      return result;
    }
    // In a process that has just started, what differs may be the cluster's change and not damage.
    if (had_synced && !drain_.active()) result.repaired = diff.found.difference_count;
    synced_ = true;
    classes_ = std::move(desired.classes);
    idle_classes_.clear();
    shared_ = std::move(desired.shared);
    localnet_.SwitchOn(result);
    drain_.End();
    return result;
  }
}

void NftablesFamily::ChangeClasses(const ClassUses& uses, TableChange& change) {
  auto [added, unused] = classes_.Apply(uses);
  std::erase_if(added, [this](const auto& each) { return idle_classes_.erase(each) > 0; });
  idle_classes_.insert(unused.begin(), unused.end());
  std::vector<Chain> chains;
  chains.reserve(added.size());
  for (const TrafficClass& traffic_class : added)
    chains.push_back(ClassChain(layout_, traffic_class));
  change.AddChains(chains);
  for (const TrafficClass& traffic_class : added)
    change.AddClass(traffic_class);
  if (idle_classes_.size() <= kMaxIdleClasses) return;
  for (const TrafficClass& traffic_class : idle_classes_)
    change.DeleteClass(ClassMap(traffic_class), View(ClassKey(traffic_class)));
  for (const TrafficClass& traffic_class : idle_classes_)
    change.DeleteChain(ClassChainName(traffic_class));
  idle_classes_.clear();
}

TableChange NftablesFamily::ChangeOf(const ModelDelta& delta) {
  std::vector<Element> before;
  std::vector<Element> after;
  SharedUses shared_changes;
  for (const EntryChange& change : delta.changes) {
    const EntryPtr& any = change.before ? change.before : change.after;
    if (!any || any->id.family != family()) continue;
    if (change.before) {
      AppendElements(*change.before, before);
      CountShared(*change.before, layout_, -1, shared_changes);
    }
    if (change.after) {
      AppendElements(*change.after, after);
      CountShared(*change.after, layout_, 1, shared_changes);
    }
  }
  std::sort(before.begin(), before.end());
  std::sort(after.begin(), after.end());

  TableChange change(family());
  ClassUses class_changes;
  CountClasses(before, -1, class_changes);
  CountClasses(after, 1, class_changes);
  ChangeClasses(class_changes, change);
  change.ReplaceElements(before, after);
  const auto [new_shared, unused_shared] = shared_.Apply(shared_changes);
  for (const SharedElement& shared : new_shared)
    change.AddElement(ToElement(shared));
  for (const SharedElement& shared : unused_shared)
    change.DeleteElement(ToElement(shared), /*replaced=*/false);
  return change;
}

SyncResult NftablesFamily::Sync(const ServiceModel& model, const ModelDelta& delta) {
  if (!synced_ || delta.node_changed) return FullSync(model).WithoutRepairs();
  synced_ = false;  // until all of it is in the kernel
  SyncResult result;
  TableChange change = ChangeOf(delta);
  if (change.Commit(Kernel(), result)) {
    synced_ = true;
    return result;
  }
  // Not what we left there: something else has been at it. Read it and repair.
  spdlog::warn("{}: {}; the table is read again", result.problems[0].object,
               result.problems[0].message);
  SyncResult full = FullSync(model);
  full.kernel_writes += result.kernel_writes;
  full.repaired = std::max<uint64_t>(full.repaired, 1);
  return full;
}

VerifyResult NftablesFamily::Verify(const ServiceModel& model) {
  const KernelTable kernel = ReadTable(Kernel(), family(), kTable);
  localnet_.Want(family(), model.node);
  localnet_.Learn(HasRouteLocalnetMark(kernel));
  const DesiredTable desired = MakeDesiredTable(model, layout_, localnet_.guard_comment());
  VerifyResult found = CompareTable(desired, kernel, family(), Kernel()).found;
  for (xtables::ForwardAccept& forward : forward_)
    found.Add(forward.Verify());
  return found;
}

DrainStatus NftablesFamily::Drain(const ServiceModel& model) {
  return {.connections = drain_.active() ? drain_.Left() : drain_.Begin(model, Kernel())};
}

std::vector<ClientBinding> NftablesFamily::Bindings(const ServiceModel& model, size_t most) {
  return ReadAffinity(family(), model, most);
}

SyncResult NftablesFamily::Bind(const ServiceModel& model,
                                const std::vector<ClientBinding>& bindings) {
  return WriteAffinity(family(), model, bindings, Kernel());
}

SyncResult NftablesFamily::Remove() {
  synced_ = false;
  drain_.End();
  classes_.clear();
  idle_classes_.clear();
  shared_.clear();
  SyncResult result;
  if (!TableIsThere())
    return Forward([](xtables::ForwardAccept& forward) { return forward.Remove(); });
  const KernelTable kernel = ReadTable(Kernel(), family(), kTable);
  localnet_.Learn(HasRouteLocalnetMark(kernel));
  localnet_.Restore(result);  // before the guard goes
  TableChange change(family());
  change.DeleteTable();
  if (change.Commit(Kernel(), result))
    result.kernel_writes += kernel.chains.size() + kernel.sets.size();
  // Last: until the table is gone connections come.
  result.Add(Forward([](xtables::ForwardAccept& forward) { return forward.Remove(); }));
  return result;
}

bool NftablesFamily::Present() {
  return TableIsThere() ||
         std::any_of(forward_.begin(), forward_.end(),
                     [](const xtables::ForwardAccept& forward) { return forward.Present(); });
}

bool NftablesFamily::TableIsThere() const {
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

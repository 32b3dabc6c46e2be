#include "node-agent/ipvs/ipvs_dataplane.h"

#include <algorithm>
#include <optional>
#include <system_error>
#include <unordered_set>
#include <utility>

#include "node-agent/ipvs/affinity.h"
#include "node-agent/ipvs/diff.h"
#include "node-agent/ipvs/diff_report.h"
#include "node-agent/ipvs/diff_writer.h"
#include "node-agent/ipvs/template_sync.h"
#include "node-agent/model/dns_cache.h"

namespace pointsman::agent {

using ipvs::DesiredState;
using ipvs::DiffWriter;
using ipvs::Frontend;
using ipvs::FrontendKey;
using ipvs::FrontendTable;
using ipvs::KernelState;
using ipvs::ServerState;
using ipvs::SetEntry;
using ipvs::Writer;

IpvsDataplane::IpvsDataplane(const kube::ProxySettings& settings, EnsureScheduler ensure_scheduler,
                             const std::vector<xtables::IptablesTool*>& tools,
                             const ipvs::Room& room, const std::string& modules_root)
    : settings_(settings),
      room_(room),
      route_(NETLINK_ROUTE),
      reader_(ipvs_, ipset_, route_),
      base_(settings_, tools, room_, modules_root, kDevice, ipvs_, ipset_, route_),
      schedulers_(settings.ipvs.scheduler, std::move(ensure_scheduler)),
      termination_(settings.drain_timeout),
      drain_(reader_) {
  // An old kernel ignores the filter of a route dump; what it then answers too many is skipped.
  static_cast<void>(route_.EnableStrictCheck());
}

Writer IpvsDataplane::MakeWriter(SyncResult& result) {
  return {ipvs_, ipset_, route_, base_.device_index(), result};
}

void IpvsDataplane::ReadHost() {
  base_.FindDevice();
  host_ = ipvs::ReadHostAddresses(route_, base_.device_index());
}

DesiredState IpvsDataplane::MakeDesired(const ServiceModel& model) const {
  const auto serves = [this](net::Family family) { return base_.Serves(family); };
  return ipvs::MakeDesiredState(model, {.host = host_, .room = room_, .serves = serves});
}

std::vector<ServiceWarning> IpvsDataplane::Warnings(const FrontendTable& frontends) const {
  std::vector<ServiceWarning> warnings;
  schedulers_.AppendWarnings(warnings);
  frontends.AppendWarnings(warnings);
  std::sort(warnings.begin(), warnings.end());
  // One Service with several ports says it once.
  warnings.erase(std::unique(warnings.begin(), warnings.end()), warnings.end());
  return warnings;
}

SyncResult IpvsDataplane::FullSync(const ServiceModel& model) {
  SyncResult result;
  const bool was_synced = synced_;
  if (!was_synced && ipvs::StopOwnDaemon(ipvs_)) ++result.kernel_writes;
  ReadHost();
  schedulers_.clear();
  for (const auto& [id, entry] : model.entries)
    schedulers_.Check(*entry);
  base_.Ensure(model.node, was_synced, result);
  synced_ = false;  // until this has gone through
  drained_ = false;
  const std::vector<net::Family> families = base_.served();
  if (families.empty()) return result;

  const KernelState kernel = reader_.Read(families, base_.device_index());
  DesiredState desired = MakeDesired(model);
  for (const auto& [id, entry] : model.entries) {
    const auto found = desired.crowded.find({id.ns, id.name});
    if (found != desired.crowded.end() && Serves(*entry)) result.refusals.Add(id, found->second);
  }
  result.warnings = Warnings(desired.frontends);
  for (const auto& [key, frontend] : ipvs::LeaveToOthers(desired, kernel, settings_)) {
    if (ipvs::IsNear(frontend.source)) continue;
    const FrontendKey theirs{frontend.address, key.port, key.protocol};
    result.refusals.Add(frontend.entry->id,
                        "virtual server " + theirs.ToString() +
                            " exists, is not ours and lies in ipvs.excludeCIDRs: left alone");
  }

  Writer writer = MakeWriter(result);
  DiffWriter diff_writer(writer, termination_, true);
  if (was_synced) diff_writer.CountRepairs(frontends_);
  ipvs::Diff(desired, kernel, schedulers_, host_, diff_writer);
  writer.Flush();
  result.repaired += diff_writer.repaired();

  frontends_ = std::move(desired.frontends);
  shared_ = std::move(desired.shared);
  needs_ = desired.needs;
  crowded_ = std::move(desired.crowded);
  termination_.Keep(frontends_);
  EndIdle(writer);
  synced_ = true;
  return result;
}

SyncResult IpvsDataplane::Sync(const ServiceModel& model, const ModelDelta& delta) {
  const auto serves = [this](const ServicePortEntry& entry) { return Serves(entry); };
  if (delta.node_changed) return FullSync(model).WithoutRepairs();
  if (!synced_ || frontends_.ChangesShared(delta, serves) || ConcernsDnsCache(model.node, delta) ||
      !HasRoomFor(delta))
    return FullSync(model);
  SyncResult result;
  synced_ = false;  // until this has gone through
  CheckSchedulers(delta);
  const std::optional<FrontendTable::Touched> touched = frontends_.Change(delta, serves);
  if (!touched || MayBeOthers(*touched)) return FullSync(model);
  result.warnings = Warnings(frontends_);
  Writer writer = MakeWriter(result);
  DiffWriter diff_writer(writer, termination_, false);
  WriteChange(diff_writer, *touched);
  writer.Flush();
  EndIdle(writer);
  synced_ = true;
  // They are as long as no full sync has mended them.
  result.problems.insert(result.problems.end(), base_.unserved().begin(), base_.unserved().end());
  return result;
}

bool IpvsDataplane::HasRoomFor(const ModelDelta& delta) {
  for (const EntryChange& change : delta.changes) {
    const EntryPtr& any = change.after != nullptr ? change.after : change.before;
    if (!Serves(*any)) continue;
    if (!crowded_.empty() && crowded_.contains({any->id.ns, any->id.name})) return false;
    if (change.before != nullptr) needs_ -= ipvs::NeedsOf(*change.before);
    if (change.after != nullptr) needs_ += ipvs::NeedsOf(*change.after);
  }
  // While some do without, what others give back is shared out by the next full sync.
  return room_.Has(needs_);
}

void IpvsDataplane::CheckSchedulers(const ModelDelta& delta) {
  for (const EntryChange& change : delta.changes) {
    if (change.before != nullptr) schedulers_.Forget(change.before->id);
    if (change.after != nullptr && Serves(*change.after)) schedulers_.Check(*change.after);
  }
}

bool IpvsDataplane::MayBeOthers(const FrontendTable::Touched& touched) const {
  if (settings_.ipvs.exclude_cidrs.empty()) return false;
  return std::any_of(touched.begin(), touched.end(), [this](const auto& item) {
    const auto& [key, before] = item;
    const Frontend* now = frontends_.Find(key);
    return (!before || before->terminating) && now != nullptr &&
           ipvs::IsExcluded(settings_, now->address);
  });
}

void IpvsDataplane::WriteChange(ipvs::DiffVisitor& writer, const FrontendTable::Touched& touched) {
  ipvs::SharedElements shared;
  for (const auto& [key, before] : touched) {
    const Frontend* after = frontends_.Find(key);
    // What the kernel holds of it, from memory: a virtual server is there while it has
    // destinations.
    std::optional<ServerState> present;
    std::vector<SetEntry> elements;
    if (before) {
      ipvs::CountShared(key, *before, -1, shared);
      elements = ipvs::OwnElements(key, *before);
      ServerState state = ipvs::MakeServerState(key, *before, schedulers_);
      termination_.AppendTo(state.destinations, key);
      ipvs::SortDestinations(state.destinations);
      if (!state.destinations.empty()) present = std::move(state);
    }
    const bool stays =
        writer.Server(ipvs::DiffServer(key, after, present ? &*present : nullptr, schedulers_));
    if (after == nullptr && stays) after = &frontends_.AddTerminating(key, *before);
    std::vector<SetEntry> wanted;
    if (after != nullptr) {
      ipvs::CountShared(key, *after, 1, shared);
      wanted = ipvs::OwnElements(key, *after);
    }
    ipvs::DiffElements(elements, wanted, after != nullptr ? after->entry.get() : nullptr, writer);
  }
  ipvs::DiffShared(shared_.Apply(shared), writer);
}

void IpvsDataplane::EndIdle(Writer& writer) {
  DiffWriter diff_writer(writer, termination_, false);
  ipvs::SharedElements shared;
  for (const FrontendKey& key : termination_.DeleteIdle(writer, ipvs_, frontends_)) {
    const Frontend& frontend = *frontends_.Find(key);
    if (!frontend.terminating) continue;
    ipvs::CountShared(key, frontend, -1, shared);
    ipvs::DiffElements(ipvs::OwnElements(key, frontend), {}, nullptr, diff_writer);
    frontends_.Erase(key);
  }
  ipvs::DiffShared(shared_.Apply(shared), diff_writer);
  writer.Flush();
  full_sync_due_ = termination_.NextLook();
}

VerifyResult IpvsDataplane::Verify(const ServiceModel& model) {
  VerifyResult result = base_.Verify(model.node);
  ReadHost();
  const KernelState kernel = reader_.Read(base_.served(), base_.device_index());
  DesiredState desired = MakeDesired(model);
  ipvs::LeaveToOthers(desired, kernel, settings_);
  ipvs::DiffReport report(result);
  result.objects_checked += ipvs::Diff(desired, kernel, schedulers_, host_, report);
  return result;
}

DrainStatus IpvsDataplane::Drain(const ServiceModel&) {
  // The rules of the other dataplane see a new connection before IPVS does (PREROUTING and OUTPUT
  // come before LOCAL_IN) once ours do not keep it for IPVS any more. All else must stay for the
  // old connections.
  if (!drained_) {
    synced_ = false;
    base_.FindDevice();
    ipvs::KeepVipsFromBeingSources(route_, base_.device_index());
    base_.StopTaking();
    drained_ = true;
  }
  return drain_.Count();
}

std::vector<ClientBinding> IpvsDataplane::Bindings(const ServiceModel& model) {
  // Not of `frontends_`: a restarted agent may be asked before its first sync.
  ReadHost();
  // A family that broke after it was served still has its clients.
  const auto serves = [this](net::Family family) { return base_.IsConfigured(family); };
  const DesiredState desired =
      ipvs::MakeDesiredState(model, {.host = host_, .room = room_, .serves = serves});
  return ipvs::ReadAffinity(desired.frontends, ipvs::UsualSource(route_, base_.device_index()));
}

SyncResult IpvsDataplane::Bind(const ServiceModel&, const std::vector<ClientBinding>& bindings) {
  return ipvs::RestoreAffinity(ipvs_, frontends_, host_, bindings);
}

SyncResult IpvsDataplane::Remove() {
  SyncResult result;
  synced_ = false;
  try {
    if (ipvs::StopOwnDaemon(ipvs_)) ++result.kernel_writes;
  } catch (const std::system_error& e) {
    result.problems.push_back({"ipvs", e.what()});
  }
  if (!base_.RemoveEntrances(result)) return result;
  RemoveServers(result);
  if (!result.ok()) return result;
  base_.RemoveRulesAndSets(result);
  frontends_ = FrontendTable();
  shared_.clear();
  termination_.clear();
  drain_.clear();
  return result;
}

void IpvsDataplane::RemoveServers(SyncResult& result) {
  const std::vector<FrontendKey> owned = reader_.Owned();
  if (owned.empty()) return;
  std::unordered_set<FrontendKey, ipvs::FrontendKeyHash> present;
  for (const netlink::IpvsServer& server : ipvs_.Servers()) {
    if (server.fwmark == 0) present.insert(ipvs::KeyOf(server));
  }
  Writer writer = MakeWriter(result);
  for (const FrontendKey& key : owned) {
    if (!present.contains(key)) continue;
    writer.DeleteServer(ipvs::ToServer(key), nullptr);
    if (writer.IsFull()) writer.Flush();
  }
  writer.Flush();
}

}  // namespace pointsman::agent

#include "operator/runtime/plan_writer.h"

#include <algorithm>
#include <stdexcept>
#include <utility>
#include <vector>

#include <spdlog/spdlog.h>

#include "kube/objects/node.h"
#include "kube/pointsman/node_proxy.h"
#include "kube/text/json_text.h"
#include "operator/plan/kube_proxy_daemon_set.h"
#include "operator/plan/revision_objects.h"

namespace pointsman::op {
namespace {

using kube::Json;
using kube::NodeProxy;
using kube::ProxyConfiguration;

constexpr size_t kMaxNodeProxiesAPlan = 200;

// A merge patch that leaves of the old status nothing but what the new one says.
Json StatusPatch(const kube::ProxyConfigurationStatus& before,
                 const kube::ProxyConfigurationStatus& after) {
  Json patch = ToJson(after);
  for (const auto& [mode, count] : before.modes) {
    if (!after.modes.contains(mode)) patch["modes"][mode] = nullptr;
  }
  return patch;
}

// What a change writes of the NodeProxy.
Json ObjectOf(const NodeProxyChange& change) {
  Json metadata = {{"annotations", Json::object()}};
  if (!change.updated_at.empty())
    metadata["annotations"][kube::kUpdatedAtAnnotation] = change.updated_at;
  if (!change.asked_at.empty()) metadata["annotations"][kube::kAskedAtAnnotation] = change.asked_at;
  return {{"metadata", std::move(metadata)}, {"spec", ToJson(change.spec)}};
}

const kube::Resource& ResourceOf(const KubeProxyObjectChange& change) {
  switch (change.of) {
    case KubeProxyObjectChange::Of::kConfigMap:
      return kube::resources::kConfigMaps;
    case KubeProxyObjectChange::Of::kDaemonSet:
      return kube::resources::kDaemonSets;
    case KubeProxyObjectChange::Of::kPod:
      return kube::resources::kPods;
  }
  throw std::logic_error("a kind of object that there is not");
}

}  // namespace

kube::ObjectReference ReferenceTo(const ProxyConfiguration& configuration) {
  return {kube::resources::kProxyConfigurations.ApiVersion(), "ProxyConfiguration", "",
          configuration.name, configuration.uid};
}

PlanWriter::Result PlanWriter::Write(const Plan& plan) {
  Result result;
  node_proxies_ = 0;
  for (const KubeProxyObjectChange& change : plan.kube_proxy_objects) {
    const bool done = Try(ResourceOf(change).kind + " " + change.name, [&] { Change(change); });
    result.failed |= !done;
  }
  if (plan.daemon_set) {
    result.failed |= !Try("DaemonSet " + plan.daemon_set->name, [&] { Change(*plan.daemon_set); });
  }
  for (const NodeLabelChange& change : plan.labels)
    result.failed |= !Try("Node " + change.name, [&] { Change(change); });
  for (const ConfigurationPlan& part : plan.configurations) {
    result.failed |=
        !Try("ProxyConfiguration " + part.configuration->name, [&] { Write(part, result); });
  }
  for (const NodeProxyChange& change : plan.orphans) {
    if (!MayWriteMore(result)) break;
    result.failed |= !Try("NodeProxy " + change.name, [&] { Change(change); });
  }
  return result;
}

// True: done, or no longer ours to do.
bool PlanWriter::Try(const std::string& what, const std::function<void()>& action) const {
  if (!tenure_.MayWrite()) return true;
  try {
    action();
    return true;
  } catch (const kube::ApiError& error) {
    // Somebody else wrote first, mostly an agent its status: the next pass sees it.
    if (error.IsConflict() || error.IsAlreadyExists() || error.IsNotFound()) {
      spdlog::debug("{}: {}", what, error.what());
    } else {
      spdlog::warn("{}: {} ({})", what, error.what(), error.code());
    }
  } catch (const kube::TransportError& error) {
    if (!tenure_.MayWrite()) return true;
    spdlog::warn("{}: {}", what, error.what());
  } catch (const std::exception& error) {
    spdlog::error("{}: {}", what, error.what());
  }
  return false;
}

// Whether another NodeProxy may be written for this plan, which counts it.
bool PlanWriter::MayWriteMore(Result& result) {
  result.more = ++node_proxies_ >= kMaxNodeProxiesAPlan;
  return node_proxies_ <= kMaxNodeProxiesAPlan && tenure_.MayWrite();
}

// The order is such that being killed after any write loses nothing.
void PlanWriter::Write(const ConfigurationPlan& part, Result& result) {
  const ProxyConfiguration& configuration = *part.configuration;
  const kube::ObjectReference about = ReferenceTo(configuration);
  std::string version = configuration.resource_version;
  if (part.add_finalizer) {
    std::vector<std::string> finalizers = configuration.finalizers;
    finalizers.emplace_back(kube::kFinalizer);
    version = PatchConfiguration(configuration, version, {{"finalizers", finalizers}}, nullptr);
  }
  if (part.create_revision) {
    caches_.Wrote(StoredRevisionFromJson(
        client_.Create(kControllerRevisions, ns_, ToJson(*part.create_revision, ns_))));
    result.revision_created = true;
  }
  bool failed = false;
  for (const NodeProxyChange& change : part.changes) {
    if (!MayWriteMore(result)) break;
    const bool done = Try("NodeProxy " + change.name, [&] { Change(change); });
    failed |= !done;
    if (done && change.event) Emit(about, *change.event);
  }
  for (const NodeLabelChange& change : part.labels) {
    const bool done = Try("Node " + change.name, [&] { Change(change); });
    failed |= !done;
    if (done && change.event) Emit(about, *change.event);
  }
  WriteLast(part, version, result);
  if (failed) throw std::runtime_error("not all NodeProxies and Nodes could be written");
}

// What may wait until the ProxyConfiguration may be written again: its status, and what counts on
// that being written.
void PlanWriter::WriteLast(const ConfigurationPlan& part, const std::string& version,
                           Result& result) {
  const ProxyConfiguration& configuration = *part.configuration;
  const bool new_status = !(part.status == configuration.status);
  if (new_status || part.remove_finalizer) {
    const Clock::duration wait = pace_.Wait(configuration.uid, Clock::now());
    if (wait > Clock::duration::zero()) {
      const bool other = result.status_due > Clock::duration::zero();
      result.status_due = other ? std::min(result.status_due, wait) : wait;
      return;
    }
  }
  if (part.remove_finalizer) {
    DeleteRevisions(part);
    std::vector<std::string> finalizers = configuration.finalizers;
    std::erase(finalizers, kube::kFinalizer);
    PatchConfiguration(configuration, version, {{"finalizers", finalizers}}, nullptr);
    spdlog::info("ProxyConfiguration {}: rules and finalizer removed", configuration.name);
    return;
  }
  if (new_status) {
    PatchConfiguration(configuration, version, nullptr,
                       StatusPatch(configuration.status, part.status));
    for (const PlannedEvent& event : part.events)
      Emit(ReferenceTo(configuration), event);
  }
  DeleteRevisions(part);
}

void PlanWriter::DeleteRevisions(const ConfigurationPlan& part) {
  for (const std::string& name : part.delete_revisions)
    client_.Delete(kControllerRevisions, ns_, name);
}

// Returns the new resourceVersion.
std::string PlanWriter::PatchConfiguration(const ProxyConfiguration& configuration,
                                           const std::string& version, Json metadata,
                                           const Json& status) {
  Json patch = {{"metadata", metadata.is_null() ? Json::object() : std::move(metadata)}};
  patch["metadata"]["resourceVersion"] = version;
  if (!status.is_null()) patch["status"] = status;
  pace_.Wrote(configuration.uid, Clock::now());
  const Json answer =
      client_.Patch(kube::resources::kProxyConfigurations, "", configuration.name,
                    kube::PatchType::kMerge, patch, status.is_null() ? "" : "status");
  ProxyConfiguration written = kube::ProxyConfigurationFromJson(answer);
  std::string now = written.resource_version;
  const bool gone = written.deleting && written.finalizers.empty();
  if (gone) {
    caches_.Deleted(written);
  } else {
    caches_.Wrote(std::move(written));
  }
  return now;
}

void PlanWriter::Change(const NodeProxyChange& change) {
  const kube::Resource& resource = kube::resources::kNodeProxies;
  if (change.kind == NodeProxyChange::Kind::kDelete) {
    client_.Delete(resource, "", change.name, change.uid);
    NodeProxy gone;
    gone.name = change.name;
    gone.uid = change.uid;
    caches_.Deleted(gone);
    return;
  }
  Json object = ObjectOf(change);
  if (change.kind == NodeProxyChange::Kind::kCreate) {
    object["apiVersion"] = resource.ApiVersion();
    object["kind"] = resource.kind;
    object["metadata"]["name"] = change.name;
    // The garbage collector takes it away with its Node.
    object["metadata"]["ownerReferences"] = {
        {{"apiVersion", "v1"}, {"kind", "Node"}, {"name", change.name}, {"uid", change.node_uid}}};
    caches_.Wrote(kube::NodeProxyFromJson(client_.Create(resource, "", object)));
    return;
  }
  object["metadata"]["uid"] = change.uid;
  object["metadata"]["resourceVersion"] = change.resource_version;
  if (!change.spec.candidate) object["spec"]["candidate"] = nullptr;
  caches_.Wrote(kube::NodeProxyFromJson(
      client_.Patch(resource, "", change.name, kube::PatchType::kMerge, object)));
}

// Nothing but the labels is in the patch, and no resourceVersion: kubelets write their Nodes all
// the time.
void PlanWriter::Change(const NodeLabelChange& change) {
  Json labels = Json::object();
  for (const auto& [label, value] : change.labels)
    labels[label] = value.empty() ? Json() : Json(value);
  const Json answer =
      client_.Patch(kube::resources::kNodes, "", change.name, kube::PatchType::kMerge,
                    {{"metadata", {{"uid", change.uid}, {"labels", std::move(labels)}}}});
  caches_.Wrote(kube::DecodeNode(text::JsonText(answer)));
}

void PlanWriter::Change(const DaemonSetChange& change) {
  Json patch = change.patch;
  patch["metadata"]["uid"] = change.uid;
  patch["metadata"]["resourceVersion"] = change.resource_version;
  const Json answer = client_.Patch(kube::resources::kDaemonSets, kube_proxy_ns_, change.name,
                                    kube::PatchType::kMerge, patch);
  caches_.Wrote(DecodeKubeProxyDaemonSet(text::JsonText(answer)));
  spdlog::info("DaemonSet {}/{} {}", kube_proxy_ns_, change.name, change.what);
}

// Of Pods nothing is kept for the next pass: the same labels written once more change nothing.
void PlanWriter::Keep(const KubeProxyObjectChange& change, const Json& answer) {
  if (change.of == KubeProxyObjectChange::Of::kConfigMap)
    caches_.Wrote(DecodeKubeProxyConfigMap(text::JsonText(answer)));
  if (change.of == KubeProxyObjectChange::Of::kDaemonSet)
    caches_.Wrote(DecodeKubeProxyDaemonSet(text::JsonText(answer)));
}

void PlanWriter::Change(const KubeProxyObjectChange& change) {
  using Kind = KubeProxyObjectChange::Kind;
  const kube::Resource& resource = ResourceOf(change);
  Json object = change.object;
  switch (change.kind) {
    case Kind::kCreate:
      Keep(change, client_.Create(resource, kube_proxy_ns_, object));
      break;
    case Kind::kPatch:
      object["metadata"]["uid"] = change.uid;
      if (!change.resource_version.empty())
        object["metadata"]["resourceVersion"] = change.resource_version;
      Keep(change,
           client_.Patch(resource, kube_proxy_ns_, change.name, kube::PatchType::kMerge, object));
      break;
    case Kind::kDelete:
      client_.Delete(resource, kube_proxy_ns_, change.name, change.uid);
      caches_.Deleted(change);
      break;
    case Kind::kOrphan:
      client_.Delete(resource, kube_proxy_ns_, change.name, change.uid, "",
                     kube::Dependents::kOrphan);
      caches_.Deleted(change);
      break;
  }
  spdlog::info("{} {}/{} {}", resource.kind, kube_proxy_ns_, change.name, change.what);
}

void PlanWriter::Emit(const kube::ObjectReference& about, const PlannedEvent& event) {
  spdlog::info("ProxyConfiguration {}: {}: {}", about.name, event.reason, event.message);
  recorder_.Emit(about, event.warning ? kube::EventType::kWarning : kube::EventType::kNormal,
                 event.reason, event.message);
}

}  // namespace pointsman::op

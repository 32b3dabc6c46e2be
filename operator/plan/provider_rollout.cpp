#include "operator/plan/provider_rollout.h"

#include <algorithm>
#include <string_view>
#include <unordered_set>

#include "operator/plan/node_list.h"
#include "operator/plan/wake_up.h"

namespace pointsman::op {
namespace {

using kube::Provider;
using kube::TimePoint;
using std::chrono::ceil;
using std::chrono::seconds;

constexpr const char* kRevisionHash = "controller-revision-hash";  // of the DaemonSet controller
constexpr size_t kMaxPodsAPass = 200;

// The label's value that a node has to have for it; "": none.
std::string PlaceOf(const Revision& revision, const kube::ProxyConfiguration& configuration,
                    const KubeProxyProvider& provider) {
  return provider.Carries(revision, configuration) ? "" : std::to_string(revision.number);
}

// The node's kube-proxy runs that revision as soon as its Pod is there.
bool IsPlaced(const KubeProxy::OnNode& on, const Revision& revision, const std::string& place) {
  return on.bound == place || on.bound == std::to_string(revision.number);
}

bool Settled(const KubeProxy::OnNode& on) {
  // While a revision becomes the cluster's own its Pods change hands.
  return on.bound.empty() ? on.settled && on.other_revision_pod.empty()
                          : on.revision_settled || (on.settled && on.revision_pod.empty());
}

std::string WhyNotSettled(const KubeProxy::OnNode& on, bool placed) {
  if (!placed) return "its kube-proxy does not run the revision yet";
  const std::string& pod = on.bound.empty() ? on.pod : on.revision_pod;
  if (pod.empty()) return "no Pod of kube-proxy is there";
  if (on.bound.empty() && !on.other_revision_pod.empty())
    return "Pod " + on.other_revision_pod + " is still there";
  return "Pod " + pod + " is not Ready";
}

// Its agent sees to it that the restart costs as little as can be had, also where kube-proxy has
// just started or is in trouble: what it wrote serves. There an agent that says nothing is not
// waited for very long.
bool AwaitsAgent(const KubeProxy::OnNode& on, NodeView& view, Sightings& sightings, TimePoint now) {
  const Sighting sighting = sightings.Of(view.governed.proxy->name);
  if (sighting.prepared || !view.reachable) return false;
  return Settled(on) || !Reached(view.next, sighting.changed + KubeProxy::kPrepares, now);
}

// The agent's word is good for what it sees; whose Pod that is, only the API says.
void HoldAgainstPod(NodeView& view, const KubeProxy::OnNode& on, bool placed,
                    const kube::Rollout& rollout, Sightings& sightings, TimePoint now) {
  const std::string fact =
      "runs " + std::to_string(view.governed.proxy->spec.revision) + " " + view.governed.node->uid;
  if (placed && Settled(on)) {
    const TimePoint good = sightings.Since(fact) + ceil<seconds>(rollout.min_ready);
    if (Reached(view.next, good, now)) {
      view.available_since = std::max(view.available_since, good);
      return;
    }
    if (view.stage == Stage::kAvailable) view.stage = Stage::kApplied;
  } else {
    view.stage = Stage::kOrdered;
  }
  if (view.order == Order::kOverdue || view.order == Order::kLost) return;
  const Sighting sighting = sightings.Of(view.governed.proxy->name);
  const TimePoint since = sighting.available.value_or(sighting.changed);
  const TimePoint due = ProgressDeadline(*view.governed.proxy, rollout, sighting, since);
  if (!Reached(view.next, due, now)) {
    view.order = Order::kUnderWay;
    // What the agent sees until then is of a kube-proxy that restarts.
    if (!view.tripped) view.failure.clear();
    return;
  }
  view.order = view.reachable ? Order::kOverdue : Order::kLost;
  if (view.reachable && view.failure.empty()) {
    view.failure = std::string("did not get there within the progress deadline") +
                   (placed || sighting.prepared ? ": " + WhyNotSettled(on, placed) : kNotPrepared);
  }
}

}  // namespace

void LookAtBinding(NodeView& view, const RolloutState& state,
                   const kube::ProxyConfiguration& configuration, const KubeProxyProvider& provider,
                   const KubeProxy& kube_proxy, Sightings& sightings, TimePoint now) {
  if (state.target.provider != Provider::kKubeProxy || !provider.ready()) return;
  const kube::Node& node = *view.governed.node;
  const KubeProxy::OnNode on = kube_proxy.On(node, view.next);
  const std::string place = PlaceOf(state.target, configuration, provider);
  const bool placed = IsPlaced(on, state.target, place);
  view.must_restart = !placed;
  view.kube_proxy_up = Settled(on);
  view.costs_nothing = false;
  if (state.last_good) {
    const std::string other = PlaceOf(*state.last_good, configuration, provider);
    view.last_good_restarts = !IsPlaced(on, *state.last_good, other);
  }
  if (view.at_target()) {
    if (!placed && !on.taken_off) view.bind_to = place;
    view.awaits_agent = view.bind_to && AwaitsAgent(on, view, sightings, now);
    HoldAgainstPod(view, on, placed, configuration.spec.rollout, sightings, now);
    return;
  }
  // Ours goes from a node when kube-proxy serves there.
  const kube::NodeProxy* const proxy = view.governed.proxy.get();
  const bool ours =
      proxy != nullptr && proxy->spec.provider == Provider::kNodeAgent && proxy->spec.revision > 0;
  view.may_start = !on.taken_off && (!ours || Settled(on));
  if (!kube_proxy.IsFor(node) && view.answered()) {
    view.stage = Stage::kUnable;
    view.cannot_run = "DaemonSet " + kube_proxy.name() +
                      " is not for this node: take it out of spec.nodeSelector";
  }
}

std::vector<NodeLabelChange> NextBindings(RolloutState& state, const KubeProxyProvider& provider,
                                          const KubeProxy& kube_proxy) {
  std::vector<NodeLabelChange> labels;
  // Of those that were asked one after the other; all of them at once can have to, when somebody
  // has changed what the cluster's own file says.
  int64_t room = state.max_unavailable;
  for (const NodeView& view : state.nodes) {
    // A node that died, or does not come up for so long, holds up nobody.
    const bool restarts = view.at_target() && !view.kube_proxy_up && view.governed.node->ready &&
                          view.order == Order::kUnderWay;
    if (restarts) --room;
  }
  for (const NodeView& view : state.nodes) {
    if (!view.bind_to) continue;
    const bool own = view.bind_to->empty();
    if (!own) state.turn = state.prepare = true;
    if (!own && !(kube_proxy.leaves_out_replaced() && provider.IsPrepared(state.target))) continue;
    if (view.awaits_agent) continue;
    if (view.kube_proxy_up && room-- <= 0) continue;
    labels.push_back(BindingChange(*view.governed.node, *view.bind_to));
  }
  return labels;
}

namespace {

const Revision* FindRevision(const std::vector<Revision>& revisions, int64_t number) {
  for (const Revision& revision : revisions) {
    if (revision.number == number && revision.provider == Provider::kKubeProxy) return &revision;
  }
  return nullptr;
}

// Those that Pods are of, or were when another DaemonSet adopted them.
std::set<int64_t> RevisionsOfPods(const PlanInput& input) {
  std::set<int64_t> numbers;
  for (const auto& pod : input.kube_proxy.pods) {
    const auto label = pod->labels.find(kRevisionLabel);
    if (label == pod->labels.end() || pod->over) continue;
    if (const auto number = RevisionNumber(label->second)) numbers.insert(*number);
  }
  return numbers;
}

KubeProxyObjectChange Change(KubeProxyObjectChange::Kind kind, const KubeProxyConfigMap& map,
                             nlohmann::json patch, std::string what) {
  return {.kind = kind,
          .of = KubeProxyObjectChange::Of::kConfigMap,
          .name = map.name,
          .uid = map.uid,
          .resource_version = map.resource_version,
          .object = std::move(patch),
          .what = std::move(what)};
}
KubeProxyObjectChange Change(KubeProxyObjectChange::Kind kind, const KubeProxyDaemonSet& set,
                             nlohmann::json patch, std::string what) {
  return {.kind = kind,
          .of = KubeProxyObjectChange::Of::kDaemonSet,
          .name = set.name,
          .uid = set.uid,
          .resource_version = set.resource_version,
          .object = std::move(patch),
          .what = std::move(what)};
}
KubeProxyObjectChange Create(KubeProxyObjectChange::Of of, nlohmann::json object,
                             std::string what) {
  std::string name = object["metadata"]["name"].get<std::string>();
  return {.kind = KubeProxyObjectChange::Kind::kCreate,
          .of = of,
          .name = std::move(name),
          .uid = "",
          .resource_version = "",
          .object = std::move(object),
          .what = std::move(what)};
}

void PlanNeeded(const Revision& revision, const KubeProxyProvider& provider,
                const KubeProxy& kube_proxy, std::vector<KubeProxyObjectChange>& changes) {
  using Kind = KubeProxyObjectChange::Kind;
  const KubeProxyFile& file = provider.file();
  const KubeProxyDaemonSet& own = provider.own_set();
  const int64_t number = revision.number;
  const KubeProxyConfigMap* const map = provider.MapOf(number);
  if (map == nullptr) {
    changes.push_back(
        Create(KubeProxyObjectChange::Of::kConfigMap,
               RevisionConfigMap(provider.own_map(), file, own.name, number, revision.file),
               "has the file of revision " + std::to_string(number)));
    return;
  }
  if (map->deleting) return;
  if (!IsRevisionConfigMap(*map, file, number, revision.file)) {
    changes.push_back(Change(Kind::kDelete, *map, nullptr, "is not as it was made"));
    return;
  }
  const KubeProxyDaemonSet* const set = provider.SetOf(number);
  // Beside a DaemonSet that does not leave them out its Pods would wait, and take Pods away from it
  // that it has just adopted.
  if (set == nullptr && kube_proxy.leaves_out_replaced()) {
    changes.push_back(Create(KubeProxyObjectChange::Of::kDaemonSet,
                             RevisionDaemonSet(own, file, number),
                             "is for nodes that are bound to revision " + std::to_string(number)));
  } else if (set != nullptr && !set->deleting) {
    nlohmann::json patch = PatchToDerive(*set, own, file, number);
    if (!patch.empty())
      changes.push_back(Change(Kind::kPatch, *set, std::move(patch), "follows " + own.name));
  }
}

}  // namespace

std::vector<KubeProxyObjectChange> PlanRevisionObjects(const PlanInput& input,
                                                       const KubeProxyProvider& provider,
                                                       const KubeProxy& kube_proxy,
                                                       const std::set<int64_t>& wanted,
                                                       std::optional<int64_t> released) {
  using Kind = KubeProxyObjectChange::Kind;
  std::vector<KubeProxyObjectChange> changes;
  std::set<int64_t> bound;
  for (const auto& node : input.nodes) {
    if (const auto number = RevisionNumber(BoundTo(*node))) bound.insert(*number);
  }
  std::set<int64_t> needed = wanted;
  needed.insert(bound.begin(), bound.end());
  if (provider.ready()) {
    for (const int64_t number : needed) {
      const Revision* const revision = FindRevision(input.revisions, number);
      if (revision != nullptr && released != number)
        PlanNeeded(*revision, provider, kube_proxy, changes);
    }
  }
  const std::set<int64_t> with_pods = RevisionsOfPods(input);
  for (const auto& set : input.kube_proxy.revision_sets) {
    const auto number = RevisionNumber(set->revision);
    const bool used = number && (needed.contains(*number) || with_pods.contains(*number));
    if (!used && !set->deleting)
      changes.push_back(Change(Kind::kDelete, *set, nullptr, "has no node any more"));
  }
  for (const auto& map : input.kube_proxy.config_maps) {
    if (map->revision.empty() || map->deleting) continue;
    const auto number = RevisionNumber(map->revision);
    const bool used = number && (needed.contains(*number) || with_pods.contains(*number) ||
                                 provider.SetOf(*number) != nullptr);
    if (!used) changes.push_back(Change(Kind::kDelete, *map, nullptr, "has no Pod any more"));
  }
  return changes;
}

namespace {

// Of the Pods that the cluster's DaemonSet would make now, by those that it has made for bound
// nodes; "": there are none, or they differ.
std::string HashOfOwn(const PlanInput& input, const KubeProxyDaemonSet& own) {
  std::unordered_set<std::string_view> bound;
  for (const auto& node : input.nodes) {
    if (!BoundTo(*node).empty()) bound.insert(node->name);
  }
  std::string hash;
  for (const auto& pod : input.kube_proxy.pods) {
    if (pod->controller_uid != own.uid || pod->deleting || pod->over) continue;
    if (!bound.contains(pod->node_name)) continue;
    const auto label = pod->labels.find(kRevisionHash);
    if (label == pod->labels.end()) continue;
    if (!hash.empty() && hash != label->second) return "";
    hash = label->second;
  }
  return hash;
}

// Gives Pods of the revision the hash by which the cluster's DaemonSet takes them for its own of
// today. Of those that were made from an older template it makes new ones by itself.
std::vector<KubeProxyObjectChange> Rehash(const PlanInput& input, const KubeProxyDaemonSet& set,
                                          const std::string& hash, const std::string& derived) {
  std::vector<KubeProxyObjectChange> changes;
  for (const auto& pod : input.kube_proxy.pods) {
    if (pod->controller_uid != set.uid || pod->deleting || pod->over) continue;
    const auto made_from = pod->labels.find(kDerivedLabel);
    const auto has = pod->labels.find(kRevisionHash);
    if (made_from == pod->labels.end() || made_from->second != derived) continue;
    if (has != pod->labels.end() && has->second == hash) continue;
    if (changes.size() == kMaxPodsAPass) break;
    changes.push_back({.kind = KubeProxyObjectChange::Kind::kPatch,
                       .of = KubeProxyObjectChange::Of::kPod,
                       .name = pod->name,
                       .uid = pod->uid,
                       .resource_version = "",
                       .object = {{"metadata", {{"labels", {{kRevisionHash, hash}}}}}},
                       .what = "is to be adopted"});
  }
  return changes;
}

// Nodes that keep a revision from becoming the cluster's own.
std::vector<std::string> OtherNodes(const PlanInput& input, const Revision& target, bool carried,
                                    const KubeProxy& kube_proxy) {
  const std::string number = std::to_string(target.number);
  std::vector<std::string> others;
  for (const auto& node : input.nodes) {
    const std::string bound = BoundTo(*node);
    const bool there = bound == number || (carried && bound.empty());
    if (IsReplaced(*node) || (!there && kube_proxy.IsFor(*node))) others.push_back(node->name);
  }
  return others;
}

}  // namespace

WriteBack PlanWriteBack(const PlanInput& input, const RolloutState& state,
                        const kube::ProxyConfiguration& configuration,
                        const KubeProxyProvider& provider, const KubeProxy& kube_proxy) {
  using Kind = KubeProxyObjectChange::Kind;
  WriteBack back;
  const Revision& target = state.target;
  // Written down as good everywhere, so that whoever leads next knows it.
  const bool good = state.complete && state.leaving.empty() &&
                    configuration.status.current_revision == target.number;
  if (target.provider != Provider::kKubeProxy || !provider.ready() || !good || !kube_proxy.known())
    return back;
  const bool carried = provider.Carries(target, configuration);
  if (carried && !kube_proxy.any_bound()) return back;
  const std::string name = "revision " + std::to_string(target.number);
  if (const auto others = OtherNodes(input, target, carried, kube_proxy); !others.empty()) {
    back.note = "nodes stay bound to " + name + " by label, and ConfigMap " +
                provider.file().config_map + " stays as it is, for the sake of " + NodeList(others);
    return back;
  }
  back.pending = true;
  back.note = name + " becomes the cluster's own configuration of kube-proxy";
  if (state.paused) return back;
  if (!carried) {
    const auto text = provider.TextToCarry(target, configuration);
    if (!text) {
      back.pending = false;
      back.note = "ConfigMap " + provider.file().config_map +
                  " was changed by somebody since, and is left as it is; nodes stay bound to " +
                  name + " by label";
      return back;
    }
    back.objects.push_back(Change(Kind::kPatch, provider.own_map(),
                                  {{"data", {{provider.file().key, *text}}}},
                                  "has the file of " + name));
    return back;
  }
  back.ours = true;
  const KubeProxyDaemonSet* const set = provider.SetOf(target.number);
  if (kube_proxy.changed() || set == nullptr || set->deleting) return back;
  // Seen that it is for these nodes again, the DaemonSet's controller has made Pods for them, which
  // wait for room. Without, it would end the Pods that it adopts.
  const KubeProxyDaemonSet& own = provider.own_set();
  const std::string hash = HashOfOwn(input, own);
  if (hash.empty()) return back;
  back.objects = Rehash(input, *set, hash, DerivedFrom(own, provider.file(), target.number));
  if (back.objects.empty())
    back.objects.push_back(Change(Kind::kOrphan, *set, nullptr, "leaves its Pods to " + own.name));
  return back;
}

std::vector<NodeLabelChange> StaleBindings(const PlanInput& input,
                                           const KubeProxyProvider& provider,
                                           const KubeProxy& kube_proxy, Sightings& sightings,
                                           std::optional<TimePoint>& wake_up) {
  constexpr seconds kMostAdoption{60};
  std::vector<NodeLabelChange> labels;
  if (!kube_proxy.known() || !kube_proxy.has_daemon_set()) return labels;
  for (const auto& node : input.nodes) {
    const std::string bound = BoundTo(*node);
    if (bound.empty()) continue;
    const auto number = RevisionNumber(bound);
    const bool has_set = number && provider.SetOf(*number) != nullptr;
    // One that no DaemonSet will ever be made for.
    const bool unknown = !has_set && (!number || FindRevision(input.revisions, *number) == nullptr);
    if (!unknown && (has_set || kube_proxy.leaves_out_replaced())) continue;
    // Its Pod is being adopted. One that does not come to be Ready needs no label for that.
    if (!unknown && !kube_proxy.On(*node, wake_up).pod_ready &&
        !Reached(wake_up, sightings.Since("is adopted " + node->uid) + kMostAdoption, input.now))
      continue;
    NodeLabelChange change = BindingChange(*node, "");
    if (!unknown) change.event.reset();  // nothing restarts for that
    labels.push_back(std::move(change));
  }
  return labels;
}

}  // namespace pointsman::op

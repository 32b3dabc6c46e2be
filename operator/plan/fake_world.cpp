#include "operator/plan/fake_world.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "kube/pointsman/settings_json.h"
#include "kube/text/hash.h"

namespace pointsman::op {

using kube::ConditionStatus;
using kube::NodeProxy;
using kube::ProxyConfiguration;

FakeWorld::FakeWorld() : now(std::chrono::sys_days(std::chrono::year(2026) / 1 / 2)), began_(now) {}

void FakeWorld::AddNode(const std::string& name, std::map<std::string, std::string> labels) {
  kube::Node node;
  node.name = name;
  node.uid = "node-" + std::to_string(++serial_);
  node.labels = std::move(labels);
  node.ready = true;
  node.created = now;
  nodes[name] = std::make_shared<kube::Node>(std::move(node));
  agents.try_emplace(name);
}

void FakeWorld::RemoveNode(const std::string& name) {
  nodes.erase(name);
  agents.erase(name);
  proxies.erase(name);
  kube_proxies.erase(name);
  waiting_kube_proxies.erase(name);
}

void FakeWorld::SetReady(const std::string& name, bool ready, bool silent) {
  auto node = std::make_shared<kube::Node>(*nodes.at(name));
  node->ready = ready;
  node->silent = !ready && silent;
  node->never_ready = false;
  nodes[name] = std::move(node);
  bare_.erase(name);
}

void FakeWorld::SetDead(const std::string& name, bool dead, bool silent) {
  agents.at(name).alive = !dead;
  SetReady(name, !dead, silent);
}

void FakeWorld::AddBareNode(const std::string& name) {
  AddNode(name);
  auto node = std::make_shared<kube::Node>(*nodes.at(name));
  node->ready = false;
  node->never_ready = true;
  nodes[name] = std::move(node);
  bare_.insert(name);
}

void FakeWorld::ChangeLeader(std::chrono::seconds skew) {
  sightings = {};
  now += skew;
}

void FakeWorld::SetLabels(const std::string& name, std::map<std::string, std::string> labels) {
  auto node = std::make_shared<kube::Node>(*nodes.at(name));
  node->labels = std::move(labels);
  nodes[name] = std::move(node);
}

void FakeWorld::Apply(const std::string& name, const std::string& spec_text) {
  nlohmann::json spec = {{"mode", "ipvs"}};
  spec.merge_patch(nlohmann::json::parse(spec_text));
  const ProxyConfiguration parsed =
      kube::ProxyConfigurationFromJson({{"metadata", {{"name", name}}}, {"spec", spec}});
  auto& stored = configurations[name];
  auto next = stored ? std::make_shared<ProxyConfiguration>(*stored)
                     : std::make_shared<ProxyConfiguration>(parsed);
  if (!stored) {
    next->uid = "uid-" + std::to_string(++serial_);
    next->created = now;
  }
  next->spec = parsed.spec;
  next->errors = parsed.errors;
  ++next->generation;
  stored = std::move(next);
}

void FakeWorld::Delete(const std::string& name) {
  auto next = std::make_shared<ProxyConfiguration>(*configurations.at(name));
  next->deleting = true;
  if (next->finalizers.empty()) {
    configurations.erase(name);
  } else {
    configurations[name] = std::move(next);
  }
}

void FakeWorld::AddKubeProxy(const nlohmann::json& affinity) {
  kube_proxy_set = {{"metadata",
                     {{"name", "kube-proxy"},
                      {"uid", "set-" + std::to_string(++serial_)},
                      {"annotations", {{"deprecated.daemonset.template.generation", "1"}}}}},
                    {"spec",
                     {{"template",
                       {{"metadata", {{"labels", {{"k8s-app", "kube-proxy"}}}}},
                        {"spec",
                         {{"containers",
                           {{{"name", "kube-proxy"},
                             {"image", "kube-proxy:v1.34.1"},
                             {"command", {"kube-proxy", "--config=/c/config.conf"}},
                             {"volumeMounts", {{{"name", "c"}, {"mountPath", "/c"}}}}}}},
                          {"volumes", {{{"name", "c"}, {"configMap", {{"name", "kube-proxy"}}}}}},
                          {"tolerations", {{{"operator", "Exists"}}}},
                          {"hostNetwork", true}}}}},
                      {"selector", {{"matchLabels", {{"k8s-app", "kube-proxy"}}}}},
                      {"updateStrategy",
                       {{"type", "RollingUpdate"}, {"rollingUpdate", {{"maxUnavailable", 1}}}}}}}};
  if (!affinity.is_null()) kube_proxy_set["spec"]["template"]["spec"]["affinity"] = affinity;
  kube_proxy_set_at_first = kube_proxy_set;
  config_maps["kube-proxy"] = {
      {"metadata", {{"name", "kube-proxy"}, {"uid", "map-" + std::to_string(++serial_)}}},
      {"data",
       {{"config.conf",
         "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
         "mode: iptables # as installed\nipvs:\n  scheduler: \"\"\n"},
        {"kubeconfig.conf", "kind: Config\n"}}}};
  for (int step = 0; step < 2; ++step)
    StepKubeProxy();
}

void FakeWorld::PutKubeProxyBack(bool annotations) {
  const nlohmann::json kept = kube_proxy_set["metadata"];
  kube_proxy_set = kube_proxy_set_at_first;
  if (annotations) kube_proxy_set["metadata"] = kept;
}

void FakeWorld::StepKubeProxy() {
  const auto set = DaemonSetNow();
  const auto others = RevisionSetsNow();
  for (const auto& [name, node] : nodes)
    StepKubeProxy(name, set.get(), others);
}

void FakeWorld::StepKubeProxy(const std::string& name) {
  StepKubeProxy(name, DaemonSetNow().get(), RevisionSetsNow());
}

std::vector<std::shared_ptr<const KubeProxyDaemonSet>> FakeWorld::RevisionSetsNow() const {
  std::vector<std::shared_ptr<const KubeProxyDaemonSet>> sets;
  for (const auto& [name, object] : revision_sets)
    sets.push_back(std::make_shared<KubeProxyDaemonSet>(DecodeKubeProxyDaemonSet(object.dump())));
  return sets;
}

void FakeWorld::StepKubeProxy(
    const std::string& name, const KubeProxyDaemonSet* set,
    const std::vector<std::shared_ptr<const KubeProxyDaemonSet>>& others) {
  const auto found = kube_proxies.find(name);
  if (dead_kubelets.contains(name)) {
    if (found != kube_proxies.end()) found->second.ready = false;
    return;
  }
  // What was there before this step comes up in it, or goes.
  if (found != kube_proxies.end() && found->second.ends) {
    kube_proxies.erase(found);
  } else if (found != kube_proxies.end()) {
    FakeKubeProxy& pod = found->second;
    const auto map = config_maps.find(pod.config_map);
    if (pod.file.empty() && map != config_maps.end())
      pod.file = map->second["data"]["config.conf"].get<std::string>();
    const bool runs =
        !pod.file.empty() &&
        !broken_modes.contains(std::string(kube::ToString(ModeOfKubeProxyFile(pod.file))));
    if (!kube_proxy_breaks && runs) pod.ready = pod.serves = true;
    if (!runs) pod.ready = false;
  } else if (auto& waiting = waiting_kube_proxies[name]; !waiting.empty()) {
    FakeKubeProxy pod = waiting.front();
    waiting.erase(waiting.begin());
    StartPod(name, std::move(pod));
  }
  if (set != nullptr) {
    RunSet(name, *set, /*own=*/true);
  } else if (const auto left = kube_proxies.find(name); left != kube_proxies.end()) {
    left->second.ends = left->second.ends || revision_sets.empty();
  }
  for (const auto& other : others)
    RunSet(name, *other, /*own=*/false);
}

void FakeWorld::StartPod(const std::string& node, FakeKubeProxy pod) {
  ++restarts[node];
  kube_proxies[node] = std::move(pod);
}

// The DaemonSet controller, for one node.
void FakeWorld::RunSet(const std::string& name, const KubeProxyDaemonSet& set, bool own) {
  const auto hash_of = [&] { return text::Hash(set.pod_template.dump()); };
  const bool selected = set.placement.WhyNot(*nodes.at(name)).empty();
  auto& waiting = waiting_kube_proxies[name];
  const auto running = kube_proxies.find(name);
  const auto adopt = [&](FakeKubeProxy& pod) {
    const bool matches = own || pod.labels[kRevisionLabel] == set.revision;
    if (pod.owner.empty() && matches) pod.owner = set.uid;
  };
  if (running != kube_proxies.end()) adopt(running->second);
  for (FakeKubeProxy& pod : waiting)
    adopt(pod);
  const bool runs = running != kube_proxies.end() && running->second.owner == set.uid;
  const auto its = [&](const FakeKubeProxy& pod) { return pod.owner == set.uid; };
  if (!selected || runs) std::erase_if(waiting, its);
  if (!selected) {
    if (runs) running->second.ends = true;
  } else if (runs) {
    const bool rolls = rolling_updates && own && set.update_strategy["type"] == "RollingUpdate";
    const bool all_up = std::all_of(kube_proxies.begin(), kube_proxies.end(), [&](const auto& pod) {
      return !its(pod.second) || (pod.second.ready && !pod.second.ends);
    });
    if (rolls && all_up && running->second.labels["controller-revision-hash"] != hash_of())
      running->second.ends = true;
  } else if (std::none_of(waiting.begin(), waiting.end(), its)) {
    FakeKubeProxy pod;
    pod.uid = "pod-" + std::to_string(++serial_);
    pod.owner = set.uid;
    for (const auto& [key, value] : set.pod_labels)
      pod.labels[key] = value;
    pod.labels["controller-revision-hash"] = hash_of();
    pod.config_map = set.pod_template["spec"]["volumes"][0]["configMap"]["name"];
    if (running == kube_proxies.end()) {
      StartPod(name, std::move(pod));
    } else {
      waiting.push_back(std::move(pod));
    }
  }
}

bool FakeWorld::Serves(const std::string& node) const {
  const auto proxy = proxies.find(node);
  const bool ours = proxy != proxies.end() && !proxy->second->status.active_mode.empty() &&
                    proxy->second->spec.provider == kube::Provider::kNodeAgent;
  const auto theirs = kube_proxies.find(node);
  return ours || (theirs != kube_proxies.end() && theirs->second.serves);
}

std::shared_ptr<const KubeProxyDaemonSet> FakeWorld::DaemonSetNow() const {
  if (kube_proxy_set.is_null()) return nullptr;
  return std::make_shared<KubeProxyDaemonSet>(DecodeKubeProxyDaemonSet(kube_proxy_set.dump()));
}

KubeProxyInput FakeWorld::KubeProxyInputNow() const {
  KubeProxyInput input;
  input.name = "kube-system/kube-proxy";
  input.unknown = kube_proxy_unknown;
  input.no_provider = no_provider;
  if (!input.unknown.empty()) return input;
  input.daemon_set = DaemonSetNow();
  input.pods = other_kube_proxy_pods;
  const auto see = [&](const std::string& name, const std::string& node, const FakeKubeProxy& pod) {
    kube::Pod seen;
    seen.name = name;
    seen.uid = pod.uid;
    seen.node_name = node;
    seen.ready = pod.ready;
    seen.deleting = pod.ends;
    seen.controller_uid = pod.owner;
    seen.labels = pod.labels;
    input.pods.push_back(std::make_shared<kube::Pod>(std::move(seen)));
  };
  for (const auto& [name, pod] : kube_proxies)
    see("kube-proxy-" + name, name, pod);
  for (const auto& [name, pods] : waiting_kube_proxies) {
    for (const FakeKubeProxy& pod : pods)
      see(pod.uid, name, pod);
  }
  for (const auto& [name, object] : config_maps) {
    input.config_maps.push_back(
        std::make_shared<KubeProxyConfigMap>(DecodeKubeProxyConfigMap(object.dump())));
  }
  input.revision_sets = RevisionSetsNow();
  return input;
}

Plan FakeWorld::MakePlan() {
  PlanInput input;
  for (const auto& [name, configuration] : configurations) {
    input.configurations.push_back(configuration);
  }
  for (const auto& [name, node] : nodes)
    input.nodes.push_back(node);
  for (const auto& [name, proxy] : proxies)
    input.node_proxies.push_back(proxy);
  for (const auto& [name, revision] : revisions)
    input.revisions.push_back(revision);
  input.agent_pods = agent_pods;
  input.agent_daemon_sets = agent_daemon_sets;
  input.kube_proxy = KubeProxyInputNow();
  input.now = now;
  input.instant = instant;
  return op::MakePlan(input, sightings);
}

bool FakeWorld::Write(size_t& writes, const std::function<void()>& write) {
  if (writes == 0) return false;
  --writes;
  write();
  if (after_write) after_write();
  return true;
}

void FakeWorld::Change(const NodeProxyChange& change) {
  if (change.kind == NodeProxyChange::Kind::kDelete) {
    proxies.erase(change.name);
    return;
  }
  NodeProxy proxy;
  if (change.kind == NodeProxyChange::Kind::kCreate) {
    if (proxies.contains(change.name)) throw std::logic_error(change.name + " exists");
    proxy.name = change.name;
    proxy.uid = "npx-" + std::to_string(++serial_);
    proxy.node_uid = change.node_uid;
  } else {
    proxy = *proxies.at(change.name);
  }
  if (!(proxy.spec == change.spec)) ++proxy.generation;
  proxy.spec = change.spec;
  if (!change.updated_at.empty()) {
    proxy.updated_at = change.updated_at;
    changed_at[change.name] = instant;
  }
  if (!change.asked_at.empty()) proxy.asked_at = change.asked_at;
  proxies[change.name] = std::make_shared<NodeProxy>(std::move(proxy));
}

void FakeWorld::Change(const NodeLabelChange& change) {
  const auto found = nodes.find(change.name);
  if (found == nodes.end() || found->second->uid != change.uid) return;
  auto node = std::make_shared<kube::Node>(*found->second);
  for (const auto& [label, value] : change.labels) {
    node->labels.erase(label);
    if (!value.empty()) node->labels[label] = value;
  }
  found->second = std::move(node);
}

void FakeWorld::Change(const KubeProxyObjectChange& change) {
  using Kind = KubeProxyObjectChange::Kind;
  using Of = KubeProxyObjectChange::Of;
  if (change.of == Of::kPod) {
    for (auto& [node, pod] : kube_proxies) {
      if (pod.uid != change.uid) continue;
      nlohmann::json labels = pod.labels;
      labels.merge_patch(change.object["metadata"]["labels"]);
      pod.labels = labels;
    }
    return;
  }
  auto& objects = change.of == Of::kConfigMap ? config_maps : revision_sets;
  const auto found = objects.find(change.name);
  if (change.kind == Kind::kCreate) {
    if (found != objects.end()) throw std::logic_error(change.name + " exists");
    nlohmann::json object = change.object;
    object["metadata"]["uid"] = "object-" + std::to_string(++serial_);
    objects[change.name] = std::move(object);
    return;
  }
  if (found == objects.end() || found->second["metadata"]["uid"] != change.uid) return;
  if (change.kind == Kind::kPatch) {
    if (found->second.value("immutable", false)) throw std::logic_error("immutable");
    found->second.merge_patch(change.object);
    return;
  }
  objects.erase(found);
  if (change.of != Of::kDaemonSet) return;
  for (const auto& [node, unused] : nodes) {
    auto& waiting = waiting_kube_proxies[node];
    const auto pod = kube_proxies.find(node);
    const bool runs = pod != kube_proxies.end() && pod->second.owner == change.uid;
    if (change.kind == Kind::kOrphan) {
      if (runs) pod->second.owner.clear();
      for (FakeKubeProxy& each : waiting) {
        if (each.owner == change.uid) each.owner.clear();
      }
    } else {
      if (runs) pod->second.ends = true;
      std::erase_if(waiting, [&](const auto& each) { return each.owner == change.uid; });
    }
  }
}

void FakeWorld::Perform(const Plan& plan, size_t writes) {
  for (const KubeProxyObjectChange& change : plan.kube_proxy_objects) {
    Write(writes, [&] { Change(change); });
  }
  if (plan.daemon_set) {
    Write(writes, [&] { kube_proxy_set.merge_patch(plan.daemon_set->patch); });
  }
  for (const NodeLabelChange& change : plan.labels) {
    Write(writes, [&] { Change(change); });
  }
  for (const ConfigurationPlan& part : plan.configurations) {
    const std::string& name = part.configuration->name;
    if (part.add_finalizer) {
      Write(writes, [&] {
        auto next = std::make_shared<ProxyConfiguration>(*configurations.at(name));
        next->finalizers.emplace_back(kube::kFinalizer);
        configurations[name] = std::move(next);
      });
    }
    if (part.create_revision) {
      Write(writes, [&] { revisions[part.create_revision->name] = *part.create_revision; });
    }
    for (const NodeProxyChange& change : part.changes) {
      if (Write(writes, [&] { Change(change); }) && change.event) events.push_back(*change.event);
    }
    for (const NodeLabelChange& change : part.labels) {
      if (Write(writes, [&] { Change(change); }) && change.event) events.push_back(*change.event);
    }
    if (!(part.status == configurations.at(name)->status)) {
      const bool written = Write(writes, [&] {
        auto next = std::make_shared<ProxyConfiguration>(*configurations.at(name));
        next->status = part.status;
        configurations[name] = std::move(next);
      });
      if (written) events.insert(events.end(), part.events.begin(), part.events.end());
    }
    for (const std::string& old : part.delete_revisions) {
      Write(writes, [&] { revisions.erase(old); });
    }
    if (part.remove_finalizer) {
      Write(writes, [&] { configurations.erase(name); });
    }
  }
  for (const NodeProxyChange& change : plan.orphans) {
    Write(writes, [&] { Change(change); });
  }
}

void FakeWorld::StepAgent(const std::string& name) {
  const auto stored = proxies.find(name);
  const auto node = nodes.find(name);
  if (stored == proxies.end() || node == nodes.end()) return;
  const FakeAgent& agent = agents.at(name);
  if (!agent.alive) return;
  auto proxy = std::make_shared<NodeProxy>(*stored->second);
  kube::NodeProxyStatus& status = proxy->status;
  const kube::NodeProxySpec& spec = proxy->spec;
  // Its own clock, which nobody sets when the operator's is set.
  const kube::TimePoint its_now = began_ + instant + agent.clock_ahead;
  const std::string time = kube::FormatTime(its_now);
  const kube::NodeProxyStatus before = status;
  const auto set = [&](const char* type, bool value, const char* reason, std::string message) {
    kube::SetCondition(status.conditions,
                       {type, value ? ConditionStatus::kTrue : ConditionStatus::kFalse, reason,
                        std::move(message), "", proxy->generation},
                       time);
  };
  // Why it cannot run that mode, "" if it can.
  const auto why_not = [&agent](kube::Mode mode,
                                const kube::NeighbourSettings& neighbours) -> std::string {
    if (!agent.can_run.contains(mode)) return "no module for " + std::string(kube::ToString(mode));
    const auto beside = agent.refuses_beside.find(mode);
    if (beside == agent.refuses_beside.end()) return "";
    const auto& accept = neighbours.accept;
    const bool accepted = std::find(accept.begin(), accept.end(), beside->second) != accept.end();
    return accepted ? "" : "refused beside " + beside->second;
  };
  const auto pick = [&](kube::Mode mode, const std::vector<kube::Mode>& fallbacks,
                        const kube::NeighbourSettings& neighbours) -> std::string {
    std::vector<kube::Mode> modes{mode};
    modes.insert(modes.end(), fallbacks.begin(), fallbacks.end());
    for (const kube::Mode wanted : modes) {
      if (why_not(wanted, neighbours).empty()) return std::string(kube::ToString(wanted));
    }
    return "";
  };
  status.observed_generation = proxy->generation;
  if (spec.candidate) {
    const kube::NodeProxyCandidate& candidate = *spec.candidate;
    const std::string why = why_not(candidate.mode, candidate.neighbours);
    status.candidate = kube::CandidateStatus{
        candidate.revision, pick(candidate.mode, candidate.fallback_modes, candidate.neighbours),
        why.empty(), why, agent.knows_providers ? candidate.provider : kube::Provider::kNodeAgent};
  } else {
    status.candidate.reset();
  }
  if (!spec.remove_kube_proxy) {
    status.kube_proxy.reset();
  } else if (!agent.runs_kube_proxy.empty()) {
    status.kube_proxy = kube::KubeProxyStatus{kube::kKubeProxyRunning, agent.runs_kube_proxy};
  } else if (!status.kube_proxy || status.kube_proxy->state == kube::kKubeProxyRunning) {
    const auto theirs = kube_proxies.find(name);
    if (theirs != kube_proxies.end()) ++removals_beside_kube_proxy;
    status.kube_proxy = kube::KubeProxyStatus{
        agent.drains_kube_proxy ? kube::kKubeProxyDraining : kube::kKubeProxyRemoved, ""};
  } else if (!agent.sees_kube_proxy.empty()) {
    status.kube_proxy = kube::KubeProxyStatus{kube::kKubeProxyReturned, agent.sees_kube_proxy};
  } else if (!agent.drains_kube_proxy) {
    status.kube_proxy = kube::KubeProxyStatus{kube::kKubeProxyRemoved, ""};
  }
  if (spec.removed) {
    status.active_mode.clear();
    status.observed_revision = spec.revision;
    set("Ready", false, "Removed", "removed");
  } else if (spec.revision > 0 && spec.provider == kube::Provider::kKubeProxy) {
    Observe(agent, name, *proxy, time);
  } else if (spec.revision > 0 && agent.fails.contains(spec.revision)) {
    set("Degraded", true, "HandoverReverted", "a probe failed");
  } else if (spec.revision > 0) {
    const kube::ProxySettings& settings = spec.settings;
    const std::string mode = pick(settings.mode, settings.fallback_modes, settings.neighbours);
    const bool asked = mode == kube::ToString(spec.settings.mode);
    status.active_mode = mode;
    if (!mode.empty()) status.observed_revision = spec.revision;
    status.draining_mode = agent.draining_mode;
    status.draining_connections = agent.draining_connections;
    status.impact.reset();
    if (agent.reports_impact) {
      const auto impact = agent.impacts.find(spec.revision);
      status.impact = impact != agent.impacts.end() ? impact->second : kube::ChangeImpact{};
      status.impact->revision = spec.revision;
    }
    set("PreflightPassed", asked, asked ? "PreflightPassed" : "ModuleMissing",
        why_not(settings.mode, settings.neighbours));
    set("Ready", !mode.empty(), mode.empty() ? "NotSynced" : "Serving", mode);
    set("Degraded", !asked,
        asked          ? "DesiredModeActive"
        : mode.empty() ? "NoModeCanRun"
                       : "Fallback",
        "");
  }
  if (!(status == before) && !status.active_mode.empty()) status.last_sync = time;
  const bool serves = kube::IsTrue(status.conditions, "Ready");
  stored->second = std::move(proxy);
  if (serves && bare_.contains(name)) SetReady(name, true);
}

// What the agent says of the kube-proxy that serves its node.
void FakeWorld::Observe(const FakeAgent& agent, const std::string& node, NodeProxy& proxy,
                        const std::string& time) {
  kube::NodeProxyStatus& status = proxy.status;
  const auto pod = kube_proxies.find(node);
  const bool up = pod != kube_proxies.end() && pod->second.ready;
  const std::string mode =
      up ? std::string(kube::ToString(ModeOfKubeProxyFile(pod->second.file))) : "";
  const bool good = mode == kube::ToString(proxy.spec.settings.mode) &&
                    !agent.fails.contains(proxy.spec.revision);
  status.active_mode = mode;
  status.impact.reset();
  if (!agent.drains_servers) status.prepared_revision = proxy.spec.revision;
  if (good) status.observed_revision = proxy.spec.revision;
  kube::SetCondition(status.conditions,
                     {"Ready", good ? ConditionStatus::kTrue : ConditionStatus::kFalse,
                      good ? "Serving" : "KubeProxyDoesNotServe", mode, "", proxy.generation},
                     time);
  kube::SetCondition(
      status.conditions,
      {"Degraded", agent.impatient && !good ? ConditionStatus::kTrue : ConditionStatus::kFalse,
       "AsObserved", "kube-proxy runs " + mode, "", proxy.generation},
      time);
}

void FakeWorld::StepAgents() {
  for (const auto& [name, agent] : agents)
    StepAgent(name);
}

int FakeWorld::Settle(const std::function<void()>& after_each_write) {
  const auto saved = after_write;
  if (after_each_write) after_write = after_each_write;
  constexpr int kMostRounds = 5000;
  for (int round = 0; round < kMostRounds; ++round) {
    const auto configurations_before = configurations;
    const auto proxies_before = proxies;
    const auto revisions_before = revisions;
    const auto nodes_before = nodes;
    const nlohmann::json set_before = kube_proxy_set;
    const auto pods_before = kube_proxies;
    const auto waiting_before = waiting_kube_proxies;
    const auto maps_before = config_maps;
    const auto sets_before = revision_sets;
    const Plan plan = MakePlan();
    Perform(plan);
    const bool quiet = configurations == configurations_before && proxies == proxies_before &&
                       revisions == revisions_before && nodes == nodes_before &&
                       kube_proxy_set == set_before && config_maps == maps_before &&
                       revision_sets == sets_before;
    const auto after_plan = proxies;
    std::map<std::string, kube::NodeProxyStatus> statuses;
    for (const auto& [name, proxy] : proxies)
      statuses[name] = proxy->status;
    StepAgents();
    bool agents_quiet = true;
    for (const auto& [name, proxy] : proxies) {
      agents_quiet = agents_quiet && proxy->status == statuses[name];
    }
    StepKubeProxy();
    if (!quiet || !agents_quiet || kube_proxies != pods_before ||
        waiting_kube_proxies != waiting_before)
      continue;
    if (!plan.wake_up) {
      after_write = saved;
      return round;
    }
    if (*plan.wake_up <= now) throw std::runtime_error("wakes up in the past: a hot loop");
    Advance(*plan.wake_up - now);
  }
  throw std::runtime_error("does not come to rest");
}

const ProxyConfiguration& FakeWorld::Configuration(const std::string& name) const {
  return *configurations.at(name);
}

const NodeProxy* FakeWorld::Proxy(const std::string& name) const {
  const auto found = proxies.find(name);
  return found == proxies.end() ? nullptr : found->second.get();
}

const kube::Condition& FakeWorld::ConditionOf(const std::string& configuration,
                                              const std::string& type) const {
  const kube::Condition* condition =
      FindCondition(configurations.at(configuration)->status.conditions, type);
  if (condition == nullptr) throw std::out_of_range(configuration + " has no condition " + type);
  return *condition;
}

size_t FakeWorld::InTransition() const {
  size_t count = 0;
  for (const auto& [name, proxy] : proxies) {
    const bool changing =
        proxy->spec.removed
            ? !proxy->status.active_mode.empty()
            : proxy->spec.revision > 0 && proxy->status.observed_revision != proxy->spec.revision;
    if (changing) ++count;
  }
  return count;
}

bool FakeWorld::HasEvent(const std::string& reason) const {
  return std::any_of(events.begin(), events.end(),
                     [&](const PlannedEvent& event) { return event.reason == reason; });
}

}  // namespace pointsman::op

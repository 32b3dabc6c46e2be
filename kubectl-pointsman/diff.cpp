#include "kubectl-pointsman/diff.h"

#include <algorithm>
#include <memory>
#include <optional>

#include <fmt/format.h>

#include "kubectl-pointsman/terminal.h"
#include "operator/plan/assignment.h"
#include "operator/plan/node_list.h"

namespace pointsman::plugin {
namespace {

using kube::ProxyConfiguration;
using nlohmann::json;

constexpr const char* kLastApplied = "kubectl.kubernetes.io/last-applied-configuration";

json LastApplied(const json& live) {
  const json::json_pointer annotations("/metadata/annotations");
  if (!live.contains(annotations)) return json::object();
  const json& all = live.at(annotations);
  const auto last = all.is_object() ? all.find(kLastApplied) : all.end();
  if (last == all.end() || !last->is_string()) return json::object();
  json parsed = json::parse(last->get_ref<const std::string&>(), nullptr, false);
  return parsed.is_object() ? parsed : json::object();
}

json MemberOr(const json& object, const char* key) {
  const auto member = object.is_object() ? object.find(key) : object.end();
  return member == object.end() ? json(nullptr) : *member;
}

void Merge(const json& before, const json& now, json& into) {
  if (before.is_object()) {
    for (const auto& [key, ignored] : before.items()) {
      if (!now.contains(key)) into.erase(key);
    }
  }
  for (const auto& [key, value] : now.items()) {
    if (value.is_object() && into.contains(key) && into.at(key).is_object()) {
      Merge(MemberOr(before, key.c_str()), value, into.at(key));
    } else {
      into[key] = value;
    }
  }
}

// What a node is to run, and by whose will.
struct Target {
  std::string configuration;
  kube::ProxySettings settings;
  kube::Provider provider = kube::Provider::kNodeAgent;
  bool operator==(const Target&) const = default;
};
using Targets = std::map<std::string, Target>;

// What its nodes get: of a revision, where the specification says to go back.
Target TargetOf(const ProxyConfiguration& configuration, const DiffInput& input) {
  if (const auto& back = configuration.spec.rollout.rollback_to) {
    for (const op::Revision& revision : input.revisions) {
      if (revision.number == *back && revision.owner_uid == configuration.uid)
        return {configuration.name, revision.settings, revision.provider};
    }
  }
  return {configuration.name, op::SettingsOf(configuration), configuration.spec.provider};
}

op::PlanInput PlanInputOf(const std::vector<ProxyConfiguration>& configurations,
                          const DiffInput& input) {
  op::PlanInput plan;
  for (const ProxyConfiguration& configuration : configurations) {
    auto of = std::make_shared<ProxyConfiguration>(configuration);
    // Who governs which node does not depend on it, and whether the operator can do it depends on
    // objects of kube-proxy's that need not be readable here.
    of->spec.provider = kube::Provider::kNodeAgent;
    plan.configurations.push_back(std::move(of));
  }
  for (const kube::Node& node : input.nodes)
    plan.nodes.push_back(std::make_shared<kube::Node>(node));
  for (const kube::NodeProxy& proxy : input.proxies)
    plan.node_proxies.push_back(std::make_shared<kube::NodeProxy>(proxy));
  plan.revisions = input.revisions;
  plan.now = input.now;
  return plan;
}

Targets TargetsOf(const std::vector<ProxyConfiguration>& configurations, const DiffInput& input) {
  std::optional<kube::TimePoint> ignored;
  Targets targets;
  for (const op::Group& group : Assign(PlanInputOf(configurations, input), ignored).groups) {
    // Its nodes stay as they are.
    if (!group.rejected_reason.empty()) continue;
    const auto of = std::find_if(
        configurations.begin(), configurations.end(),
        [&](const ProxyConfiguration& other) { return other.name == group.configuration->name; });
    for (const op::GovernedNode& node : group.nodes)
      targets[node.node->name] = TargetOf(*of, input);
  }
  return targets;
}

std::string WhatChanges(const kube::NodeProxy* proxy, const Target* after) {
  const bool runs = proxy != nullptr && proxy->spec.revision > 0 && !proxy->spec.removed;
  if (after == nullptr) {
    if (runs && proxy->spec.provider == kube::Provider::kKubeProxy)
      return "no ProxyConfiguration selects them any more: their kube-proxy runs what the "
             "cluster's "
             "own configuration says";
    return runs ? "no ProxyConfiguration selects them any more: Pointsman's rules are removed"
                : "no ProxyConfiguration selects them any more; nothing of Pointsman's runs there";
  }
  const std::string_view mode = kube::ToString(after->settings.mode);
  const bool configured = after->provider == kube::Provider::kKubeProxy;
  if (!runs)
    return configured ? fmt::format("their kube-proxy is to run {}", mode)
                      : fmt::format("begin with {}", mode);
  if (proxy->spec.provider != after->provider)
    return fmt::format("{}, served by {}", mode, configured ? "kube-proxy" : "Pointsman itself");
  if (proxy->spec.settings.mode != after->settings.mode)
    return fmt::format("{} -> {}", kube::ToString(proxy->spec.settings.mode), mode);
  if (!(proxy->spec.settings == after->settings))
    return fmt::format("stay with {}, with other settings", mode);
  return fmt::format("stay as they are, governed by {} instead of {}", after->configuration,
                     proxy->spec.configuration);
}

std::vector<NodeChange> NodeChanges(const Targets& before, const Targets& after,
                                    const DiffInput& input) {
  std::map<std::string, std::vector<std::string>> changes;
  std::map<std::string_view, const kube::NodeProxy*> proxies;
  for (const kube::NodeProxy& proxy : input.proxies)
    proxies[proxy.name] = &proxy;
  const auto find = [](const Targets& targets, const std::string& node) {
    const auto target = targets.find(node);
    return target == targets.end() ? nullptr : &target->second;
  };
  for (const kube::Node& node : input.nodes) {
    const Target* const from = find(before, node.name);
    const Target* const to = find(after, node.name);
    if ((from == nullptr && to == nullptr) || (from != nullptr && to != nullptr && *from == *to))
      continue;
    const auto proxy = proxies.find(node.name);
    changes[WhatChanges(proxy == proxies.end() ? nullptr : proxy->second, to)].push_back(node.name);
  }
  std::vector<NodeChange> list;
  list.reserve(changes.size());
  for (auto& [what, nodes] : changes)
    list.push_back({what, std::move(nodes)});
  return list;
}

// Of the nodes that it gets: those that say already that they cannot run it.
size_t CountUnable(const std::string& name, const Targets& after, const DiffInput& input) {
  size_t unable = 0;
  for (const kube::NodeProxy& proxy : input.proxies) {
    const auto target = after.find(proxy.name);
    if (target == after.end() || target->second.configuration != name) continue;
    for (const kube::ModePreflight& preflight : proxy.status.preflights) {
      if (preflight.mode == kube::ToString(target->second.settings.mode) && !preflight.passed)
        ++unable;
    }
  }
  return unable;
}

void AddNotes(const ProxyConfiguration& configuration, const ProxyConfiguration* before,
              const Targets& after, const DiffInput& input, ConfigurationDiff& diff) {
  const auto mode = kube::ToString(configuration.spec.settings.mode);
  if (configuration.spec.provider == kube::Provider::kKubeProxy)
    diff.notes.emplace_back(
        "with provider KubeProxy each node's kube-proxy restarts with another file, and its rules "
        "are not updated meanwhile (to nftables no Service answers until it has written them: "
        "docs/kube-proxy-provider.md)");
  if (configuration.spec.rollout.paused)
    diff.notes.emplace_back(
        "spec.rollout.paused is set: no node moves before `kubectl pointsman resume`");
  if (configuration.spec.rollout.rollback_to)
    diff.notes.push_back(fmt::format(
        "spec.rollout.rollbackTo is {}: the settings of that revision count, and not those above",
        *configuration.spec.rollout.rollback_to));
  if (const size_t unable = CountUnable(configuration.name, after, input); unable > 0)
    diff.notes.push_back(fmt::format(
        "{} cannot run {} as things are: `kubectl pointsman preflight --mode {}` says why",
        op::NodeCount(unable), mode, mode));
  if (before != nullptr && !diff.changes.empty() &&
      kube::IsTrue(before->status.conditions, "Progressing"))
    diff.notes.emplace_back("a rollout is under way, which this takes the place of");
}

}  // namespace

bool Diff::any() const {
  return std::any_of(
      configurations.begin(), configurations.end(),
      [](const ConfigurationDiff& diff) { return diff.is_new || !diff.changes.empty(); });
}

json Applied(const json& manifest, const json& live) {
  if (!live.is_object()) return manifest;
  json result = live;
  json now = {{"spec", MemberOr(manifest, "spec")}};
  if (!now["spec"].is_object()) now["spec"] = json::object();
  if (!result.contains("spec") || !result["spec"].is_object()) result["spec"] = json::object();
  Merge(MemberOr(LastApplied(live), "spec"), now["spec"], result["spec"]);
  return result;
}

Diff MakeDiff(const std::vector<Manifest>& manifests, const std::map<std::string, json>& live,
              const DiffInput& input) {
  std::vector<ProxyConfiguration> after = input.configurations;
  Diff diff;
  for (const Manifest& manifest : manifests) {
    const auto there = live.find(manifest.name);
    const json before = there == live.end() ? json(nullptr) : there->second;
    ProxyConfiguration wanted = kube::ProxyConfigurationFromJson(Applied(manifest.object, before));
    ConfigurationDiff of;
    of.name = manifest.name;
    of.place = manifest.place;
    of.is_new = before.is_null();
    if (of.is_new) {
      wanted.created = input.now;
      wanted.uid = "new";
    }
    const json old_spec =
        of.is_new ? json(nullptr) : kube::ToJson(kube::ProxyConfigurationFromJson(before).spec);
    if (!of.is_new) of.changes = Changes(old_spec, kube::ToJson(wanted.spec), "spec");
    const auto same =
        std::find_if(after.begin(), after.end(),
                     [&](const ProxyConfiguration& other) { return other.name == manifest.name; });
    if (same == after.end()) {
      after.push_back(std::move(wanted));
    } else {
      *same = std::move(wanted);
    }
    diff.configurations.push_back(std::move(of));
  }
  const Targets targets = TargetsOf(after, input);
  diff.nodes = NodeChanges(TargetsOf(input.configurations, input), targets, input);
  for (ConfigurationDiff& of : diff.configurations) {
    const auto by_name = [&](const ProxyConfiguration& other) { return other.name == of.name; };
    const auto before =
        std::find_if(input.configurations.begin(), input.configurations.end(), by_name);
    AddNotes(*std::find_if(after.begin(), after.end(), by_name),
             before == input.configurations.end() ? nullptr : &*before, targets, input, of);
  }
  return diff;
}

std::string DiffText(const Diff& diff) {
  std::string text;
  for (const ConfigurationDiff& of : diff.configurations) {
    std::string what = "is new";
    if (!of.is_new) {
      what = of.changes.empty()
                 ? "no change"
                 : fmt::format("{} field{}", of.changes.size(), of.changes.size() == 1 ? "" : "s");
    }
    text += fmt::format("ProxyConfiguration {} ({}): {}\n", Line(of.name), Line(of.place), what);
    Table table;
    for (const SettingChange& change : of.changes)
      table.Add({change.path, fmt::format("{} -> {}", change.before.empty() ? "-" : change.before,
                                          change.after.empty() ? "-" : change.after)});
    text += table.Text("  ");
    for (const std::string& note : of.notes)
      text += "  Note: " + Line(note) + "\n";
  }
  if (diff.nodes.empty()) text += "No node changes.\n";
  for (const NodeChange& change : diff.nodes)
    text += fmt::format("{}: {} ({})\n", op::NodeCount(change.nodes.size()), Line(change.what),
                        Line(op::NodeList(change.nodes)));
  return text;
}

json DiffJson(const Diff& diff) {
  json configurations = json::array();
  for (const ConfigurationDiff& of : diff.configurations) {
    json changes = json::array();
    for (const SettingChange& change : of.changes)
      changes.push_back(
          {{"path", change.path}, {"before", change.before}, {"after", change.after}});
    configurations.push_back({{"name", of.name},
                              {"place", of.place},
                              {"isNew", of.is_new},
                              {"changes", std::move(changes)},
                              {"notes", of.notes}});
  }
  json nodes = json::array();
  for (const NodeChange& change : diff.nodes)
    nodes.push_back({{"what", change.what}, {"nodes", change.nodes}});
  return {{"configurations", std::move(configurations)}, {"nodes", std::move(nodes)}};
}

}  // namespace pointsman::plugin

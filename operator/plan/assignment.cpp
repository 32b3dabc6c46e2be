#include "operator/plan/assignment.h"

#include <algorithm>

#include "operator/plan/kube_proxy_provider.h"

namespace pointsman::op {
namespace {

using kube::ProxyConfiguration;

void Reject(Group& group, const PlanInput& input, const KubeProxyProvider& provider) {
  const ProxyConfiguration& configuration = *group.configuration;
  if (!configuration.errors.empty()) {
    group.rejected_reason = "InvalidSpec";
    group.rejected_message = kube::Summarize(configuration.errors);
    return;
  }
  if (configuration.spec.provider == kube::Provider::kKubeProxy && !configuration.deleting) {
    if (auto why = provider.WhyNot(configuration)) {
      group.rejected_reason = std::move(why->reason);
      group.rejected_message = std::move(why->message);
      return;
    }
  }
  if (const auto& wanted = configuration.spec.rollout.rollback_to) {
    const auto& revisions = input.revisions;
    const bool there = std::any_of(revisions.begin(), revisions.end(), [&](const Revision& r) {
      return r.number == *wanted && r.owner_uid == configuration.uid;
    });
    if (there) return;
    group.rejected_reason = "RevisionNotFound";
    group.rejected_message = "spec.rollout.rollbackTo: there is no revision " +
                             std::to_string(*wanted) + " of this ProxyConfiguration";
  }
}

bool WinsOver(const Group* a, const Group* b) {
  const ProxyConfiguration& left = *a->configuration;
  const ProxyConfiguration& right = *b->configuration;
  if (left.spec.priority != right.spec.priority) return left.spec.priority > right.spec.priority;
  if (left.created != right.created) return left.created < right.created;
  return left.name < right.name;
}

}  // namespace

Assignment Assign(const PlanInput& input, std::optional<kube::TimePoint>& wake_up) {
  Assignment assignment;
  const KubeProxyProvider provider(input);
  assignment.groups.resize(input.configurations.size());
  for (size_t i = 0; i < input.configurations.size(); ++i) {
    assignment.groups[i].configuration = input.configurations[i];
    Reject(assignment.groups[i], input, provider);
  }
  std::sort(assignment.groups.begin(), assignment.groups.end(), [](const Group& a, const Group& b) {
    return a.configuration->name < b.configuration->name;
  });
  std::unordered_map<std::string_view, Group*> by_name;
  std::vector<Group*> contenders;
  for (Group& group : assignment.groups) {
    by_name[group.configuration->name] = &group;
    if (group.rejected_reason.empty() && !group.configuration->deleting) {
      contenders.push_back(&group);
    }
  }
  std::sort(contenders.begin(), contenders.end(), WinsOver);

  std::unordered_map<std::string_view, std::shared_ptr<const kube::NodeProxy>> proxies;
  for (const auto& proxy : input.node_proxies)
    proxies[proxy->name] = proxy;
  std::vector<std::shared_ptr<const kube::Node>> nodes = input.nodes;
  std::sort(nodes.begin(), nodes.end(),
            [](const auto& a, const auto& b) { return a->name < b->name; });

  const AgentNodes agents(input.agent_pods, input.agent_daemon_sets);
  for (const auto& node : nodes) {
    std::shared_ptr<const kube::NodeProxy> proxy;
    if (const auto found = proxies.find(node->name); found != proxies.end()) {
      // One that a Node of the same name left behind is not this Node's.
      const bool of_this_node =
          found->second->node_uid.empty() || found->second->node_uid == node->uid;
      if (of_this_node) {
        proxy = found->second;
        proxies.erase(found);
      }
    }
    Group* owner = nullptr;
    if (proxy) {
      const auto found = by_name.find(proxy->spec.configuration);
      if (found != by_name.end()) owner = found->second;
    }
    const bool frozen =
        owner != nullptr && !owner->rejected_reason.empty() && !owner->configuration->deleting;
    Group* winner = frozen ? owner : nullptr;
    for (Group* contender : contenders) {
      if (!contender->configuration->spec.node_selector.Matches(node->labels)) continue;
      ++contender->selected;
      if (winner == nullptr) {
        winner = contender;
      } else if (winner != contender) {
        ++contender->lost_to[winner->configuration->name];
      }
    }
    std::optional<NoAgent> no_agent;
    if (winner != nullptr) no_agent = agents.WhyNot(*node, proxy.get(), input.now, wake_up);
    if (no_agent) {
      const bool leaves = proxy && no_agent->impossible;
      if (leaves) (owner != nullptr ? owner : winner)->leaving.push_back({node, proxy});
      winner->without_agent.push_back({{node, proxy}, std::move(*no_agent)});
    } else if (winner != nullptr) {
      // A node that is being deleted is not taken over any more.
      if (proxy || !node->deleting) winner->nodes.push_back({node, proxy});
    } else if (owner != nullptr) {
      owner->leaving.push_back({node, proxy});
    } else if (proxy) {
      assignment.without_configuration.push_back({node, proxy});
    }
  }
  for (const auto& [name, proxy] : proxies)
    assignment.without_node.push_back(proxy);
  std::sort(assignment.without_node.begin(), assignment.without_node.end(),
            [](const auto& a, const auto& b) { return a->name < b->name; });
  return assignment;
}

}  // namespace pointsman::op

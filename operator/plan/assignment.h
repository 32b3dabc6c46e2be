// Which ProxyConfiguration governs which node.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "operator/plan/agent_nodes.h"
#include "operator/plan/input.h"

namespace pointsman::op {

struct GovernedNode {
  std::shared_ptr<const kube::Node> node;
  std::shared_ptr<const kube::NodeProxy> proxy;  // null: not made yet
};

struct Group {
  std::shared_ptr<const kube::ProxyConfiguration> configuration;
  // Why this operator does not act on the specification; empty: it does. The nodes of a
  // configuration that became invalid stay with it, and stay as they are: a slip in an edit must
  // not take rules away.
  std::string rejected_reason;  // CamelCase
  std::string rejected_message;
  std::vector<GovernedNode> nodes;  // by name
  // NodeProxies of this configuration that no configuration wants any more.
  std::vector<GovernedNode> leaving;  // by name
  int64_t selected = 0;               // nodes its selector matches
  // Of them, how many each other configuration has won.
  std::map<std::string, int64_t> lost_to;
  // Of the selected that no other has won: those that run no agent of ours, by name. They do not
  // count. Where one could run all the same it is asked, and counts once it answers.
  struct WithoutAgent {
    GovernedNode node;
    NoAgent reason;
  };
  std::vector<WithoutAgent> without_agent;
};

struct Assignment {
  std::vector<Group> groups;  // by name of the configuration
  // NodeProxies whose Node is gone (to be deleted), and whose configuration is (to be removed).
  std::vector<std::shared_ptr<const kube::NodeProxy>> without_node;
  std::vector<GovernedNode> without_configuration;
};

// The highest priority wins a node; among equals the oldest, then the first by name.
// `wake_up`: when that may be another without any change.
Assignment Assign(const PlanInput& input, std::optional<kube::TimePoint>& wake_up);

}  // namespace pointsman::op

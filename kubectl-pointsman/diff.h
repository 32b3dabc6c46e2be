// kubectl pointsman diff: what a file would change, and on how many nodes.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "kube/objects/node.h"
#include "kube/pointsman/node_proxy.h"
#include "kube/pointsman/proxy_configuration.h"
#include "kube/time/rfc3339.h"
#include "kubectl-pointsman/history.h"
#include "kubectl-pointsman/manifest_file.h"
#include "operator/plan/revision.h"

namespace pointsman::plugin {

// What becomes of nodes, by the operator's own choice of who governs which node.
struct NodeChange {
  std::string what;  // "iptables -> ipvs"
  std::vector<std::string> nodes;
};

struct ConfigurationDiff {
  std::string name;
  std::string place;
  bool is_new = false;
  std::vector<SettingChange> changes;  // of the specification, with defaults
  std::vector<std::string> notes;      // what there is to know besides
};

struct Diff {
  std::vector<ConfigurationDiff> configurations;
  std::vector<NodeChange> nodes;
  // There is something to apply.
  bool any() const;
};

struct DiffInput {
  std::vector<kube::ProxyConfiguration> configurations;
  std::vector<op::Revision> revisions;
  std::vector<kube::Node> nodes;
  std::vector<kube::NodeProxy> proxies;
  kube::TimePoint now{};
};

// The object as `kubectl apply` leaves it: what it set the last time (its annotation) and does not
// set now goes, what somebody else has set stays.
nlohmann::json Applied(const nlohmann::json& manifest, const nlohmann::json& live);

// `live`: the objects of the manifests' names, null for those that are not there.
Diff MakeDiff(const std::vector<Manifest>& manifests,
              const std::map<std::string, nlohmann::json>& live, const DiffInput& input);
std::string DiffText(const Diff& diff);
nlohmann::json DiffJson(const Diff& diff);

}  // namespace pointsman::plugin

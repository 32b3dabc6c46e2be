// kubectl pointsman explain NODE: why a node is as it is, in sentences.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "kube/objects/node.h"
#include "kube/objects/pod.h"
#include "kube/pointsman/node_proxy.h"
#include "kube/pointsman/proxy_configuration.h"
#include "kube/time/rfc3339.h"
#include "kubectl-pointsman/api.h"
#include "kubectl-pointsman/exit_code.h"

namespace pointsman::plugin {

struct ExplainInput {
  std::string name;
  std::optional<kube::Node> node;        // nullopt: not there, or not allowed to look
  std::optional<kube::NodeProxy> proxy;  // nullopt: there is none
  std::optional<kube::ProxyConfiguration> configuration;  // that governs it
  // With provider KubeProxy: kube-proxy's Pods on the node, or made for it.
  std::optional<std::vector<kube::Pod>> kube_proxy_pods;
  std::vector<Event> events;          // that speak of it, the last one last
  std::vector<std::string> not_read;  // "Events: …": what was not allowed
  kube::TimePoint now{};
};

struct Finding {
  bool trouble = false;
  std::string text;    // a sentence or two
  std::string remedy;  // "": there is nothing to do
};

struct Explanation {
  std::vector<Finding> findings;
  ExitCode outcome = ExitCode::kOk;  // as the node stands; a fallback is kObjections
};

Explanation Explain(const ExplainInput& input);
std::string ExplanationText(const ExplainInput& input, const Explanation& explanation);
nlohmann::json ExplanationJson(const ExplainInput& input, const Explanation& explanation);

}  // namespace pointsman::plugin

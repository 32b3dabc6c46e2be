// Gives Pods their node (kube-scheduler): required node affinity, nodeSelector, taints,
// unschedulable nodes, host ports, required pod affinity and anti-affinity; among the nodes left,
// the one with the fewest Pods of the same owner, then the fewest Pods. The highest priority goes
// first. Not done: resources, preemption, preferences, topology spread (such a Pod stays Pending
// and says so).
#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "e2e/control-plane/controllers/controller.h"
#include "e2e/control-plane/controllers/placement.h"
#include "e2e/control-plane/controllers/pods.h"

namespace pointsman::e2e {
namespace {

constexpr const char* kRequired = "requiredDuringSchedulingIgnoredDuringExecution";
constexpr const char* kNotSelected = "node(s) didn't match Pod's node affinity/selector";

const std::string kOnlyKey = "/";  // one pass places them all

std::vector<std::pair<std::string, std::string>> LabelsOf(const Json& object) {
  std::vector<std::pair<std::string, std::string>> labels;
  const Json map = object["metadata"].value("labels", Json::object());
  for (const auto& [key, value] : map.items())
    labels.emplace_back(key, value);
  return labels;
}

// protocol, port and address it claims of its node.
std::vector<std::tuple<std::string, int64_t, std::string>> HostPorts(const Json& pod) {
  std::vector<std::tuple<std::string, int64_t, std::string>> ports;
  for (const Json& container : pod["spec"].value("containers", Json::array())) {
    for (const Json& port : container.value("ports", Json::array())) {
      if (const int64_t number = port.value("hostPort", int64_t{0}); number > 0)
        ports.emplace_back(port.value("protocol", "TCP"), number, port.value("hostIP", ""));
    }
  }
  return ports;
}

bool PortsConflict(const Json& a, const Json& b) {
  for (const auto& [protocol, port, ip] : HostPorts(a)) {
    for (const auto& [other_protocol, other_port, other_ip] : HostPorts(b)) {
      if (protocol == other_protocol && port == other_port &&
          (ip == other_ip || ip.empty() || other_ip.empty()))
        return true;
    }
  }
  return false;
}

Json AffinityTerms(const Json& pod, const char* kind) {
  const Json affinity = pod["spec"].value("affinity", Json::object());
  return affinity.value(kind, Json::object()).value(kRequired, Json::array());
}

bool TermSelects(const Json& term, const Json& owner_of_term, const Json& pod) {
  const std::string ns = pod["metadata"]["namespace"];
  const Json namespaces = term.value("namespaces", Json::array());
  const bool in_namespace =
      namespaces.empty() ? ns == owner_of_term["metadata"]["namespace"]
                         : std::find(namespaces.begin(), namespaces.end(), ns) != namespaces.end();
  return in_namespace && SelectorMatches(term.value("labelSelector", Json()), LabelsOf(pod));
}

class Scheduler : public Controller {
 public:
  explicit Scheduler(Store& store) : Controller("scheduler"), store_(store) {}

  bool Watches(const ResourceName& resource) const override {
    return resource == "pods" || resource == "nodes";
  }

  void OnEvent(const ResourceName& resource, const ObjectPtr& previous,
               const ObjectPtr& now) override {
    const StoredObject& object = now ? *now : *previous;
    std::map<std::string, Json>& known = resource == "pods" ? pods_ : nodes_;
    const std::string key = JoinKey(object.ns, object.name);
    if (!now) {
      known.erase(key);
    } else {
      known[key] = now->Parse();
    }
    if (std::any_of(pods_.begin(), pods_.end(),
                    [](const auto& item) { return Waits(item.second); }))
      Enqueue(kOnlyKey);
  }

  void Sync(const std::string& /*key*/) override {
    std::vector<std::string> waiting;
    for (const auto& [key, pod] : pods_) {
      if (Waits(pod)) waiting.push_back(key);
    }
    std::stable_sort(waiting.begin(), waiting.end(), [this](const auto& a, const auto& b) {
      const auto rank = [this](const std::string& key) {
        const Json& pod = pods_.at(key);
        return std::make_pair(-pod["spec"].value("priority", int64_t{0}),
                              pod["metadata"].value("creationTimestamp", ""));
      };
      return rank(a) < rank(b);
    });
    for (const std::string& key : waiting)
      Place(key);
  }

 private:
  static bool Waits(const Json& pod) {
    return pod["spec"].value("nodeName", "").empty() &&
           pod["spec"].value("schedulerName", "default-scheduler") == "default-scheduler" &&
           pod["spec"].value("schedulingGates", Json::array()).empty() && !IsTerminating(pod) &&
           !HasEnded(pod);
  }

  std::vector<const Json*> PodsIn(const std::string& topology_key, const std::string& value) const {
    std::vector<const Json*> result;
    for (const auto& [key, pod] : pods_) {
      const auto node = nodes_.find(JoinKey("", pod["spec"].value("nodeName", "")));
      if (node == nodes_.end() || HasEnded(pod)) continue;
      const Json labels = node->second["metadata"].value("labels", Json::object());
      if (labels.contains(topology_key) && labels[topology_key] == value) result.push_back(&pod);
    }
    return result;
  }

  // "": the Pod may run there.
  std::string Obstacle(const Json& pod, const Json& node) const {
    const Json& spec = pod["spec"];
    const Json tolerations = spec.value("tolerations", Json::array());
    const Json labels = node["metadata"].value("labels", Json::object());
    const std::string name = node["metadata"]["name"];
    if (node.value("/spec/unschedulable"_json_pointer, false)) {
      const Json marked = {
          {"spec",
           {{"taints",
             {{{"key", "node.kubernetes.io/unschedulable"}, {"effect", "NoSchedule"}}}}}}};
      if (!UntoleratedTaint(tolerations, marked).is_null()) return "node(s) were unschedulable";
    }
    if (const Json taint = UntoleratedTaint(tolerations, node); !taint.is_null()) {
      return "node(s) had untolerated taint {" + taint.value("key", "") + ": " +
             taint.value("value", "") + "}";
    }
    if (!SelectsNode(spec, node)) return kNotSelected;
    for (const auto& [key, other] : pods_) {
      if (other["spec"].value("nodeName", "") == name && !HasEnded(other) &&
          PortsConflict(pod, other))
        return "node(s) didn't have free ports for the requested pod ports";
    }
    for (const Json& term : AffinityTerms(pod, "podAntiAffinity")) {
      const std::string key = term.value("topologyKey", "");
      if (!labels.contains(key)) continue;
      for (const Json* other : PodsIn(key, labels[key])) {
        if (TermSelects(term, pod, *other)) return "node(s) didn't match pod anti-affinity rules";
      }
    }
    for (const auto& [other_key, other] : pods_) {
      for (const Json& term : AffinityTerms(other, "podAntiAffinity")) {
        const std::string key = term.value("topologyKey", "");
        if (!labels.contains(key) || !TermSelects(term, other, pod)) continue;
        const auto inside = PodsIn(key, labels[key]);
        if (std::find(inside.begin(), inside.end(), &other) != inside.end())
          return "node(s) didn't satisfy existing pods anti-affinity rules";
      }
    }
    for (const Json& term : AffinityTerms(pod, "podAffinity")) {
      const std::string key = term.value("topologyKey", "");
      const auto selected = [&](const Json& other) { return TermSelects(term, pod, other); };
      // The first of a group that wants to be together has nobody to join.
      const bool first = selected(pod) && std::none_of(pods_.begin(), pods_.end(), [&](auto& item) {
                           return !Waits(item.second) && selected(item.second);
                         });
      const auto inside =
          labels.contains(key) ? PodsIn(key, labels[key]) : std::vector<const Json*>();
      const bool joins = std::any_of(inside.begin(), inside.end(),
                                     [&](const Json* other) { return selected(*other); });
      if (!labels.contains(key) || !(joins || first))
        return "node(s) didn't match pod affinity rules";
    }
    return "";
  }

  void Place(const std::string& key) {
    Json& pod = pods_.at(key);
    const auto [ns, name] = SplitKey(key);
    std::map<std::string, int> obstacles;
    std::optional<std::tuple<int64_t, int64_t, std::string>> best;
    const bool spread = !pod["spec"].value("topologySpreadConstraints", Json::array()).empty();
    const std::string asked_for = NodeAskedFor(pod["spec"]);
    for (const auto& [node_key, node] : nodes_) {
      if (!asked_for.empty() && node["metadata"]["name"] != asked_for) {
        ++obstacles[kNotSelected];
        continue;
      }
      const std::string obstacle = spread
                                       ? "node(s): topologySpreadConstraints are not supported here"
                                       : Obstacle(pod, node);
      if (!obstacle.empty()) {
        ++obstacles[obstacle];
        continue;
      }
      const std::string node_name = node["metadata"]["name"];
      int64_t siblings = 0;
      int64_t all = 0;
      for (const auto& [other_key, other] : pods_) {
        if (other["spec"].value("nodeName", "") != node_name || HasEnded(other)) continue;
        ++all;
        if (other["metadata"].value("ownerReferences", Json()) ==
            pod["metadata"].value("ownerReferences", Json::array()))
          ++siblings;
      }
      const auto score = std::make_tuple(siblings, all, node_name);
      if (!best || score < *best) best = score;
    }
    if (best) {
      pod["spec"]["nodeName"] = std::get<2>(*best);  // counted at once for those after it
      store_.Modify("pods", ns, name, [&](Json& object) {
        if (!Waits(object)) return false;
        object["spec"]["nodeName"] = std::get<2>(*best);
        SetCondition(object, "PodScheduled", "True", "", "");
        return true;
      });
      return;
    }
    std::string message = fmt::format("0/{} nodes are available", nodes_.size());
    const char* separator = ": ";
    for (const auto& [text, count] : obstacles) {
      message += fmt::format("{}{} {}", separator, count, text);
      separator = ", ";
    }
    message += ".";
    store_.Modify("pods", ns, name, [&](Json& object) {
      return Waits(object) &&
             SetCondition(object, "PodScheduled", "False", "Unschedulable", message);
    });
  }

  Store& store_;
  std::map<std::string, Json> pods_;
  std::map<std::string, Json> nodes_;
};

}  // namespace

std::unique_ptr<Controller> MakeScheduler(Store& store) {
  return std::make_unique<Scheduler>(store);
}

}  // namespace pointsman::e2e

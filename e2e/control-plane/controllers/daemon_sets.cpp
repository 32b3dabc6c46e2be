// One Pod for each node that a DaemonSet is for (kube-controller-manager, pkg/controller/daemon):
// made for its node by a required affinity to the node's name, and bound by the scheduler. Pods
// without a controller whose labels the selector takes are adopted, and those whose labels it takes
// no more are let go. Not done: maxSurge, minReadySeconds, ControllerRevisions.
#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "e2e/control-plane/controllers/controller.h"
#include "e2e/control-plane/controllers/placement.h"
#include "e2e/control-plane/controllers/pods.h"

namespace pointsman::e2e {
namespace {

constexpr const char* kDaemonSets = "apps/daemonsets";
constexpr const char* kHash = "controller-revision-hash";

// What every pod of a DaemonSet tolerates (kubernetes.io: DaemonSet, taints and tolerations).
Json Tolerations(const Json& spec) {
  Json tolerations = spec.value("tolerations", Json::array());
  auto add = [&tolerations](const char* key, const char* effect) {
    tolerations.push_back({{"key", std::string("node.kubernetes.io/") + key},
                           {"operator", "Exists"},
                           {"effect", effect}});
  };
  add("not-ready", "NoExecute");
  add("unreachable", "NoExecute");
  add("disk-pressure", "NoSchedule");
  add("memory-pressure", "NoSchedule");
  add("pid-pressure", "NoSchedule");
  add("unschedulable", "NoSchedule");
  if (spec.value("hostNetwork", false)) add("network-unavailable", "NoSchedule");
  return tolerations;
}

bool RunsOn(const Json& spec, const Json& node) {
  return SelectsNode(spec, node) && UntoleratedTaint(Tolerations(spec), node).is_null();
}

// The node that it was made for, bound to it yet or not; "": none.
std::string TargetNode(const Json& pod) {
  const std::string bound = pod["spec"].value("nodeName", "");
  return bound.empty() ? NodeAskedFor(pod["spec"]) : bound;
}

// Whether `a` is the one to stay where there are both: the one that the scheduler has bound, then
// the oldest.
bool StaysBefore(const Json& a, const Json& b) {
  const auto rank = [](const Json& pod) {
    return std::make_tuple(pod["spec"].value("nodeName", "").empty(),
                           pod["metadata"].value("creationTimestamp", ""),
                           pod["metadata"].value("name", ""));
  };
  return rank(a) < rank(b);
}

bool HasController(const Json& pod) {
  const Json owners = pod["metadata"].value("ownerReferences", Json::array());
  return std::any_of(owners.begin(), owners.end(),
                     [](const Json& owner) { return owner.value("controller", false); });
}

bool Selects(const Json& set, const std::vector<std::pair<std::string, std::string>>& labels) {
  return SelectorMatches(set["spec"].value("selector", Json()), labels);
}

// What its status counts.
struct Counts {
  int64_t wanted = 0;
  int64_t scheduled = 0;
  int64_t misscheduled = 0;
  int64_t ready = 0;
  int64_t updated = 0;

  Json Status(const Json& set) const {
    Json status = {{"currentNumberScheduled", scheduled},
                   {"numberMisscheduled", misscheduled},
                   {"desiredNumberScheduled", wanted},
                   {"numberReady", ready},
                   {"numberAvailable", ready},
                   {"updatedNumberScheduled", updated},
                   {"observedGeneration", set["metadata"].value("generation", 0)}};
    if (wanted > ready) status["numberUnavailable"] = wanted - ready;
    return status;
  }
};

class DaemonSetController : public Controller {
 public:
  DaemonSetController(Store& store, Registry& registry)
      : Controller("daemonset"), store_(store), registry_(registry) {}

  bool Watches(const ResourceName& resource) const override {
    return resource == kDaemonSets || resource == "pods" || resource == "nodes";
  }

  void OnEvent(const ResourceName& resource, const ObjectPtr& previous,
               const ObjectPtr& now) override {
    const StoredObject& object = now ? *now : *previous;
    if (resource == kDaemonSets) {
      const std::string key = JoinKey(object.ns, object.name);
      if (now) {
        known_[key] = now->Parse();
        Enqueue(key);
      } else {
        known_.erase(key);
      }
    } else if (resource == "nodes") {
      OnNode(object.name, now);
    } else {
      for (const ObjectPtr& state : {previous, now}) {
        if (state) OnPod(*state);
      }
    }
  }

  void Sync(const std::string& key) override {
    const auto [ns, name] = SplitKey(key);
    const ObjectPtr stored = store_.Get(kDaemonSets, ns, name);
    if (!stored) return;  // its pods go by garbage collection
    const Json set = stored->Parse();
    if (IsTerminating(set)) return;
    const std::string hash = HashOf(set["spec"]["template"]);

    Counts counts;
    std::vector<Json> outdated;
    int64_t unavailable = 0;
    std::map<std::string, std::vector<Json>> by_node;
    for (Json& pod : Claim(set)) {
      if (const std::string node = TargetNode(pod); !node.empty())
        by_node[node].push_back(std::move(pod));
    }
    for (const auto& node : store_.List("nodes").objects) {
      if (!RunsOn(set["spec"]["template"]["spec"], node->Parse())) continue;
      ++counts.wanted;
      const auto there = by_node.extract(node->name);
      const Json kept = Manage(set, node->name, hash, there ? there.mapped() : std::vector<Json>());
      if (!kept.is_null()) Count(kept, hash, counts, unavailable, outdated);
      if (kept.is_null()) ++unavailable;
    }
    for (const auto& [node, pods] : by_node) {
      ++counts.misscheduled;
      for (const Json& pod : pods)
        DeletePod(store_, registry_, pod);
    }
    ReplaceOutdated(set["spec"].value("updateStrategy", Json::object()), outdated, counts.wanted,
                    unavailable);
    store_.Modify(kDaemonSets, ns, name, [&](Json& object) {
      Json status = counts.Status(set);
      if (object.value("status", Json::object()) == status) return false;
      object["status"] = std::move(status);
      return true;
    });
  }

 private:
  void OnNode(const std::string& name, const ObjectPtr& now) {
    if (now) {
      Json node = now->Parse();
      Json relevant = {node["metadata"].value("labels", Json::object()),
                       node.value("spec", Json::object()).value("taints", Json::array())};
      auto [it, added] = nodes_.emplace(name, Json());
      if (!added && it->second == relevant) return;  // a heartbeat
      it->second = std::move(relevant);
    } else {
      nodes_.erase(name);
    }
    for (const auto& [key, set] : known_)
      Enqueue(key);
  }

  // Its DaemonSet's, or, where it has no controller, all that would take it.
  void OnPod(const StoredObject& pod) {
    if (const std::string key = ControllerKey(pod, "DaemonSet"); !key.empty()) {
      Enqueue(key);
      return;
    }
    for (const auto& [key, set] : known_) {
      if (SplitKey(key).first == pod.ns && Selects(set, pod.labels)) Enqueue(key);
    }
  }

  // Its Pods, after others have been adopted and let go (controller_ref_manager.go).
  std::vector<Json> Claim(const Json& set) {
    const std::string ns = set["metadata"]["namespace"];
    std::vector<Json> claimed;
    for (const ObjectPtr& stored : store_.List("pods", ns).objects) {
      const bool selected = Selects(set, stored->labels);
      const bool owned =
          stored->json.find(set["metadata"]["uid"].get<std::string>()) != std::string::npos;
      if (!selected && !owned) continue;
      Json pod = stored->Parse();
      const bool ours = IsControlledBy(pod, set);
      if (ours && !selected && !IsTerminating(pod)) {
        LetGo(set, pod);
      } else if (ours) {
        claimed.push_back(std::move(pod));
      } else if (selected && !HasController(pod) && !IsTerminating(pod)) {
        if (Json adopted = Adopt(set, pod); !adopted.is_null())
          claimed.push_back(std::move(adopted));
      }
    }
    return claimed;
  }

  // Null: somebody else was faster.
  Json Adopt(const Json& set, const Json& pod) {
    bool adopted = false;
    const ObjectPtr now =
        store_.Modify("pods", pod["metadata"]["namespace"].get<std::string>(),
                      pod["metadata"]["name"].get<std::string>(), [&](Json& object) {
                        adopted = object["metadata"]["uid"] == pod["metadata"]["uid"] &&
                                  !HasController(object) && !IsTerminating(object);
                        if (adopted)
                          object["metadata"]["ownerReferences"].push_back(ControllerReference(set));
                        return adopted;
                      });
    return adopted && now ? now->Parse() : Json();
  }

  void LetGo(const Json& set, const Json& pod) {
    store_.Modify("pods", pod["metadata"]["namespace"].get<std::string>(),
                  pod["metadata"]["name"].get<std::string>(), [&](Json& object) {
                    if (object["metadata"]["uid"] != pod["metadata"]["uid"]) return false;
                    return DropOwner(object, set["metadata"]["uid"].get<std::string>());
                  });
  }

  // One Pod on a node that it is for, and none that has ended. Returns the one that stays; null
  // while there is none, or one has just been made.
  Json Manage(const Json& set, const std::string& node, const std::string& hash,
              const std::vector<Json>& pods) {
    std::vector<const Json*> running;
    bool going = false;
    for (const Json& pod : pods) {
      going = going || IsTerminating(pod);
      if (IsTerminating(pod)) continue;
      if (HasEnded(pod)) {
        DeletePod(store_, registry_, pod);
      } else {
        running.push_back(&pod);
      }
    }
    if (running.empty()) {
      if (!going) Create(set, node, hash);
      return nullptr;
    }
    std::sort(running.begin(), running.end(),
              [](const Json* a, const Json* b) { return StaysBefore(*a, *b); });
    std::for_each(running.begin() + 1, running.end(),
                  [this](const Json* pod) { DeletePod(store_, registry_, *pod); });
    return *running.front();
  }

  static void Count(const Json& pod, const std::string& hash, Counts& counts, int64_t& unavailable,
                    std::vector<Json>& outdated) {
    ++counts.scheduled;
    if (IsReady(pod)) {
      ++counts.ready;
    } else {
      ++unavailable;
    }
    if (pod["metadata"].value("labels", Json::object()).value(kHash, "") == hash) {
      ++counts.updated;
    } else {
      outdated.push_back(pod);
    }
  }

  // `wanted`: on how many nodes it is to run; `unavailable`: on how many of them it does not.
  void ReplaceOutdated(const Json& strategy, std::vector<Json>& outdated, int64_t wanted,
                       int64_t unavailable) {
    if (strategy.value("type", "RollingUpdate") != "RollingUpdate") return;
    const Json rolling = strategy.value("rollingUpdate", Json::object());
    const int64_t allowed = Share(rolling.value("maxUnavailable", Json(1)), wanted, true);
    // What is down already costs nothing to replace.
    std::stable_partition(outdated.begin(), outdated.end(),
                          [](const Json& pod) { return !IsReady(pod); });
    for (const Json& pod : outdated) {
      const bool down = !IsReady(pod);
      if (!down && unavailable >= allowed) break;
      if (!down) ++unavailable;
      DeletePod(store_, registry_, pod);
    }
  }

  void Create(const Json& set, const std::string& node, const std::string& hash) {
    const Json& pod_template = set["spec"]["template"];
    Json pod = PodFromTemplate(set, pod_template);
    pod["metadata"]["labels"][kHash] = hash;
    pod["metadata"]["labels"]["pod-template-generation"] =
        std::to_string(set["metadata"].value("generation", 1));
    // In place of what the template asks of nodes, which this one has been found to have.
    pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = {
        {"nodeSelectorTerms",
         {{{"matchFields",
            {{{"key", "metadata.name"}, {"operator", "In"}, {"values", {node}}}}}}}}};
    pod["spec"]["tolerations"] = Tolerations(pod_template["spec"]);
    CreatePod(store_, registry_, std::move(pod));
  }

  Store& store_;
  Registry& registry_;
  std::map<std::string, Json> known_;  // DaemonSets
  std::map<std::string, Json> nodes_;
};

}  // namespace

std::unique_ptr<Controller> MakeDaemonSetController(Store& store, Registry& registry) {
  return std::make_unique<DaemonSetController>(store, registry);
}

}  // namespace pointsman::e2e

// One pod per matching node, as the DaemonSet controller places them: pods get their spec.nodeName
// at once instead of a node affinity for the scheduler.
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
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
    std::string key = JoinKey(object.ns, object.name);
    if (resource == kDaemonSets) {
      if (now) {
        known_.insert(key);
        Enqueue(key);
      } else {
        known_.erase(key);
      }
    } else if (resource == "nodes") {
      if (now) {
        Json node = now->Parse();
        Json relevant = {node["metadata"].value("labels", Json::object()),
                         node.value("spec", Json::object()).value("taints", Json::array())};
        auto [it, added] = nodes_.emplace(object.name, Json());
        if (!added && it->second == relevant) return;  // a heartbeat
        it->second = std::move(relevant);
      } else {
        nodes_.erase(object.name);
      }
      for (const auto& set : known_)
        Enqueue(set);
    } else {
      Json meta = object.Parse()["metadata"];
      for (const auto& owner : meta.value("ownerReferences", Json::array())) {
        if (owner.value("kind", "") != "DaemonSet" || !owner.value("controller", false)) continue;
        std::string set = JoinKey(object.ns, owner.value("name", ""));
        if (now) {
          pods_[set].insert(object.name);
        } else {
          pods_[set].erase(object.name);
        }
        Enqueue(set);
      }
    }
  }

  void Sync(const std::string& key) override {
    auto [ns, name] = SplitKey(key);
    ObjectPtr stored = store_.Get(kDaemonSets, ns, name);
    if (!stored) return;  // its pods go by garbage collection
    Json set = stored->Parse();
    if (set["metadata"].contains("deletionTimestamp")) return;
    const Json& spec = set["spec"];
    const Json& pod_spec = spec["template"]["spec"];
    std::string hash = HashOf(spec["template"]);

    std::map<std::string, std::vector<Json>> by_node = PodsByNode(key, set);
    std::set<std::string> wanted;
    for (const auto& node : store_.List("nodes").objects) {
      if (RunsOn(pod_spec, node->Parse())) wanted.insert(node->name);
    }
    Json counts = {{"currentNumberScheduled", 0},
                   {"numberMisscheduled", 0},
                   {"desiredNumberScheduled", wanted.size()},
                   {"numberReady", 0},
                   {"numberAvailable", 0},
                   {"updatedNumberScheduled", 0}};
    auto count = [&counts](const char* what) { counts[what] = counts[what].get<int64_t>() + 1; };
    std::vector<const Json*> outdated;
    int64_t unavailable = 0;
    for (auto& [node, pods] : by_node) {
      if (wanted.contains(node)) continue;
      count("numberMisscheduled");
      for (const auto& pod : pods)
        DeletePod(store_, registry_, pod);
    }
    for (const auto& node : wanted) {
      auto& pods = by_node[node];
      std::erase_if(pods, [this](const Json& pod) {
        std::string phase = pod.value("status", Json::object()).value("phase", "");
        bool failed = phase == "Failed" || phase == "Succeeded";
        if (failed) DeletePod(store_, registry_, pod);
        return failed;
      });
      if (pods.empty()) {
        Create(set, node, hash);
        count("currentNumberScheduled");
        count("updatedNumberScheduled");
        ++unavailable;
        continue;
      }
      count("currentNumberScheduled");
      const Json& pod = pods.front();
      bool ready = IsReady(pod) && !pod["metadata"].contains("deletionTimestamp");
      if (ready) {
        count("numberReady");
        count("numberAvailable");
      } else {
        ++unavailable;
      }
      if (pod["metadata"].value("labels", Json::object()).value(kHash, "") == hash) {
        count("updatedNumberScheduled");
      } else if (!pod["metadata"].contains("deletionTimestamp")) {
        outdated.push_back(&pod);
      }
    }
    ReplaceOutdated(spec.value("updateStrategy", Json::object()), outdated,
                    static_cast<int64_t>(wanted.size()), unavailable);
    counts["observedGeneration"] = set["metadata"].value("generation", 0);
    auto missing = static_cast<int64_t>(wanted.size()) - counts["numberAvailable"].get<int64_t>();
    if (missing > 0) counts["numberUnavailable"] = missing;
    store_.Modify(kDaemonSets, ns, name, [&counts](Json& object) {
      if (object.value("status", Json::object()) == counts) return false;
      object["status"] = counts;
      return true;
    });
  }

 private:
  std::map<std::string, std::vector<Json>> PodsByNode(const std::string& key, const Json& set) {
    const std::string ns = SplitKey(key).first;
    std::map<std::string, std::vector<Json>> by_node;
    for (const auto& pod_name : std::set<std::string>(pods_[key])) {
      ObjectPtr pod = store_.Get("pods", ns, pod_name);
      if (!pod) continue;
      Json json = pod->Parse();
      bool ours = false;
      for (const auto& owner : json["metadata"].value("ownerReferences", Json::array())) {
        ours = ours || owner.value("uid", "") == set["metadata"]["uid"];
      }
      if (ours) {
        by_node[json.value("spec", Json::object()).value("nodeName", "")].push_back(
            std::move(json));
      }
    }
    return by_node;
  }

  // `wanted`: on how many nodes it is to run; `unavailable`: on how many of them it does not.
  void ReplaceOutdated(const Json& strategy, std::vector<const Json*>& outdated, int64_t wanted,
                       int64_t unavailable) {
    if (strategy.value("type", "RollingUpdate") != "RollingUpdate") return;
    const Json rolling = strategy.value("rollingUpdate", Json::object());
    int64_t allowed = Share(rolling.value("maxUnavailable", Json(1)), wanted, true);
    // What is down already costs nothing to replace.
    std::stable_partition(outdated.begin(), outdated.end(),
                          [](const Json* pod) { return !IsReady(*pod); });
    for (const Json* pod : outdated) {
      bool down = !IsReady(*pod);
      if (!down && unavailable >= allowed) break;
      if (!down) ++unavailable;
      DeletePod(store_, registry_, *pod);
    }
  }

  void Create(const Json& set, const std::string& node, const std::string& hash) {
    const Json& meta = set["metadata"];
    const Json& pod_template = set["spec"]["template"];
    Json pod = PodFromTemplate(set, pod_template);
    pod["metadata"]["labels"][kHash] = hash;
    pod["metadata"]["labels"]["pod-template-generation"] =
        std::to_string(meta.value("generation", 1));
    pod["spec"]["nodeName"] = node;
    pod["spec"]["tolerations"] = Tolerations(pod_template["spec"]);
    ObjectPtr stored = CreatePod(store_, registry_, std::move(pod));
    // Counted now, not when the event comes: a second sync must not place it again.
    pods_[JoinKey(stored->ns, meta["name"].get<std::string>())].insert(stored->name);
  }

  Store& store_;
  Registry& registry_;
  std::set<std::string> known_;
  std::map<std::string, Json> nodes_;
  std::map<std::string, std::set<std::string>> pods_;  // by DaemonSet
};

}  // namespace

std::unique_ptr<Controller> MakeDaemonSetController(Store& store, Registry& registry) {
  return std::make_unique<DaemonSetController>(store, registry);
}

}  // namespace pointsman::e2e

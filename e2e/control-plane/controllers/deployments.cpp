// A ReplicaSet for each template a Deployment has had, scaled up and down by its strategy
// (kube-controller-manager, deployment controller: sync.go, rolling.go, progress.go). Not done:
// proportional scaling of several ReplicaSets in the middle of a rollout.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "e2e/control-plane/base/api_time.h"
#include "e2e/control-plane/controllers/controller.h"
#include "e2e/control-plane/controllers/pods.h"
#include "e2e/control-plane/registry/deletion.h"

namespace pointsman::e2e {
namespace {

constexpr const char* kDeployments = "apps/deployments";
constexpr const char* kHashLabel = "pod-template-hash";
constexpr const char* kRevision = "deployment.kubernetes.io/revision";

int64_t Number(const Json& object, const char* path) {
  const Json::json_pointer pointer(path);
  return object.contains(pointer) && object[pointer].is_number() ? object[pointer].get<int64_t>()
                                                                 : 0;
}

int64_t RevisionOf(const Json& set) {
  const std::string text =
      set["metadata"].value("annotations", Json::object()).value(kRevision, "0");
  return std::stoll(text);
}

class DeploymentController : public Controller {
 public:
  DeploymentController(Store& store, Registry& registry)
      : Controller("deployment"), store_(store), registry_(registry) {}

  bool Watches(const ResourceName& resource) const override {
    return resource == kDeployments || resource == kReplicaSets || resource == "pods";
  }

  void OnEvent(const ResourceName& resource, const ObjectPtr& previous,
               const ObjectPtr& now) override {
    const StoredObject& object = now ? *now : *previous;
    const std::string key = JoinKey(object.ns, object.name);
    if (resource == kDeployments) {
      if (now) Enqueue(key);
    } else if (resource == kReplicaSets) {
      const std::string owner = ControllerKey(object, "Deployment");
      if (owner.empty()) return;
      if (now) {
        sets_[owner].insert(object.name);
        owner_of_set_[key] = owner;
      } else {
        sets_[owner].erase(object.name);
        owner_of_set_.erase(key);
      }
      Enqueue(owner);
    } else if (!now) {
      // Recreate waits for the last Pod to be gone.
      const auto owner = owner_of_set_.find(ControllerKey(object, "ReplicaSet"));
      if (owner != owner_of_set_.end()) Enqueue(owner->second);
    }
  }

  void Sync(const std::string& key) override {
    const auto [ns, name] = SplitKey(key);
    const ObjectPtr stored = store_.Get(kDeployments, ns, name);
    if (!stored) return;
    const Json deployment = stored->Parse();
    if (IsTerminating(deployment)) return;
    std::vector<Json> old = Sets(key, deployment);
    std::optional<Json> current;
    for (auto it = old.begin(); it != old.end(); ++it) {
      if (TemplateOf(*it) != deployment["spec"]["template"]) continue;
      current = *it;
      old.erase(it);
      break;
    }
    const int64_t wanted = Number(deployment, "/spec/replicas");
    const bool paused = deployment["spec"].value("paused", false);
    const bool recreate =
        deployment.value("/spec/strategy/type"_json_pointer, "RollingUpdate") == "Recreate";
    if (!current && !paused && !(recreate && AnyPods(old))) current = CreateSet(deployment, old);
    if (current) SetRevision(deployment, *current, old);
    if (paused) {
      // Only the one that runs is scaled.
      std::vector<Json*> active;
      for (Json& set : old) {
        if (Number(set, "/spec/replicas") > 0) active.push_back(&set);
      }
      if (current && (Number(*current, "/spec/replicas") > 0 || active.empty()))
        active.push_back(&*current);
      if (active.size() == 1) Scale(*active.front(), wanted);
    } else if (recreate) {
      for (Json& set : old)
        Scale(set, 0);
      if (current && !AnyPods(old)) Scale(*current, wanted);
    } else {
      Roll(deployment, *current, old);
    }
    if (current) CleanUp(deployment, *current, old);
    WriteStatus(key, deployment, current, old);
  }

 private:
  // Without the label that only the ReplicaSet's copy has.
  static Json TemplateOf(const Json& set) {
    Json result = set["spec"]["template"];
    result["metadata"]["labels"].erase(kHashLabel);
    return result;
  }

  std::vector<Json> Sets(const std::string& key, const Json& deployment) {
    std::vector<Json> sets;
    for (const std::string& name : std::set<std::string>(sets_[key])) {
      const ObjectPtr stored = store_.Get(kReplicaSets, SplitKey(key).first, name);
      if (!stored) continue;
      Json set = stored->Parse();
      if (IsControlledBy(set, deployment) && !IsTerminating(set)) sets.push_back(std::move(set));
    }
    return sets;
  }

  // Also those that are on their way out.
  bool AnyPods(const std::vector<Json>& sets) const {
    for (const Json& set : sets) {
      for (const ObjectPtr& pod :
           store_.List("pods", set["metadata"]["namespace"].get<std::string>()).objects) {
        const Json parsed = pod->Parse();
        if (IsControlledBy(parsed, set) && !HasEnded(parsed)) return true;
      }
    }
    return false;
  }

  Json CreateSet(const Json& deployment, const std::vector<Json>& old) {
    const Json& meta = deployment["metadata"];
    const std::string hash = HashOf(deployment["spec"]["template"]);
    Json pod_template = deployment["spec"]["template"];
    pod_template["metadata"]["labels"][kHashLabel] = hash;
    Json selector = deployment["spec"]["selector"];
    selector["matchLabels"][kHashLabel] = hash;
    int64_t revision = 0;
    for (const Json& set : old)
      revision = std::max(revision, RevisionOf(set));
    Json set = {
        {"apiVersion", "apps/v1"},
        {"kind", "ReplicaSet"},
        {"metadata",
         {{"name", meta["name"].get<std::string>() + "-" + hash},
          {"namespace", meta["namespace"]},
          {"generation", 1},
          {"labels", pod_template["metadata"]["labels"]},
          {"annotations", {{kRevision, std::to_string(revision + 1)}}},
          {"ownerReferences", Json::array({{{"apiVersion", "apps/v1"},
                                            {"kind", "Deployment"},
                                            {"name", meta["name"]},
                                            {"uid", meta["uid"]},
                                            {"controller", true},
                                            {"blockOwnerDeletion", true}}})}}},
        {"spec", {{"replicas", 0}, {"selector", selector}, {"template", std::move(pod_template)}}},
        {"status", {{"replicas", 0}}}};
    if (const int64_t seconds = Number(deployment, "/spec/minReadySeconds"); seconds > 0)
      set["spec"]["minReadySeconds"] = seconds;
    const ObjectPtr stored = store_.Create(kReplicaSets, std::move(set));
    const std::string key = JoinKey(stored->ns, meta["name"].get<std::string>());
    sets_[key].insert(stored->name);
    owner_of_set_[JoinKey(stored->ns, stored->name)] = key;
    return stored->Parse();
  }

  // The current one always has the highest: `kubectl rollout undo` finds its way by these numbers.
  void SetRevision(const Json& deployment, Json& current, const std::vector<Json>& old) {
    int64_t highest = 0;
    for (const Json& set : old)
      highest = std::max(highest, RevisionOf(set));
    if (RevisionOf(current) <= highest) {
      Modify(kReplicaSets, current, [&](Json& object) {
        object["metadata"]["annotations"][kRevision] = std::to_string(highest + 1);
        return true;
      });
      current["metadata"]["annotations"][kRevision] = std::to_string(highest + 1);
    }
    const std::string revision = std::to_string(RevisionOf(current));
    Modify(kDeployments, deployment, [&](Json& object) {
      Json& annotations = object["metadata"]["annotations"];
      if (annotations.is_object() && annotations.value(kRevision, "") == revision) return false;
      annotations[kRevision] = revision;
      return true;
    });
  }

  void Scale(Json& set, int64_t replicas) {
    if (Number(set, "/spec/replicas") == replicas) return;
    Modify(kReplicaSets, set, [&](Json& object) {
      object["spec"]["replicas"] = replicas;
      object["metadata"]["generation"] = object["metadata"].value("generation", 1) + 1;
      return true;
    });
    set["spec"]["replicas"] = replicas;
  }

  void Modify(const char* resource, const Json& object,
              const std::function<bool(Json& object)>& change) {
    store_.Modify(resource, object["metadata"]["namespace"].get<std::string>(),
                  object["metadata"]["name"].get<std::string>(), change);
  }

  void Roll(const Json& deployment, Json& current, std::vector<Json>& old) {
    const int64_t wanted = Number(deployment, "/spec/replicas");
    const Json rolling =
        deployment.value("/spec/strategy/rollingUpdate"_json_pointer, Json::object());
    const int64_t surge = Share(rolling.value("maxSurge", Json("25%")), wanted, true);
    int64_t unavailable = Share(rolling.value("maxUnavailable", Json("25%")), wanted, false);
    if (surge == 0 && unavailable == 0) unavailable = 1;  // or nothing would ever move
    int64_t total = Number(current, "/spec/replicas");
    int64_t old_total = 0;
    for (const Json& set : old)
      old_total += Number(set, "/spec/replicas");
    total += old_total;
    const int64_t now = Number(current, "/spec/replicas");
    if (now > wanted) {
      Scale(current, wanted);
    } else if (now < wanted && total < wanted + surge) {
      Scale(current, std::min(wanted, now + wanted + surge - total));
    }
    if (old_total == 0) return;
    // What may go without fewer Pods serving than promised: of the old ones, those that do not
    // serve first.
    const int64_t not_yet =
        Number(current, "/spec/replicas") - Number(current, "/status/availableReplicas");
    total = old_total + Number(current, "/spec/replicas");
    int64_t may_go = total - (wanted - unavailable) - not_yet;
    for (Json& set : old) {
      const int64_t have = Number(set, "/spec/replicas");
      const int64_t idle = have - Number(set, "/status/availableReplicas");
      const int64_t go = std::clamp<int64_t>(std::min(idle, may_go), 0, have);
      if (go > 0) Scale(set, have - go);
      may_go -= go;
    }
    int64_t available = Number(current, "/status/availableReplicas");
    for (const Json& set : old)
      available +=
          std::min(Number(set, "/status/availableReplicas"), Number(set, "/spec/replicas"));
    may_go = available - (wanted - unavailable);
    for (Json& set : old) {
      const int64_t have = Number(set, "/spec/replicas");
      const int64_t go = std::clamp<int64_t>(may_go, 0, have);
      if (go > 0) Scale(set, have - go);
      may_go -= go;
    }
  }

  void CleanUp(const Json& deployment, const Json& current, const std::vector<Json>& old) {
    const bool done =
        Number(current, "/status/availableReplicas") == Number(deployment, "/spec/replicas");
    if (!done) return;
    const auto limit =
        static_cast<size_t>(deployment["spec"].value("revisionHistoryLimit", int64_t{10}));
    std::vector<const Json*> idle;
    for (const Json& set : old) {
      if (Number(set, "/spec/replicas") == 0 && Number(set, "/status/replicas") == 0)
        idle.push_back(&set);
    }
    std::sort(idle.begin(), idle.end(),
              [](const Json* a, const Json* b) { return RevisionOf(*a) < RevisionOf(*b); });
    for (size_t i = 0; i + limit < idle.size(); ++i) {
      const ResourceTypePtr type = registry_.Find("apps", "v1", "replicasets");
      if (!type) throw std::logic_error("replicasets are not a registered type");
      DeleteObject(store_, *type, (*idle[i])["metadata"]["namespace"].get<std::string>(),
                   (*idle[i])["metadata"]["name"].get<std::string>());
    }
  }

  void WriteStatus(const std::string& key, const Json& deployment,
                   const std::optional<Json>& current, const std::vector<Json>& old) {
    const int64_t wanted = Number(deployment, "/spec/replicas");
    Json status = {{"observedGeneration", deployment["metadata"].value("generation", 0)}};
    const auto sum = [&](const char* path) {
      int64_t result = current ? Number(*current, path) : 0;
      for (const Json& set : old)
        result += Number(set, path);
      return result;
    };
    const int64_t total = sum("/status/replicas");
    const int64_t available = sum("/status/availableReplicas");
    const int64_t updated = current ? Number(*current, "/status/replicas") : 0;
    const auto count = [&](const char* field, int64_t value) {
      if (value > 0) status[field] = value;
    };
    count("replicas", total);
    count("updatedReplicas", updated);
    count("readyReplicas", sum("/status/readyReplicas"));
    count("availableReplicas", available);
    count("unavailableReplicas", std::max<int64_t>(0, std::max(wanted, total) - available));

    const auto now = std::chrono::system_clock::now();
    const std::string name = SplitKey(key).second;
    const Json before = deployment.value("status", Json::object());
    const bool complete = current && updated == wanted && total == wanted && available == wanted;
    const auto counters = [](const Json& from) {
      return std::make_tuple(Number(from, "/updatedReplicas"), Number(from, "/readyReplicas"),
                             Number(from, "/availableReplicas"), Number(from, "/replicas"),
                             Number(from, "/observedGeneration"));
    };
    auto& moved = moved_[key];
    if (counters(before) != counters(status) || moved == Clock::time_point{}) moved = Clock::now();
    const std::chrono::seconds deadline(Number(deployment, "/spec/progressDeadlineSeconds"));
    const bool late = !complete && deadline.count() > 0 && Clock::now() >= moved + deadline;
    if (!complete && !late && deadline.count() > 0) EnqueueAt(key, moved + deadline);

    const Json rolling =
        deployment.value("/spec/strategy/rollingUpdate"_json_pointer, Json::object());
    const int64_t unavailable = Share(rolling.value("maxUnavailable", Json("25%")), wanted, false);
    const bool enough = available >= wanted - unavailable;
    const std::string set = current ? (*current)["metadata"]["name"].get<std::string>() : name;
    store_.Modify(kDeployments, SplitKey(key).first, name, [&](Json& object) {
      const Json old_status = object.value("status", Json::object());
      Json next = status;
      next["conditions"] = old_status.value("conditions", Json::array());
      const auto condition = [&](const char* type, bool holds, const char* reason,
                                 const std::string& message) {
        Json carrier = {{"status", {{"conditions", next["conditions"]}}}};
        if (SetCondition(carrier, type, holds ? "True" : "False", reason, message)) {
          for (Json& item : carrier["status"]["conditions"]) {
            if (item["type"] == type) item["lastUpdateTime"] = FormatTime(now);
          }
          next["conditions"] = carrier["status"]["conditions"];
        }
      };
      condition("Available", enough,
                enough ? "MinimumReplicasAvailable" : "MinimumReplicasUnavailable",
                enough ? "Deployment has minimum availability."
                       : "Deployment does not have minimum availability.");
      if (complete) {
        condition("Progressing", true, "NewReplicaSetAvailable",
                  "ReplicaSet \"" + set + "\" has successfully progressed.");
      } else if (late) {
        condition("Progressing", false, "ProgressDeadlineExceeded",
                  "ReplicaSet \"" + set + "\" has timed out progressing.");
      } else {
        condition("Progressing", true, "ReplicaSetUpdated",
                  "ReplicaSet \"" + set + "\" is progressing.");
      }
      if (next == old_status) return false;
      object["status"] = std::move(next);
      return true;
    });
  }

  Store& store_;
  Registry& registry_;
  std::map<std::string, std::set<std::string>> sets_;  // by Deployment
  std::map<std::string, std::string> owner_of_set_;
  std::map<std::string, Clock::time_point> moved_;  // when a Deployment's counters last changed
};

}  // namespace

std::unique_ptr<Controller> MakeDeploymentController(Store& store, Registry& registry) {
  return std::make_unique<DeploymentController>(store, registry);
}

}  // namespace pointsman::e2e

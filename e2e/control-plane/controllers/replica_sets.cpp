// As many Pods of a template as asked for (kube-controller-manager, replicaset controller).
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "e2e/control-plane/controllers/controller.h"
#include "e2e/control-plane/controllers/pods.h"

namespace pointsman::e2e {
namespace {

// Whether `a` goes before `b`: what serves least and has lived least is taken first
// (controller_utils.go, ActivePods).
bool GoesBefore(const Json& a, const Json& b) {
  const auto rank = [](const Json& pod) {
    return std::make_tuple(!pod["spec"].value("nodeName", "").empty(), IsReady(pod));
  };
  if (rank(a) != rank(b)) return rank(a) < rank(b);
  return a["metadata"].value("creationTimestamp", "") >
         b["metadata"].value("creationTimestamp", "");
}

class ReplicaSetController : public Controller {
 public:
  ReplicaSetController(Store& store, Registry& registry)
      : Controller("replicaset"), store_(store), registry_(registry) {}

  bool Watches(const ResourceName& resource) const override {
    return resource == kReplicaSets || resource == "pods";
  }

  void OnEvent(const ResourceName& resource, const ObjectPtr& previous,
               const ObjectPtr& now) override {
    const StoredObject& object = now ? *now : *previous;
    if (resource == kReplicaSets) {
      if (now) Enqueue(JoinKey(object.ns, object.name));
      return;
    }
    const std::string key = ControllerKey(object, "ReplicaSet");
    if (key.empty()) return;
    if (now) {
      pods_[key].insert(object.name);
    } else {
      pods_[key].erase(object.name);
    }
    Enqueue(key);
  }

  void Sync(const std::string& key) override {
    const auto [ns, name] = SplitKey(key);
    const ObjectPtr stored = store_.Get(kReplicaSets, ns, name);
    if (!stored) return;  // its pods go by garbage collection
    const Json set = stored->Parse();
    if (IsTerminating(set)) return;
    std::vector<Json> pods = ActivePods(key, set);
    const int64_t wanted = set["spec"].value("replicas", int64_t{1});
    for (auto missing = wanted - static_cast<int64_t>(pods.size()); missing > 0; --missing) {
      const ObjectPtr pod =
          CreatePod(store_, registry_, PodFromTemplate(set, set["spec"]["template"]));
      // Counted now, not when the event comes: a second sync must not make it again.
      pods_[key].insert(pod->name);
      pods.push_back(pod->Parse());
    }
    if (std::cmp_greater(pods.size(), wanted)) {
      std::stable_sort(pods.begin(), pods.end(), GoesBefore);
      const auto keep_from = pods.begin() + (static_cast<int64_t>(pods.size()) - wanted);
      std::for_each(pods.begin(), keep_from,
                    [this](const Json& pod) { DeletePod(store_, registry_, pod); });
      pods.erase(pods.begin(), keep_from);
    }
    WriteStatus(key, set, pods);
  }

 private:
  std::vector<Json> ActivePods(const std::string& key, const Json& set) {
    const std::string ns = SplitKey(key).first;
    std::vector<Json> pods;
    for (const std::string& name : std::set<std::string>(pods_[key])) {
      const ObjectPtr stored = store_.Get("pods", ns, name);
      if (!stored) continue;
      Json pod = stored->Parse();
      if (IsControlledBy(pod, set) && !IsTerminating(pod) && !HasEnded(pod))
        pods.push_back(std::move(pod));
    }
    return pods;
  }

  void WriteStatus(const std::string& key, const Json& set, const std::vector<Json>& pods) {
    const std::chrono::seconds min_ready(set["spec"].value("minReadySeconds", 0));
    const auto now = std::chrono::system_clock::now();
    int64_t ready = 0;
    int64_t available = 0;
    for (const Json& pod : pods) {
      if (!IsReady(pod)) continue;
      ++ready;
      const auto since = ReadySince(pod);
      if (min_ready.count() == 0 || (since && *since + min_ready <= now)) {
        ++available;
      } else if (since) {
        EnqueueAt(key, Clock::now() + (*since + min_ready - now));
      }
    }
    Json status = {{"replicas", pods.size()},
                   {"fullyLabeledReplicas", pods.size()},
                   {"observedGeneration", set["metadata"].value("generation", 0)}};
    if (ready > 0) status["readyReplicas"] = ready;
    if (available > 0) status["availableReplicas"] = available;
    const auto [ns, name] = SplitKey(key);
    store_.Modify(kReplicaSets, ns, name, [&](Json& object) {
      if (object.value("status", Json::object()) == status) return false;
      object["status"] = status;
      return true;
    });
  }

  Store& store_;
  Registry& registry_;
  std::map<std::string, std::set<std::string>> pods_;  // by ReplicaSet
};

}  // namespace

std::unique_ptr<Controller> MakeReplicaSetController(Store& store, Registry& registry) {
  return std::make_unique<ReplicaSetController>(store, registry);
}

}  // namespace pointsman::e2e

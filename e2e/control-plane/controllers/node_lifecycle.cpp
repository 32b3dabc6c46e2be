// Nodes that stopped renewing their Lease, and Events that are old.
#include <chrono>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "e2e/control-plane/controllers/controller.h"

namespace pointsman::e2e {
namespace {

constexpr const char* kLeases = "coordination.k8s.io/leases";

// As kube-controller-manager: what counts is when this process saw the Lease change, not the time
// written in it. A node that never had a Lease is left alone, as nothing promises its heartbeats.
class NodeLifecycleController : public Controller {
 public:
  NodeLifecycleController(Store& store, std::chrono::milliseconds grace)
      : Controller("node lifecycle"), store_(store), grace_(grace) {}

  bool Watches(const ResourceName& resource) const override {
    return resource == kLeases || resource == "pods" || resource == "nodes";
  }

  void OnEvent(const ResourceName& resource, const ObjectPtr& previous,
               const ObjectPtr& now) override {
    const StoredObject& object = now ? *now : *previous;
    if (resource == kLeases) {
      if (object.ns != "kube-node-lease") return;
      if (now) {
        renewed_[object.name] = Clock::now();
        Enqueue(object.name);
      } else {
        renewed_.erase(object.name);
      }
    } else if (resource == "nodes") {
      if (now && !previous) Enqueue(object.name);
      if (!now) pods_.erase(object.name);
    } else {
      std::string key = JoinKey(object.ns, object.name);
      if (auto found = node_of_.find(key); found != node_of_.end()) {
        if (now) return;  // a pod does not change its node
        pods_[found->second].erase(key);
        node_of_.erase(found);
        return;
      }
      std::string node =
          now ? now->Parse().value("spec", Json::object()).value("nodeName", "") : std::string();
      if (node.empty()) return;
      node_of_[key] = node;
      pods_[node].insert(key);
    }
  }

  void Sync(const std::string& node) override {
    auto found = renewed_.find(node);
    if (found == renewed_.end()) return;
    auto due = found->second + grace_;
    bool alive = Clock::now() < due;
    if (alive) EnqueueAt(node, due);
    store_.Modify("nodes", "", node, [&](Json& object) {
      bool changed = SetTaint(object, !alive);
      // Ready=True again is the kubelet's to say.
      if (alive) return changed;
      for (const char* type : {"Ready", "MemoryPressure", "DiskPressure", "PIDPressure"}) {
        bool has = std::string_view(type) == "Ready";
        for (const auto& condition :
             object.value("status", Json::object()).value("conditions", Json::array())) {
          has = has || condition.value("type", "") == type;
        }
        if (has) {
          changed = SetCondition(object, type, "Unknown", "NodeStatusUnknown",
                                 "Kubelet stopped posting node status.") ||
                    changed;
        }
      }
      return changed;
    });
    if (alive) return;
    for (const auto& key : pods_[node]) {
      auto [ns, name] = SplitKey(key);
      store_.Modify("pods", ns, name, [](Json& pod) {
        for (auto& condition :
             pod.value("status", Json::object()).value("conditions", Json::array())) {
          if (condition.value("type", "") == "Ready" && condition.value("status", "") == "True") {
            return SetCondition(pod, "Ready", "False", "NodeNotReady", "");
          }
        }
        return false;
      });
    }
  }

 private:
  static bool SetTaint(Json& node, bool unreachable) {
    constexpr const char* kKey = "node.kubernetes.io/unreachable";
    const Json taints = node.value("spec", Json::object()).value("taints", Json::array());
    Json wanted = Json::array();
    for (const auto& taint : taints) {
      if (taint.value("key", "") != kKey) wanted.push_back(taint);
    }
    bool has = wanted.size() != taints.size();
    if (has == unreachable) return false;
    for (const char* effect : {"NoSchedule", "NoExecute"}) {
      if (unreachable) wanted.push_back({{"key", kKey}, {"effect", effect}});
    }
    node["spec"]["taints"] = std::move(wanted);
    return true;
  }

  Store& store_;
  std::chrono::milliseconds grace_;
  std::map<std::string, Clock::time_point> renewed_;
  std::map<std::string, std::set<std::string>> pods_;  // by node
  std::unordered_map<std::string, std::string> node_of_;
};

class EventExpiry : public Controller {
 public:
  EventExpiry(Store& store, std::chrono::milliseconds ttl)
      : Controller("event expiry"), store_(store), ttl_(ttl) {}

  bool Watches(const ResourceName& resource) const override { return resource == "events"; }

  void OnEvent(const ResourceName& resource, const ObjectPtr& previous,
               const ObjectPtr& now) override {
    (void)resource;
    // Every write of an Event renews its lease in etcd, so the time counts from the last one.
    const StoredObject& object = now ? *now : *previous;
    std::string key = JoinKey(object.ns, object.name);
    if (!now) {
      expires_.erase(key);
      return;
    }
    expires_[key] = Clock::now() + ttl_;
    EnqueueAt(key, expires_[key]);
  }

  void Sync(const std::string& key) override {
    auto found = expires_.find(key);
    if (found == expires_.end()) return;
    if (found->second > Clock::now()) {
      EnqueueAt(key, found->second);
      return;
    }
    auto [ns, name] = SplitKey(key);
    try {
      store_.Remove("events", ns, name);
    } catch (const StatusError& error) {
      if (error.code() != 404) throw;
    }
  }

 private:
  Store& store_;
  std::chrono::milliseconds ttl_;
  std::unordered_map<std::string, Clock::time_point> expires_;
};

}  // namespace

std::unique_ptr<Controller> MakeNodeLifecycleController(Store& store,
                                                        std::chrono::milliseconds grace) {
  return std::make_unique<NodeLifecycleController>(store, grace);
}

std::unique_ptr<Controller> MakeEventExpiry(Store& store, std::chrono::milliseconds ttl) {
  return std::make_unique<EventExpiry>(store, ttl);
}

}  // namespace pointsman::e2e

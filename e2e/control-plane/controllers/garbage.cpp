// Deletion of dependents when their owners go, and the finalizers of foreground and orphaning
// deletion.
#include <algorithm>
#include <chrono>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>

#include "e2e/control-plane/controllers/controller.h"
#include "e2e/control-plane/controllers/pods.h"
#include "e2e/control-plane/registry/deletion.h"

namespace pointsman::e2e {
namespace {

constexpr const char* kForeground = "foregroundDeletion";
constexpr const char* kOrphan = "orphan";

// Keys here: "<resource>|<namespace>/<name>".
std::string FullKey(const ResourceName& resource, const StoredObject& object) {
  return resource + "|" + JoinKey(object.ns, object.name);
}

struct Target {
  ResourceTypePtr type;
  std::string ns, name;
};

Target Resolve(const Registry& registry, const std::string& key) {
  size_t bar = key.find('|');
  auto [ns, name] = SplitKey(key.substr(bar + 1));
  return {registry.FindByStoreName(key.substr(0, bar)), ns, name};
}

void Delete(Store& store, const Target& target, const DeleteOptions& options = {}) {
  try {
    DeleteObject(store, *target.type, target.ns, target.name, options);
  } catch (const StatusError& error) {
    if (error.code() != 404) throw;  // gone already is what was wanted
  }
}

bool HasFinalizer(const Json& object, const char* name) {
  const Json finalizers = object["metadata"].value("finalizers", Json::array());
  return std::find(finalizers.begin(), finalizers.end(), name) != finalizers.end();
}

class GarbageCollector : public Controller {
 public:
  GarbageCollector(Store& store, Registry& registry)
      : Controller("garbage collector"), store_(store), registry_(registry) {}

  // Events have no owners and come in masses; leases likewise.
  bool Watches(const ResourceName& resource) const override {
    return resource != "events" && resource != "events.k8s.io/events";
  }

  void OnEvent(const ResourceName& resource, const ObjectPtr& previous,
               const ObjectPtr& now) override {
    std::string key = FullKey(resource, now ? *now : *previous);
    if (auto found = owners_.find(key); found != owners_.end()) {
      for (const auto& uid : found->second)
        dependents_[uid].erase(key);
      owners_.erase(found);
    }
    if (!now) {
      auto found = dependents_.find(previous->uid);
      if (found == dependents_.end()) return;
      for (const auto& dependent : found->second)
        Enqueue(dependent);
      if (found->second.empty()) dependents_.erase(found);
      return;
    }
    bool owned = now->json.find("\"ownerReferences\"") != std::string::npos;
    if (owned) {
      Json meta = now->Parse()["metadata"];
      for (const auto& owner : meta.value("ownerReferences", Json::array())) {
        std::string uid = owner.value("uid", "");
        owners_[key].insert(uid);
        dependents_[uid].insert(key);
      }
    }
    if (owned || now->json.find("\"deletionTimestamp\"") != std::string::npos) Enqueue(key);
  }

  void Sync(const std::string& key) override {
    Target target = Resolve(registry_, key);
    if (!target.type) return;  // the type went, and its objects with it
    ObjectPtr stored = store_.Get(target.type->StoreName(), target.ns, target.name);
    if (!stored) return;
    Json object = stored->Parse();
    if (object["metadata"].contains("deletionTimestamp")) {
      if (HasFinalizer(object, kOrphan)) Orphan(target, stored->uid);
      if (HasFinalizer(object, kForeground)) Foreground(target, stored->uid);
      return;
    }
    const Json owners = object["metadata"].value("ownerReferences", Json::array());
    if (owners.empty()) return;
    bool alive = false;
    for (const auto& owner : owners)
      alive = alive || Exists(owner, target.ns);
    if (!alive) Delete(store_, target, {.uid = stored->uid});
  }

 private:
  bool Exists(const Json& owner, const std::string& ns) {
    std::string group_version = owner.value("apiVersion", "");
    size_t slash = group_version.find('/');
    std::string group = slash == std::string::npos ? "" : group_version.substr(0, slash);
    std::string version =
        slash == std::string::npos ? group_version : group_version.substr(slash + 1);
    ResourceTypePtr type = registry_.FindByKind(group, version, owner.value("kind", ""));
    // An owner of an unknown kind may exist elsewhere: nothing is deleted on a guess.
    if (!type) return true;
    ObjectPtr stored =
        store_.Get(type->StoreName(), type->namespaced ? ns : "", owner.value("name", ""));
    return stored && stored->uid == owner.value("uid", "");
  }

  void DropFinalizer(const Target& target, const char* name) {
    ObjectPtr stored =
        store_.Modify(target.type->StoreName(), target.ns, target.name, [name](Json& object) {
          Json& finalizers = object["metadata"]["finalizers"];
          size_t before = finalizers.size();
          Json kept = Json::array();
          for (const auto& f : finalizers) {
            if (f != name) kept.push_back(f);
          }
          finalizers = kept;
          return kept.size() != before;
        });
    if (stored) RemoveIfFinalized(store_, *target.type, stored);
  }

  void Orphan(const Target& target, const std::string& uid) {
    for (const auto& key : std::set<std::string>(dependents_[uid])) {
      Target dependent = Resolve(registry_, key);
      if (!dependent.type) continue;
      store_.Modify(dependent.type->StoreName(), dependent.ns, dependent.name,
                    [&uid](Json& object) { return DropOwner(object, uid); });
    }
    DropFinalizer(target, kOrphan);
  }

  void Foreground(const Target& target, const std::string& uid) {
    bool left = false;
    for (const auto& key : std::set<std::string>(dependents_[uid])) {
      Target dependent = Resolve(registry_, key);
      if (!dependent.type) continue;
      if (!store_.Get(dependent.type->StoreName(), dependent.ns, dependent.name)) continue;
      Delete(store_, dependent);
      left = left || store_.Get(dependent.type->StoreName(), dependent.ns, dependent.name);
    }
    // A dependent with finalizers of its own: its removal brings this owner here again.
    if (!left) {
      DropFinalizer(target, kForeground);
    } else {
      EnqueueAt(target.type->StoreName() + "|" + JoinKey(target.ns, target.name),
                Clock::now() + std::chrono::milliseconds{200});
    }
  }

  Store& store_;
  Registry& registry_;
  std::unordered_map<std::string, std::set<std::string>> dependents_;  // by the owner's uid
  std::unordered_map<std::string, std::set<std::string>> owners_;      // uids, by dependent
};

}  // namespace

std::unique_ptr<Controller> MakeGarbageCollector(Store& store, Registry& registry) {
  return std::make_unique<GarbageCollector>(store, registry);
}

}  // namespace pointsman::e2e

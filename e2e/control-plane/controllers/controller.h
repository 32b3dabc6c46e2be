// What all controllers share: one thread that watches the store, keeps what it saw, and lets each
// controller bring its keys to the wanted state.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "e2e/control-plane/controllers/controllers.h"

namespace pointsman::e2e {

// The resource that deployments make and replica_sets act on.
constexpr const char* kReplicaSets = "apps/replicasets";

// "namespace/name", or "/name".
using ObjectKey = std::pair<std::string, std::string>;

ObjectKey KeyOf(const StoredObject& object);
// `<prefix><five characters>` as the API server's generateName makes it.
std::string GeneratedName(const std::string& prefix);
// The label's value, or null.
const std::string* LabelOf(const StoredObject& object, std::string_view key);
// Does a metav1.LabelSelector select these labels? Null selects nothing, an empty one all.
bool SelectorMatches(const Json& selector,
                     const std::vector<std::pair<std::string, std::string>>& labels);
// Sets the condition of that type in status.conditions; lastTransitionTime only when the status
// changes. False when nothing changed.
bool SetCondition(Json& object, const std::string& type, const std::string& status,
                  const std::string& reason, const std::string& message);

// Level-triggered: sync(key) reads the present state and writes what differs. A sync that throws
// is done again later, with growing delays up to 30 s. All calls come from one thread.
class Controller {
 public:
  explicit Controller(std::string name) : name_(std::move(name)) {}
  virtual ~Controller() = default;

  virtual bool Watches(const ResourceName& resource) const = 0;
  // Before every event of a watched resource is handed over, and for the first list (previous
  // null). `now` is null for a removal. Adds keys with Enqueue.
  virtual void OnEvent(const ResourceName& resource, const ObjectPtr& previous,
                       const ObjectPtr& now) = 0;
  virtual void Sync(const std::string& key) = 0;

  // Runs what is due; returns when to come back (max: when there is an event).
  std::chrono::steady_clock::time_point Work();

 protected:
  using Clock = std::chrono::steady_clock;
  void Enqueue(const std::string& key) { EnqueueAt(key, Clock::time_point{}); }
  void EnqueueAt(const std::string& key, Clock::time_point when);

 private:
  std::string name_;
  std::map<std::string, Clock::time_point> due_;
  std::map<std::string, int> failures_;
};

std::string JoinKey(std::string_view ns, std::string_view name);
ObjectKey SplitKey(const std::string& key);

std::unique_ptr<Controller> MakeEndpointSliceController(Store& store, const Emulation& emulation);
std::unique_ptr<Controller> MakeDaemonSetController(Store& store, Registry& registry);
std::unique_ptr<Controller> MakeReplicaSetController(Store& store, Registry& registry);
std::unique_ptr<Controller> MakeDeploymentController(Store& store, Registry& registry);
std::unique_ptr<Controller> MakeScheduler(Store& store);
std::unique_ptr<Controller> MakeGarbageCollector(Store& store, Registry& registry);
std::unique_ptr<Controller> MakeNodeLifecycleController(Store& store,
                                                        std::chrono::milliseconds grace);
std::unique_ptr<Controller> MakeEventExpiry(Store& store, std::chrono::milliseconds ttl);

}  // namespace pointsman::e2e

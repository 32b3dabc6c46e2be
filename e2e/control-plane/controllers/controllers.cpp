#include "e2e/control-plane/controllers/controllers.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <sys/eventfd.h>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <poll.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "e2e/control-plane/controllers/controller.h"
#include "e2e/control-plane/controllers/kubernetes_service.h"

namespace pointsman::e2e {
namespace {

constexpr const char* kDefinitions = "apiextensions.k8s.io/customresourcedefinitions";

class Manager : public Controllers {
 public:
  Manager(Store& store, Registry& registry, const Emulation& emulation,
          const ControllerOptions& options)
      : store_(store), registry_(registry), wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (!wake_) throw std::system_error(errno, std::generic_category(), "eventfd");
    controllers_.push_back(MakeEndpointSliceController(store, emulation));
    controllers_.push_back(MakeDaemonSetController(store, registry));
    controllers_.push_back(MakeReplicaSetController(store, registry));
    controllers_.push_back(MakeDeploymentController(store, registry));
    controllers_.push_back(MakeScheduler(store));
    controllers_.push_back(MakeGarbageCollector(store, registry));
    controllers_.push_back(MakeNodeLifecycleController(store, options.node_monitor_grace_period));
    controllers_.push_back(MakeEventExpiry(store, options.event_ttl));
    EnsureKubernetesService(store, emulation, options);
    thread_ = std::thread([this] { Run(); });
  }
  ~Manager() override { Manager::Stop(); }

  void Stop() override {
    if (!thread_.joinable()) return;
    stopping_ = true;
    uint64_t one = 1;
    if (write(wake_.get(), &one, sizeof one) != sizeof one) {
      spdlog::error("controllers: cannot wake the thread: {}",
                    std::generic_category().message(errno));
    }
    thread_.join();
  }

 private:
  struct Watched {
    std::unique_ptr<Subscription> subscription;
    std::map<ObjectKey, ObjectPtr> objects;
  };

  void Run() {
    uint64_t generation = 0;
    while (!stopping_) {
      if (generation != registry_.generation()) {
        generation = registry_.generation();
        WatchNewTypes();
      }
      for (auto& [resource, watched] : watched_)
        Drain(resource, watched);
      auto next = std::chrono::steady_clock::time_point::max();
      for (auto& controller : controllers_)
        next = std::min(next, controller->Work());
      Wait(next);
    }
  }

  void WatchNewTypes() {
    // The registry changes a moment after a definition is written; its event wakes this thread
    // and the one of the established condition comes after the registry's change.
    for (const auto& type : *registry_.types()) {
      ResourceName resource = type->StoreName();
      if (watched_.contains(resource)) continue;
      bool wanted = std::any_of(controllers_.begin(), controllers_.end(),
                                [&resource](auto& c) { return c->Watches(resource); });
      if (wanted || resource == kDefinitions) List(resource, watched_[resource]);
    }
  }

  void List(const ResourceName& resource, Watched& watched) {
    Snapshot snapshot;
    watched.subscription = store_.ListAndWatch(resource, snapshot);
    std::map<ObjectKey, ObjectPtr> before = std::move(watched.objects);
    watched.objects.clear();
    for (const auto& object : snapshot.objects) {
      auto found = before.find(KeyOf(*object));
      ObjectPtr previous;
      if (found != before.end()) {
        previous = found->second;
        before.erase(found);
      }
      watched.objects[KeyOf(*object)] = object;
      if (!previous || previous->resource_version != object->resource_version) {
        Tell(resource, previous, object);
      }
    }
    for (const auto& [key, object] : before)
      Tell(resource, object, nullptr);
  }

  void Drain(const ResourceName& resource, Watched& watched) {
    while (auto event = watched.subscription->TryNext()) {
      ObjectKey key = KeyOf(*event->object);
      ObjectPtr now = event->type == EventType::kDeleted ? nullptr : event->object;
      auto found = watched.objects.find(key);
      ObjectPtr previous = found == watched.objects.end() ? nullptr : found->second;
      if (now) {
        watched.objects[key] = now;
      } else {
        watched.objects.erase(key);
      }
      Tell(resource, previous ? previous : event->previous, now);
    }
    if (watched.subscription->Overflowed() || watched.subscription->Stopped()) {
      List(resource, watched);
    }
  }

  void Tell(const ResourceName& resource, const ObjectPtr& previous, const ObjectPtr& now) {
    for (auto& controller : controllers_) {
      if (controller->Watches(resource)) controller->OnEvent(resource, previous, now);
    }
  }

  void Wait(std::chrono::steady_clock::time_point until) {
    std::vector<pollfd> fds = {{wake_.get(), POLLIN, 0}};
    for (auto& [resource, watched] : watched_) {
      fds.push_back({watched.subscription->fd(), POLLIN, 0});
    }
    int timeout = -1;
    if (until != std::chrono::steady_clock::time_point::max()) {
      auto left =
          std::chrono::ceil<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
      timeout = static_cast<int>(std::clamp<int64_t>(left.count(), 0, 60'000));
    }
    if (poll(fds.data(), fds.size(), timeout) < 0 && errno != EINTR) {
      throw std::system_error(errno, std::generic_category(), "poll");
    }
  }

  Store& store_;
  Registry& registry_;
  const UniqueFd wake_;
  std::vector<std::unique_ptr<Controller>> controllers_;
  std::map<ResourceName, Watched> watched_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace

std::unique_ptr<Controllers> StartControllers(Store& store, Registry& registry,
                                              const Emulation& emulation,
                                              const ControllerOptions& options) {
  return std::make_unique<Manager>(store, registry, emulation, options);
}

}  // namespace pointsman::e2e

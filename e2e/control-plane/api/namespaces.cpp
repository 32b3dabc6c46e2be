#include "e2e/control-plane/api/namespaces.h"

#include <chrono>
#include <exception>
#include <iterator>
#include <set>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>

#include <spdlog/spdlog.h>

#include "e2e/control-plane/registry/json_path.h"

namespace pointsman::e2e {

NamespaceController::NamespaceController(Store& store, Registry& registry,
                                         std::string caCertificate)
    : store_(store), registry_(registry), caCertificate_(std::move(caCertificate)) {
  subscription_ = store_.listAndWatch("namespaces", initial_);
  // Before the server answers, so that a pod can be made in "default" at once.
  for (const ObjectPtr& ns : initial_.objects)
    furnish(ns->name);
  thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
}

NamespaceController::~NamespaceController() {
  thread_.request_stop();
  subscription_->stop();
}

void NamespaceController::furnish(const std::string& ns) {
  const auto create = [&](const ResourceName& resource, Json object) {
    const std::string name = object["metadata"]["name"];
    if (store_.get(resource, ns, name)) return;
    object["metadata"]["namespace"] = ns;
    try {
      store_.create(resource, std::move(object));
    } catch (const StatusError& error) {
      if (error.code() != 409) throw;  // somebody else made it
    }
  };
  create("serviceaccounts",
         {{"apiVersion", "v1"}, {"kind", "ServiceAccount"}, {"metadata", {{"name", "default"}}}});
  create("configmaps", {{"apiVersion", "v1"},
                        {"kind", "ConfigMap"},
                        {"metadata", {{"name", "kube-root-ca.crt"}}},
                        {"data", {{"ca.crt", caCertificate_}}}});
}

bool NamespaceController::empty(const std::string& ns) {
  bool left = false;
  for (const ResourceTypePtr& type : *registry_.types()) {
    if (!type->namespaced) continue;
    for (const ObjectPtr& object : store_.list(type->storeName(), ns).objects) {
      try {
        left = !deleteObject(store_, *type, ns, object->name).removed || left;
      } catch (const StatusError& error) {
        if (error.code() != 404) throw;  // gone already
      }
    }
  }
  if (left) return false;
  const ResourceTypePtr type = registry_.find("", "v1", "namespaces");
  const ObjectPtr updated = store_.modify("namespaces", "", ns, [](Json& object) {
    object["spec"].erase("finalizers");
    return true;
  });
  return !updated || removeIfFinalized(store_, *type, updated);
}

void NamespaceController::run(const std::stop_token& stop) {
  std::set<std::string> going;
  const auto look = [&](const StoredObject& ns) {
    if (at(ns.parse(), {"metadata", "deletionTimestamp"}) != nullptr) {
      going.insert(ns.name);
    } else {
      furnish(ns.name);
    }
  };
  for (const ObjectPtr& ns : initial_.objects)
    look(*ns);
  initial_.objects.clear();
  while (!stop.stop_requested()) {
    try {
      if (subscription_->stopped()) {
        // Ended by a fault or by being too slow: begin again.
        subscription_ = store_.listAndWatch("namespaces", initial_);
        for (const ObjectPtr& ns : initial_.objects)
          look(*ns);
        initial_.objects.clear();
      }
      // What holds a namespace back are finalizers of its objects, which other events end; those
      // are too many to watch, so that a namespace on its way out is looked at every 200 ms.
      const auto event = subscription_->next(going.empty() ? std::chrono::milliseconds(60000)
                                                           : std::chrono::milliseconds(200));
      if (event && event->type == EventType::kDeleted) {
        going.erase(event->object->name);
      } else if (event) {
        look(*event->object);
      }
      for (auto ns = going.begin(); ns != going.end();) {
        ns = empty(*ns) ? going.erase(ns) : std::next(ns);
      }
    } catch (const std::exception& error) {
      spdlog::error("the namespace controller: {}", error.what());
    }
  }
}

}  // namespace pointsman::e2e

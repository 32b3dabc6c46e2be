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
                                         std::string ca_certificate)
    : store_(store), registry_(registry), ca_certificate_(std::move(ca_certificate)) {
  subscription_ = store_.ListAndWatch("namespaces", initial_);
  // Before the server answers, so that a pod can be made in "default" at once.
  for (const ObjectPtr& ns : initial_.objects)
    Furnish(ns->name);
  thread_ = std::jthread([this](const std::stop_token& stop) { Run(stop); });
}

NamespaceController::~NamespaceController() {
  thread_.request_stop();
  subscription_->Stop();
}

void NamespaceController::Furnish(const std::string& ns) {
  const auto create = [&](const ResourceName& resource, Json object) {
    const std::string name = object["metadata"]["name"];
    if (store_.Get(resource, ns, name)) return;
    object["metadata"]["namespace"] = ns;
    try {
      store_.Create(resource, std::move(object));
    } catch (const StatusError& error) {
      if (error.code() != 409) throw;  // somebody else made it
    }
  };
  create("serviceaccounts",
         {{"apiVersion", "v1"}, {"kind", "ServiceAccount"}, {"metadata", {{"name", "default"}}}});
  create("configmaps", {{"apiVersion", "v1"},
                        {"kind", "ConfigMap"},
                        {"metadata", {{"name", "kube-root-ca.crt"}}},
                        {"data", {{"ca.crt", ca_certificate_}}}});
}

bool NamespaceController::empty(const std::string& ns) {
  bool left = false;
  for (const ResourceTypePtr& type : *registry_.types()) {
    if (!type->namespaced) continue;
    for (const ObjectPtr& object : store_.List(type->StoreName(), ns).objects) {
      try {
        left = !DeleteObject(store_, *type, ns, object->name).removed || left;
      } catch (const StatusError& error) {
        if (error.code() != 404) throw;  // gone already
      }
    }
  }
  if (left) return false;
  const ResourceTypePtr type = registry_.Find("", "v1", "namespaces");
  const ObjectPtr updated = store_.Modify("namespaces", "", ns, [](Json& object) {
    object["spec"].erase("finalizers");
    return true;
  });
  return !updated || RemoveIfFinalized(store_, *type, updated);
}

void NamespaceController::Run(const std::stop_token& stop) {
  std::set<std::string> going;
  const auto look = [&](const StoredObject& ns) {
    if (At(ns.Parse(), {"metadata", "deletionTimestamp"}) != nullptr) {
      going.insert(ns.name);
    } else {
      Furnish(ns.name);
    }
  };
  for (const ObjectPtr& ns : initial_.objects)
    look(*ns);
  initial_.objects.clear();
  while (!stop.stop_requested()) {
    try {
      if (subscription_->Stopped()) {
        // Ended by a fault or by being too slow: begin again.
        subscription_ = store_.ListAndWatch("namespaces", initial_);
        for (const ObjectPtr& ns : initial_.objects)
          look(*ns);
        initial_.objects.clear();
      }
      // What holds a namespace back are finalizers of its objects, which other events end; those
      // are too many to watch, so that a namespace on its way out is looked at every 200 ms.
      const auto event = subscription_->Next(going.empty() ? std::chrono::milliseconds(60000)
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

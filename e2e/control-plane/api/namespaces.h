#pragma once

#include <memory>
#include <stop_token>
#include <string>
#include <thread>

#include "e2e/control-plane/registry/deletion.h"

namespace pointsman::e2e {

// The namespace and service account controllers: a new namespace gets its service account
// "default" and the ConfigMap kube-root-ca.crt; a deleted one loses its objects, then goes.
class NamespaceController {
 public:
  NamespaceController(Store& store, Registry& registry, std::string ca_certificate);
  ~NamespaceController();
  NamespaceController(const NamespaceController&) = delete;
  NamespaceController& operator=(const NamespaceController&) = delete;

 private:
  void Run(const std::stop_token& stop);
  void Furnish(const std::string& ns);
  // Whether the namespace is gone.
  bool empty(const std::string& ns);

  Store& store_;
  Registry& registry_;
  const std::string ca_certificate_;
  Snapshot initial_;
  std::unique_ptr<Subscription> subscription_;
  std::jthread thread_;
};

}  // namespace pointsman::e2e

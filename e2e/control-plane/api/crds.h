#pragma once

#include <mutex>
#include <string>
#include <vector>

#include "e2e/control-plane/registry/resource_type.h"

namespace pointsman::e2e {

// Serves custom resources: checks CustomResourceDefinitions, and keeps the registry and their
// status in step with them. Thread-safe.
class CustomResources {
 public:
  CustomResources(Registry& registry, Store& store, const SchemaProvider& schemas)
      : registry_(registry), store_(store), schemas_(schemas) {}

  static void ApplyDefaults(Json& crd);
  // A server-side apply is typed: throws StatusError 500, as kube-apiserver does, for what this
  // version does not know in a schema. (Other writes leave such fields out without a word.)
  static void CheckApplied(const Json& crd, const Emulation& emulation);
  std::vector<FieldError> Validate(const Json& crd, const Json* old) const;
  // After a definition was written or found in the store: serves it and writes its status.
  void Serve(const Json& crd);
  // After it was removed: its objects go as well.
  void Withdraw(const Json& crd);

 private:
  ResourceType TypeOf(const Json& spec, const Json& version,
                      const std::string& storage_version) const;

  Registry& registry_;
  Store& store_;
  const SchemaProvider& schemas_;
  std::mutex mutex_;
};

}  // namespace pointsman::e2e

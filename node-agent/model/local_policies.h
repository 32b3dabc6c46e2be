// How many Service ports drop traffic on this node because their traffic policy is Local and all
// their endpoints are elsewhere. One sum over both families, kept by the differences.
#pragma once

#include <cstddef>

#include "node-agent/model/service_model.h"

namespace pointsman::agent {

class LocalPolicies {
 public:
  // Every difference of the model, from the empty one on, in order.
  void Apply(const ModelDelta& delta);
  size_t without_internal() const { return internal_; }  // internalTrafficPolicy
  size_t without_external() const { return external_; }  // externalTrafficPolicy

 private:
  size_t internal_ = 0;
  size_t external_ = 0;
};

}  // namespace pointsman::agent

#pragma once

#include <string>
#include <vector>

#include "e2e/control-plane/auth/authenticator.h"
#include "e2e/control-plane/registry/resource_type.h"

namespace pointsman::e2e {

// A write that is about to be stored.
struct AdmissionRequest {
  const UserInfo& user;
  const ResourceType& type;
  std::string ns;
  std::string name;
  std::string subresource;
  std::string operation;  // CREATE, UPDATE, DELETE
  const Json* object;     // null: DELETE
  const Json* old;        // null: CREATE
  bool dry_run;
};

// The stored ValidatingAdmissionPolicies (admissionregistration.k8s.io/v1), as kube-apiserver's
// plugin of that name applies them. What of them is not known here is refused when a policy is
// written, so that none is ever ignored: params, selectors, variables, audit annotations, other
// actions than Deny, subresources other than status. Thread-safe.
class AdmissionPolicies {
 public:
  explicit AdmissionPolicies(const Store& store) : store_(store) {}

  // Throws StatusError when a policy with a binding denies it.
  void Check(const AdmissionRequest& request) const;

  static std::vector<FieldError> ValidatePolicy(const Json& policy, const Emulation& emulation);
  static std::vector<FieldError> ValidateBinding(const Json& binding, const Emulation& emulation);

 private:
  const Store& store_;
};

}  // namespace pointsman::e2e

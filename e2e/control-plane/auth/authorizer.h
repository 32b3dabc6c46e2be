#pragma once

#include <string>
#include <utility>
#include <vector>

#include "e2e/control-plane/auth/authenticator.h"

namespace pointsman::e2e {

// What is to be done to what.
struct AccessRequest {
  std::string verb;
  std::string group;
  std::string resource;  // plural; empty: a path
  std::string subresource;
  std::string ns;
  std::string name;
  std::string path;
};

// Role-based access control over the stored roles and bindings, as kube-apiserver evaluates it
//. system:masters may do everything. Thread-safe.
class Authorizer {
 public:
  explicit Authorizer(const Store& store) : store_(store) {}
  bool Allowed(const UserInfo& user, const AccessRequest& request) const;
  // `User "x" cannot list resource "pods" in API group "" in the namespace "y"`.
  static std::string Denial(const UserInfo& user, const AccessRequest& request);

 private:
  const Store& store_;
};

// The roles and bindings every cluster has (those that clients of this server can need).
std::vector<std::pair<ResourceName, Json>> BootstrapRoles();

}  // namespace pointsman::e2e

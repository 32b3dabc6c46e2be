#pragma once

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "e2e/control-plane/http/message.h"
#include "e2e/control-plane/store/store.h"

namespace pointsman::e2e {

struct UserInfo {
  std::string name;
  std::string uid;
  std::vector<std::string> groups;
  std::map<std::string, std::vector<std::string>> extra;
  bool InGroup(std::string_view group) const {
    return std::find(groups.begin(), groups.end(), group) != groups.end();
  }
};

// Who asks: by client certificate (CN, O), by a service account's token, or
// system:anonymous. Thread-safe.
class Authenticator {
 public:
  Authenticator(const Store& store, std::string secret)
      : store_(store), secret_(std::move(secret)) {}

  // nullopt: a credential was given and is not valid (401).
  std::optional<UserInfo> Authenticate(const HttpRequest& request) const;

  // The Pod that a token is bound to, and its Node (empty: not known, or before 1.30).
  struct Binding {
    std::string pod;
    std::string pod_uid;
    std::string node;
    std::string node_uid;
  };
  // A JSON Web Token for the service account, signed with the secret (HS256). A bound one is worth
  // nothing once its Pod is gone, and says which Pod and Node it is for in UserInfo::extra, as
  // kube-apiserver's does (pkg/serviceaccount/claims.go; the Node since 1.30,
  // ServiceAccountTokenPodNodeInfo).
  std::string MintServiceAccountToken(const std::string& ns, const std::string& name,
                                      const std::string& uid, std::chrono::seconds lifetime,
                                      const std::optional<Binding>& binding) const;

 private:
  std::optional<UserInfo> ServiceAccount(std::string_view token) const;

  const Store& store_;
  const std::string secret_;
};

}  // namespace pointsman::e2e

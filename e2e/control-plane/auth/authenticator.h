#pragma once

#include <filesystem>

#include "e2e/control-plane/http/server.h"
#include "e2e/control-plane/store/store.h"

namespace pointsman::e2e {

struct UserInfo {
  std::string name;
  std::string uid;
  std::vector<std::string> groups;
  bool inGroup(std::string_view group) const {
    return std::find(groups.begin(), groups.end(), group) != groups.end();
  }
};

/// Who asks: by client certificate (CN, O), by a static token, by a service account's token, or
/// system:anonymous. Thread-safe.
class Authenticator {
 public:
  /// tokenFile: kube-apiserver's CSV (token,user,uid,"group1,group2"); may be empty. Throws
  /// std::runtime_error naming the line when it is malformed.
  Authenticator(const Store& store, std::string secret, const std::filesystem::path& tokenFile);

  /// nullopt: a credential was given and is not valid (401).
  std::optional<UserInfo> authenticate(const HttpRequest& request) const;

  /// A JSON Web Token for the service account, signed with the secret (HS256).
  std::string mintServiceAccountToken(const std::string& ns, const std::string& name,
                                      const std::string& uid, std::chrono::seconds lifetime) const;

 private:
  std::optional<UserInfo> serviceAccount(std::string_view token) const;

  const Store& store_;
  const std::string secret_;
  std::map<std::string, UserInfo, std::less<>> tokens_;
};

std::string base64UrlEncode(std::string_view data);
std::optional<std::string> base64UrlDecode(std::string_view text);

}  // namespace pointsman::e2e

#include "e2e/control-plane/auth/authenticator.h"

#include <chrono>
#include <cstdint>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "e2e/control-plane/base/base64.h"

namespace pointsman::e2e {
namespace {

std::string Sign(const std::string& secret, std::string_view text) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  if (HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()),
           reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest,
           &size) == nullptr) {
    throw std::runtime_error("HMAC failed");
  }
  return Base64UrlEncode({reinterpret_cast<char*>(digest), size});
}

std::int64_t NowSeconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace

std::optional<UserInfo> Authenticator::Authenticate(const HttpRequest& request) const {
  UserInfo user;
  const std::string authorization = request.Header("Authorization");
  if (!request.certificate_user.empty()) {
    user.name = request.certificate_user;
    user.groups = request.certificate_groups;
  } else if (!authorization.empty()) {
    if (!authorization.starts_with("Bearer ")) return std::nullopt;
    auto account = ServiceAccount(authorization.substr(7));
    if (!account) return std::nullopt;
    user = std::move(*account);
  } else {
    return UserInfo{"system:anonymous", "", {"system:unauthenticated"}, {}};
  }
  if (!user.InGroup("system:authenticated")) user.groups.emplace_back("system:authenticated");
  return user;
}

std::string Authenticator::MintServiceAccountToken(const std::string& ns, const std::string& name,
                                                   const std::string& uid,
                                                   std::chrono::seconds lifetime,
                                                   const std::optional<Binding>& binding) const {
  Json claims = {
      {"iss", "https://kubernetes.default.svc.cluster.local"},
      {"aud", {"https://kubernetes.default.svc.cluster.local"}},
      {"sub", "system:serviceaccount:" + ns + ":" + name},
      {"iat", NowSeconds()},
      {"nbf", NowSeconds()},
      {"exp", NowSeconds() + lifetime.count()},
      {"kubernetes.io", {{"namespace", ns}, {"serviceaccount", {{"name", name}, {"uid", uid}}}}}};
  if (binding) {
    claims["kubernetes.io"]["pod"] = {{"name", binding->pod}, {"uid", binding->pod_uid}};
    if (!binding->node.empty()) {
      claims["kubernetes.io"]["node"] = {{"name", binding->node}, {"uid", binding->node_uid}};
    }
  }
  const std::string text =
      Base64UrlEncode(R"({"alg":"HS256","typ":"JWT"})") + "." + Base64UrlEncode(claims.dump());
  return text + "." + Sign(secret_, text);
}

std::optional<UserInfo> Authenticator::ServiceAccount(std::string_view token) const {
  const auto dot = token.rfind('.');
  if (dot == std::string_view::npos) return std::nullopt;
  const std::string signature = Sign(secret_, token.substr(0, dot));
  const std::string_view given = token.substr(dot + 1);
  if (signature.size() != given.size() ||
      CRYPTO_memcmp(signature.data(), given.data(), given.size()) != 0) {
    return std::nullopt;
  }
  const std::string_view signed_part = token.substr(0, dot);
  const auto first = signed_part.find('.');
  const auto text = Base64UrlDecode(signed_part.substr(first + 1));
  if (first == std::string_view::npos || !text) return std::nullopt;
  const Json claims = Json::parse(*text, nullptr, false);
  if (!claims.is_object() || claims.value("exp", std::int64_t{0}) < NowSeconds()) {
    return std::nullopt;
  }
  const Json& account = claims["kubernetes.io"];
  const std::string ns = account["namespace"];
  const std::string name = account["serviceaccount"]["name"];
  const ObjectPtr stored = store_.Get("serviceaccounts", ns, name);
  if (!stored || stored->uid != account["serviceaccount"]["uid"]) return std::nullopt;
  UserInfo user{"system:serviceaccount:" + ns + ":" + name,
                stored->uid,
                {"system:serviceaccounts", "system:serviceaccounts:" + ns},
                {}};
  if (account.contains("pod")) {
    const std::string pod = account["pod"]["name"];
    const ObjectPtr bound = store_.Get("pods", ns, pod);
    if (!bound || bound->uid != account["pod"]["uid"]) return std::nullopt;
    user.extra["authentication.kubernetes.io/pod-name"] = {pod};
    user.extra["authentication.kubernetes.io/pod-uid"] = {bound->uid};
  }
  if (account.contains("node")) {
    user.extra["authentication.kubernetes.io/node-name"] = {account["node"]["name"]};
    user.extra["authentication.kubernetes.io/node-uid"] = {account["node"]["uid"]};
  }
  return user;
}

}  // namespace pointsman::e2e

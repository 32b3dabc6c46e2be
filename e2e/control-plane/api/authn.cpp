// Who sends a request, and as whom it is made (impersonation, as kube-apiserver's filter of that
// name).
#include <cstdio>
#include <string>
#include <utility>

#include "e2e/control-plane/api/api_server.h"

namespace pointsman::e2e {

void ApiServer::Authenticate(RequestContext& context) const {
  const auto user = authenticator_.Authenticate(context.request);
  if (!user) throw StatusError(401, "Unauthorized", "Unauthorized");
  context.user = *user;
  const std::string as = context.request.Header("Impersonate-User");
  if (as.empty()) return;
  AccessRequest access;
  access.verb = "impersonate";
  access.resource = "users";
  access.name = as;
  Authorize(context, access);
  UserInfo other{as, "", {}, {}};
  for (const auto& [key, value] : context.request.headers) {
    if (key != "Impersonate-Group") continue;
    access.resource = "groups";
    access.name = value;
    Authorize(context, access);
    other.groups.push_back(value);
  }
  if (as.starts_with("system:serviceaccount:") && other.groups.empty()) {
    const std::string ns = as.substr(22, as.find(':', 22) - 22);
    other.groups = {"system:serviceaccounts", "system:serviceaccounts:" + ns};
  }
  if (!other.InGroup("system:authenticated")) other.groups.emplace_back("system:authenticated");
  context.user = std::move(other);
}

void ApiServer::Authorize(const RequestContext& context, const AccessRequest& access) const {
  if (authorizer_.Allowed(context.user, access)) return;
  const std::string why = Authorizer::Denial(context.user, access);
  if (access.resource.empty()) {
    throw StatusError(403, "Forbidden", "forbidden: " + why, Json::object());
  }
  throw Forbidden(access.group, access.resource, access.name, why);
}

void ApiServer::LogAccess(const RequestContext& context, const AccessRequest& access,
                          bool allowed) const {
  if (!access_log_) return;
  const std::string line =
      Json{{"user", context.user.name},
           {"verb", access.verb},
           {"group", access.group},
           {"resource", access.subresource.empty() ? access.resource
                                                   : access.resource + "/" + access.subresource},
           {"namespace", access.ns},
           {"allowed", allowed}}
          .dump() +
      "\n";
  std::fwrite(line.data(), 1, line.size(), access_log_.get());
  std::fflush(access_log_.get());
}

}  // namespace pointsman::e2e

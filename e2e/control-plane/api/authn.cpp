// Who sends a request, and what they may do.
#include <cstdio>
#include <string>

#include "e2e/control-plane/api/api_server.h"

namespace pointsman::e2e {

void ApiServer::Authenticate(RequestContext& context) const {
  const auto user = authenticator_.Authenticate(context.request);
  if (!user) throw StatusError(401, "Unauthorized", "Unauthorized");
  context.user = *user;
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

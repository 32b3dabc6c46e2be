// Misbehaviour on purpose: how it is asked for, and how a request meets it (faults.h).
#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <thread>

#include "e2e/control-plane/api/api_server.h"

namespace pointsman::e2e {
namespace {

const char* FaultReason(int code) {
  switch (code) {
    case 409:
      return "Conflict";
    case 410:
      return "Expired";
    case 429:
      return "TooManyRequests";
    case 503:
      return "ServiceUnavailable";
    case 504:
      return "Timeout";
    default:
      return "InternalError";
  }
}

}  // namespace

void ApiServer::DebugFaults(RequestContext& context) {
  if (context.request.method == "PUT") {
    const Json body = DecodeBody(context.request, "faults");
    for (const auto& [key, value] : body.items()) {
      if (key != "rules" && key != "dropWatches" && key != "expire" && key != "refuseConnections") {
        throw BadRequest(key + ": no such member");
      }
    }
    if (body.contains("rules")) faults_.Set(body["rules"]);
    if (body.value("expire", false)) store_.ExpireHistory();
    if (body.value("dropWatches", false)) store_.StopSubscriptions();
    if (const std::string text = body.value("refuseConnections", ""); !text.empty() && refuse_) {
      refuse_(ParseDuration("refuseConnections", text));
    }
  } else if (context.request.method != "GET") {
    throw MethodNotAllowed();
  }
  SendJson(context, 200, {{"rules", faults_.Get()}});
}

// True: the request has been answered, or its connection ended.
bool ApiServer::Misbehave(RequestContext& context, const Target& target,
                          const AccessRequest& access) {
  const Faults::Action fault = faults_.Next(context.user.name, access);
  if (fault.delay.count() > 0) std::this_thread::sleep_for(fault.delay);
  if (fault.abort) {
    context.exchange.Abort();
    return true;
  }
  if (fault.code != 0) {
    Json details = Json::object();
    if (fault.retry_after > 0) details["retryAfterSeconds"] = fault.retry_after;
    throw StatusError(fault.code, FaultReason(fault.code), "a fault was asked for", details);
  }
  if (fault.stale_by == 0 || access.verb != "list") return false;
  // An API server whose watch cache lags behind.
  const std::uint64_t now = store_.ResourceVersion();
  const std::uint64_t then = now > fault.stale_by ? now - fault.stale_by : 1;
  std::size_t remaining = 0;
  const Snapshot old = store_.ListPage(target.type->StoreName(), target.ns, {}, 0, then, remaining);
  SendList(context, *target.type, old.objects, {old.resource_version, "", std::nullopt},
           Negotiate(context.request));
  return true;
}

}  // namespace pointsman::e2e

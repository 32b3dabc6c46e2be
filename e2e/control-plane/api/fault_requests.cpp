// Misbehaviour on purpose: how it is asked for, and how a request meets it (faults.h).
#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <thread>

#include "e2e/control-plane/api/api_server.h"

namespace pointsman::e2e {
namespace {

const char* faultReason(int code) {
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

void ApiServer::debugFaults(RequestContext& context) {
  if (context.request.method == "PUT") {
    const Json body = decodeBody(context.request, "faults");
    for (const auto& [key, value] : body.items()) {
      if (key != "rules" && key != "dropWatches" && key != "expire" && key != "refuseConnections") {
        throw badRequest(key + ": no such member");
      }
    }
    if (body.contains("rules")) faults_.set(body["rules"]);
    if (body.value("expire", false)) store_.expireHistory();
    if (body.value("dropWatches", false)) store_.stopSubscriptions();
    if (const std::string text = body.value("refuseConnections", ""); !text.empty() && refuse_) {
      refuse_(parseDuration("refuseConnections", text));
    }
  } else if (context.request.method != "GET") {
    throw methodNotAllowed();
  }
  sendJson(context, 200, {{"rules", faults_.get()}});
}

// True: the request has been answered, or its connection ended.
bool ApiServer::misbehave(RequestContext& context, const Target& target,
                          const AccessRequest& access) {
  const Faults::Action fault = faults_.next(context.user.name, access);
  if (fault.delay.count() > 0) std::this_thread::sleep_for(fault.delay);
  if (fault.abort) {
    context.exchange.abort();
    return true;
  }
  if (fault.code != 0) {
    Json details = Json::object();
    if (fault.retryAfter > 0) details["retryAfterSeconds"] = fault.retryAfter;
    throw StatusError(fault.code, faultReason(fault.code), "a fault was asked for", details);
  }
  if (fault.staleBy == 0 || access.verb != "list") return false;
  // An API server whose watch cache lags behind.
  const std::uint64_t now = store_.resourceVersion();
  const std::uint64_t then = now > fault.staleBy ? now - fault.staleBy : 1;
  std::size_t remaining = 0;
  const Snapshot old = store_.listPage(target.type->storeName(), target.ns, {}, 0, then, remaining);
  sendList(context, *target.type, old.objects, {old.resourceVersion, "", std::nullopt},
           negotiate(context.request));
  return true;
}

}  // namespace pointsman::e2e

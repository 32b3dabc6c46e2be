// The verbs get and list.
#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "e2e/control-plane/api/api_server.h"
#include "e2e/control-plane/registry/base64.h"

namespace pointsman::e2e {
namespace {

std::string continueToken(std::uint64_t version, const StoredObject& last) {
  const std::string key = last.ns.empty() ? last.name : last.ns + "/" + last.name;
  return base64UrlEncode(Json{{"v", "meta.k8s.io/v1"}, {"rv", version}, {"start", key}}.dump());
}

// Where a page begins: the version it shows (0: the current one) and the key it comes after.
struct ListPosition {
  std::uint64_t version = 0;
  std::string after;
  bool continued = false;
};

// As k8s.io/apimachinery's ValidateListOptions.
void checkVersionMatch(const std::string& match, const std::string& version,
                       const std::string& token) {
  if (match.empty()) return;
  if (match != "Exact" && match != "NotOlderThan") {
    throw badRequest("resourceVersionMatch: Unsupported value: \"" + match +
                     "\": supported values: \"Exact\", \"NotOlderThan\"");
  }
  if (version.empty())
    throw forbiddenMatch("resourceVersionMatch is forbidden unless resourceVersion is provided");
  if (!token.empty())
    throw forbiddenMatch("resourceVersionMatch is forbidden when continue is provided");
  if (match == "Exact" && version == "0")
    throw forbiddenMatch("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
}

ListPosition positionOf(const HttpRequest& request, std::size_t limit, std::uint64_t current) {
  const std::string version = request.parameter("resourceVersion").value_or("");
  const std::string match = request.parameter("resourceVersionMatch").value_or("");
  const std::string token = request.parameter("continue").value_or("");
  checkVersionMatch(match, version, token);
  if (!token.empty()) {
    const auto decoded = base64UrlDecode(token);
    const Json value = decoded ? Json::parse(*decoded, nullptr, false) : Json();
    if (!value.is_object() || value.value("v", "") != "meta.k8s.io/v1" || !value.contains("rv")) {
      throw badRequest("continue key is not valid: illegal base64 data or unknown version");
    }
    if (!version.empty() && version != "0") {
      throw badRequest("specifying resource version is not allowed when using continue");
    }
    return {value["rv"].get<std::uint64_t>(), value.value("start", ""), true};
  }
  if (version.empty() || version == "0") return {};
  const std::uint64_t wanted = parseVersion("resourceVersion", version);
  if (wanted > current) {
    throw StatusError(
        504, "Timeout",
        "Too large resource version: " + version + ", current: " + std::to_string(current),
        Json{{"causes",
              {{{"reason", "ResourceVersionTooLarge"}, {"message", "Too large resource version"}}}},
             {"retryAfterSeconds", 1}});
  }
  // With a limit and no match, an old API server takes it as exact.
  if (match == "Exact" || (match.empty() && limit != 0)) return {wanted, "", false};
  return {};
}

}  // namespace

void ApiServer::get(RequestContext& context, const Target& target) {
  const ObjectPtr object = store_.get(target.type->storeName(), target.ns, target.name);
  if (!object) throw notFound(target.type->group, target.type->plural, target.name);
  answer(context, 200, target, object);
}

void ApiServer::list(RequestContext& context, const Target& target) {
  const HttpRequest& request = context.request;
  const Selector selector = selectorOf(request, target);
  std::size_t limit = 0;
  if (const auto text = request.parameter("limit"); text && !text->empty()) {
    limit = parseVersion("limit", *text);
  }
  const ListPosition position = positionOf(request, limit, store_.resourceVersion());
  std::size_t remaining = 0;
  Snapshot page;
  try {
    page = store_.listPage(target.type->storeName(), target.ns, position.after,
                           selector.empty() ? limit : 0, position.version, remaining);
  } catch (const StatusError& error) {
    if (error.code() != 410 || !position.continued) throw;
    throw expired(
        "The provided continue parameter is too old to display a consistent list result. You can "
        "start a new list without the continue parameter.");
  }
  ListMeta meta;
  meta.resourceVersion = page.resourceVersion;
  if (!selector.empty()) {
    std::vector<ObjectPtr> chosen;
    for (ObjectPtr& object : page.objects) {
      if (!selector.matches(*object)) continue;
      if (limit != 0 && chosen.size() == limit) {
        meta.continueToken = continueToken(page.resourceVersion, *chosen.back());
        break;
      }
      chosen.push_back(std::move(object));
    }
    page.objects = std::move(chosen);
  } else if (remaining > 0) {
    meta.continueToken = continueToken(page.resourceVersion, *page.objects.back());
    meta.remaining = remaining;
  }
  sendList(context, *target.type, page.objects, meta, context.rendering);
}

}  // namespace pointsman::e2e

// The verbs get and list.
#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "e2e/control-plane/api/api_server.h"
#include "e2e/control-plane/base/base64.h"

namespace pointsman::e2e {
namespace {

std::string ContinueToken(std::uint64_t version, const StoredObject& last) {
  const std::string key = last.ns.empty() ? last.name : last.ns + "/" + last.name;
  return Base64UrlEncode(Json{{"v", "meta.k8s.io/v1"}, {"rv", version}, {"start", key}}.dump());
}

// Where a page begins: the version it shows (0: the current one) and the key it comes after.
struct ListPosition {
  std::uint64_t version = 0;
  std::string after;
  bool continued = false;
};

// As k8s.io/apimachinery's ValidateListOptions.
void CheckVersionMatch(const std::string& match, const std::string& version,
                       const std::string& token) {
  if (match.empty()) return;
  if (match != "Exact" && match != "NotOlderThan") {
    throw Invalid("meta.k8s.io", "ListOptions", "",
                  {{"resourceVersionMatch", "FieldValueNotSupported",
                    "Unsupported value: " + Json(match).dump() +
                        ": supported values: \"Exact\", \"NotOlderThan\", \"\""}});
  }
  if (version.empty())
    throw ForbiddenMatch("resourceVersionMatch is forbidden unless resourceVersion is provided");
  if (!token.empty())
    throw ForbiddenMatch("resourceVersionMatch is forbidden when continue is provided");
  if (match == "Exact" && version == "0")
    throw ForbiddenMatch("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
}

StatusError VersionToCome(const std::string& version, std::uint64_t current) {
  return {
      504, "Timeout",
      "Timeout: Too large resource version: " + version + ", current: " + std::to_string(current),
      Json{{"causes",
            {{{"reason", "ResourceVersionTooLarge"}, {"message", "Too large resource version"}}}},
           {"retryAfterSeconds", 1}}};
}

ListPosition PositionOf(const HttpRequest& request, std::size_t limit, std::uint64_t current) {
  const std::string version = request.Parameter("resourceVersion").value_or("");
  const std::string match = request.Parameter("resourceVersionMatch").value_or("");
  const std::string token = request.Parameter("continue").value_or("");
  CheckVersionMatch(match, version, token);
  if (!token.empty()) {
    const auto decoded = Base64UrlDecode(token);
    const Json value = decoded ? Json::parse(*decoded, nullptr, false) : Json();
    if (!value.is_object() || value.value("v", "") != "meta.k8s.io/v1" || !value.contains("rv")) {
      throw BadRequest("continue key is not valid: illegal base64 data or unknown version");
    }
    if (!version.empty() && version != "0") {
      throw BadRequest("specifying resource version is not allowed when using continue");
    }
    return {value["rv"].get<std::uint64_t>(), value.value("start", ""), true};
  }
  if (version.empty() || version == "0") return {};
  const std::uint64_t wanted = ParseVersion("resourceVersion", version);
  if (wanted > current) throw VersionToCome(version, current);
  // With a limit and no match, an old API server takes it as exact.
  if (match == "Exact" || (match.empty() && limit != 0)) return {wanted, "", false};
  return {};
}

}  // namespace

void ApiServer::Get(RequestContext& context, const Target& target) {
  if (const auto version = context.request.Parameter("resourceVersion");
      version && !version->empty()) {
    const std::uint64_t current = store_.ResourceVersion();
    if (ParseVersion("resourceVersion", *version) > current) throw VersionToCome(*version, current);
  }
  const ObjectPtr object = store_.Get(target.type->StoreName(), target.ns, target.name);
  if (!object) throw NotFound(target.type->group, target.type->plural, target.name);
  Answer(context, 200, target, object);
}

void ApiServer::List(RequestContext& context, const Target& target) {
  const HttpRequest& request = context.request;
  if (request.Parameter("sendInitialEvents"))
    throw InvalidListOption("sendInitialEvents", "sendInitialEvents is forbidden for list");
  const Selector selector = SelectorOf(request, target);
  std::size_t limit = 0;
  if (const auto text = request.Parameter("limit"); text && !text->empty()) {
    limit = ParseVersion("limit", *text);
  }
  const ListPosition position = PositionOf(request, limit, store_.ResourceVersion());
  std::size_t remaining = 0;
  Snapshot page;
  try {
    page = store_.ListPage(target.type->StoreName(), target.ns, position.after,
                           selector.empty() ? limit : 0, position.version, remaining);
  } catch (const StatusError& error) {
    if (error.code() != 410 || !position.continued) throw;
    throw Expired(
        "The provided continue parameter is too old to display a consistent list result. You can "
        "start a new list without the continue parameter.");
  }
  ListMeta meta;
  meta.resource_version = page.resource_version;
  if (!selector.empty()) {
    std::vector<ObjectPtr> chosen;
    for (ObjectPtr& object : page.objects) {
      if (!selector.Matches(*object)) continue;
      if (limit != 0 && chosen.size() == limit) {
        meta.continue_token = ContinueToken(page.resource_version, *chosen.back());
        break;
      }
      chosen.push_back(std::move(object));
    }
    page.objects = std::move(chosen);
  } else if (remaining > 0) {
    meta.continue_token = ContinueToken(page.resource_version, *page.objects.back());
    meta.remaining = remaining;
  }
  SendList(context, *target.type, page.objects, meta, context.rendering);
}

}  // namespace pointsman::e2e

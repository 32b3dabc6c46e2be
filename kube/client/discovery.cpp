#include "kube/client/discovery.h"

#include <charconv>

#include "kube/client/percent_encode.h"

namespace pointsman::kube {
namespace {

int LeadingNumber(const Json& version, const char* field) {
  const std::string text = version.value(field, "");
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) {
    throw TransportError("GET /version: " + std::string(field) + " is \"" + text +
                         "\", not a number");
  }
  return number;
}

}  // namespace

ServerVersion GetServerVersion(Client& client) {
  const Json version = client.GetPath("/version");
  try {
    return {LeadingNumber(version, "major"), LeadingNumber(version, "minor"),
            version.value("gitVersion", "")};
  } catch (const Json::type_error& e) {
    throw TransportError(std::string("GET /version: ") + e.what());
  }
}

bool ServesResource(Client& client, const Resource& resource) {
  const std::string path =
      (resource.group.empty() ? "/api" : "/apis/" + PercentEncode(resource.group)) + "/" +
      PercentEncode(resource.version);
  Json list;
  try {
    list = client.GetPath(path);
  } catch (const ApiError& e) {
    if (e.IsNotFound()) return false;
    throw;
  }
  const auto resources = list.find("resources");
  if (resources == list.end() || !resources->is_array()) return false;
  return std::any_of(resources->begin(), resources->end(), [&](const Json& served) {
    const auto name = served.find("name");
    return name != served.end() && *name == resource.plural;
  });
}

}  // namespace pointsman::kube

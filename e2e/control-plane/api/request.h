// A request to a resource, as the verbs see it: where it goes, who sends it, what it carries and
// how it is answered.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "e2e/control-plane/api/render.h"
#include "e2e/control-plane/api/selectors.h"
#include "e2e/control-plane/auth/authorizer.h"
#include "e2e/control-plane/http/message.h"
#include "e2e/control-plane/registry/resource_type.h"

namespace pointsman::e2e {

/// /api/v1/namespaces/NS/TYPE/NAME/SUBRESOURCE; what the path does not name is empty.
struct Target {
  ResourceTypePtr type;
  std::string ns;
  std::string name;
  std::string subresource;
};

struct RequestContext {
  const HttpRequest& request;
  HttpExchange& exchange;
  UserInfo user;
  Rendering rendering;
  std::vector<std::string> warnings;  ///< headers to answer with
  bool dryRun = false;
  std::string fieldValidation = "Warn";
  std::string manager;

  RequestInfo info(const std::string& subresource);
};

StatusError noSuchResource();
StatusError methodNotAllowed();
/// 422 for ListOptions whose resourceVersionMatch cannot be.
StatusError forbiddenMatch(const std::string& why);
/// 409 for a resourceVersion that is not the stored one.
StatusError modifiedMeanwhile(const ResourceType& type, const std::string& name);

std::vector<std::string> splitPath(std::string_view path);
/// Of the parts of a path below /api or /apis; nullopt: no such resource.
std::optional<Target> parseTarget(const Registry& registry, const std::vector<std::string>& parts);
/// What a request wants to do; an empty verb: no method of the API.
AccessRequest accessOf(const HttpRequest& request, const Target& target);
Selector selectorOf(const HttpRequest& request, const Target& target);
/// Reads dryRun, fieldValidation, fieldManager and Accept into `context`. Throws StatusError 400
/// and 406.
void readOptions(RequestContext& context, const Emulation& emulation);
bool isTrue(const std::optional<std::string>& value);
/// An unsigned number of a query parameter or of metadata.resourceVersion. Throws StatusError 400
/// naming `field`.
std::uint64_t parseVersion(const std::string& field, const std::string& text);

/// Content-Type without its parameters.
std::string mediaTypeOf(const HttpRequest& request);
/// The object in the body: JSON, YAML, and protobuf unless `protobuf` is false (custom resources
/// have none). Throws StatusError 400 and 415, naming `what`.
Json decodeBody(const HttpRequest& request, const std::string& what, bool protobuf = true);
/// The same for DeleteOptions, where the body may be left out.
Json decodeOptionalBody(const HttpRequest& request, const std::string& what);

void answer(RequestContext& context, int status, const Target& target, const ObjectPtr& object);
void sendList(RequestContext& context, const ResourceType& type,
              const std::vector<ObjectPtr>& objects, const ListMeta& meta,
              const Rendering& rendering);
void sendJson(RequestContext& context, int status, const Json& body);
/// A metav1.Status of success; null details are left out.
void sendSuccess(RequestContext& context, int status, const Json& details = nullptr);
void addWarnings(HttpResponse& response, const std::vector<std::string>& warnings);

}  // namespace pointsman::e2e

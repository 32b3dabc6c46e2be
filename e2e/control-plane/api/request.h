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

// /api/v1/namespaces/NS/TYPE/NAME/SUBRESOURCE; what the path does not name is empty.
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
  std::vector<std::string> warnings;  // headers to answer with
  bool dry_run = false;
  std::string field_validation = "Warn";
  std::string manager;

  RequestInfo Info(const std::string& subresource);
};

StatusError NoSuchResource();
StatusError MethodNotAllowed();
// 422 for ListOptions whose resourceVersionMatch cannot be.
StatusError ForbiddenMatch(const std::string& why);
// 422 for another of ListOptions that cannot be with the rest.
StatusError InvalidListOption(const std::string& option, const std::string& why);
// 409 for a resourceVersion that is not the stored one.
StatusError ModifiedMeanwhile(const ResourceType& type, const std::string& name);

std::vector<std::string> SplitPath(std::string_view path);
// Of the parts of a path below /api or /apis; nullopt: no such resource.
std::optional<Target> ParseTarget(const Registry& registry, const std::vector<std::string>& parts);
// What a request wants to do; an empty verb: no method of the API.
AccessRequest AccessOf(const HttpRequest& request, const Target& target);
Selector SelectorOf(const HttpRequest& request, const Target& target);
// Reads dryRun, fieldValidation, fieldManager and Accept into `context`. Throws StatusError 400
// and 406.
void ReadOptions(RequestContext& context, const Emulation& emulation);
bool IsTrue(const std::optional<std::string>& value);
// An unsigned number of a query parameter or of metadata.resourceVersion. Throws StatusError 400
// naming `field`.
std::uint64_t ParseVersion(const std::string& field, const std::string& text);

// Content-Type without its parameters.
std::string MediaTypeOf(const HttpRequest& request);
// The object in the body: JSON, YAML, and protobuf unless `protobuf` is false (custom resources
// have none). Throws StatusError 400 and 415, naming `what`.
Json DecodeBody(const HttpRequest& request, const std::string& what, bool protobuf = true);
// The same for DeleteOptions, where the body may be left out.
Json DecodeOptionalBody(const HttpRequest& request, const std::string& what);

void Answer(RequestContext& context, int status, const Target& target, const ObjectPtr& object);
void SendList(RequestContext& context, const ResourceType& type,
              const std::vector<ObjectPtr>& objects, const ListMeta& meta,
              const Rendering& rendering);
void SendJson(RequestContext& context, int status, const Json& body);
// A metav1.Status of success; null details are left out.
void SendSuccess(RequestContext& context, int status, const Json& details = nullptr);
void AddWarnings(HttpResponse& response, const std::vector<std::string>& warnings);

}  // namespace pointsman::e2e

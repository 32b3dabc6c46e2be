#include "e2e/control-plane/registry/status_error.h"

#include <string>
#include <utility>
#include <vector>

namespace pointsman::e2e {
namespace {

std::string qualified(const std::string& group, const std::string& resource) {
  return group.empty() ? resource : resource + "." + group;
}

Json detailsOf(const std::string& group, const std::string& resource, const std::string& name) {
  Json details = Json::object();
  if (!name.empty()) details["name"] = name;
  if (!group.empty()) details["group"] = group;
  if (!resource.empty()) details["kind"] = resource;
  return details;
}

}  // namespace

Json StatusError::toJson() const {
  Json status = {{"kind", "Status"},    {"apiVersion", "v1"}, {"metadata", Json::object()},
                 {"status", "Failure"}, {"message", what()},  {"reason", reason_},
                 {"code", code_}};
  if (!details_.is_null()) status["details"] = details_;
  return status;
}

StatusError notFound(const std::string& group, const std::string& resource,
                     const std::string& name) {
  return {404, "NotFound", qualified(group, resource) + " \"" + name + "\" not found",
          detailsOf(group, resource, name)};
}

StatusError alreadyExists(const std::string& group, const std::string& resource,
                          const std::string& name) {
  return {409, "AlreadyExists", qualified(group, resource) + " \"" + name + "\" already exists",
          detailsOf(group, resource, name)};
}

StatusError conflict(const std::string& group, const std::string& resource, const std::string& name,
                     const std::string& why) {
  return {409, "Conflict",
          "Operation cannot be fulfilled on " + qualified(group, resource) + " \"" + name +
              "\": " + why,
          detailsOf(group, resource, name)};
}

StatusError invalid(const std::string& group, const std::string& kind, const std::string& name,
                    const std::vector<FieldError>& errors) {
  Json details = detailsOf(group, kind, name);
  details["causes"] = Json::array();
  std::string text;
  for (const FieldError& error : errors) {
    const std::string line =
        error.field.empty() ? error.message : error.field + ": " + error.message;
    Json cause = {{"reason", error.reason}, {"message", error.message}};
    if (!error.field.empty()) cause["field"] = error.field;
    details["causes"].push_back(std::move(cause));
    if (!text.empty()) text += ", ";
    text += line;
  }
  if (errors.size() > 1) text = "[" + text + "]";
  return {422, "Invalid", qualified(group, kind) + " \"" + name + "\" is invalid: " + text,
          std::move(details)};
}

StatusError badRequest(const std::string& message) {
  return {400, "BadRequest", message};
}

StatusError forbidden(const std::string& group, const std::string& resource,
                      const std::string& name, const std::string& why) {
  const std::string subject = name.empty()
                                  ? qualified(group, resource) + " is forbidden: "
                                  : qualified(group, resource) + " \"" + name + "\" is forbidden: ";
  return {403, "Forbidden", subject + why, detailsOf(group, resource, name)};
}

StatusError expired(const std::string& message) {
  return {410, "Expired", message};
}

StatusError internalError(const std::string& message) {
  return {500, "InternalError", "Internal error occurred: " + message,
          Json{{"causes", Json::array({Json{{"message", message}}})}}};
}

}  // namespace pointsman::e2e

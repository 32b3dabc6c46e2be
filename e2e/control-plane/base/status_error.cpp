#include "e2e/control-plane/base/status_error.h"

#include <string>
#include <utility>
#include <vector>

namespace pointsman::e2e {
namespace {

std::string Qualified(const std::string& group, const std::string& resource) {
  return group.empty() ? resource : resource + "." + group;
}

Json DetailsOf(const std::string& group, const std::string& resource, const std::string& name) {
  Json details = Json::object();
  if (!name.empty()) details["name"] = name;
  if (!group.empty()) details["group"] = group;
  if (!resource.empty()) details["kind"] = resource;
  return details;
}

}  // namespace

Json StatusError::ToJson() const {
  Json status = {{"kind", "Status"},    {"apiVersion", "v1"}, {"metadata", Json::object()},
                 {"status", "Failure"}, {"message", what()},  {"code", code_}};
  if (!reason_.empty()) status["reason"] = reason_;
  if (!details_.is_null()) status["details"] = details_;
  return status;
}

StatusError NotFound(const std::string& group, const std::string& resource,
                     const std::string& name) {
  return {404, "NotFound", Qualified(group, resource) + " \"" + name + "\" not found",
          DetailsOf(group, resource, name)};
}

StatusError AlreadyExists(const std::string& group, const std::string& resource,
                          const std::string& name) {
  return {409, "AlreadyExists", Qualified(group, resource) + " \"" + name + "\" already exists",
          DetailsOf(group, resource, name)};
}

StatusError Conflict(const std::string& group, const std::string& resource, const std::string& name,
                     const std::string& why) {
  return {409, "Conflict",
          "Operation cannot be fulfilled on " + Qualified(group, resource) + " \"" + name +
              "\": " + why,
          DetailsOf(group, resource, name)};
}

StatusError Invalid(const std::string& group, const std::string& kind, const std::string& name,
                    const std::vector<FieldError>& errors) {
  Json details = DetailsOf(group, kind, name);
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
  return {422, "Invalid", Qualified(group, kind) + " \"" + name + "\" is invalid: " + text,
          std::move(details)};
}

StatusError BadRequest(const std::string& message) {
  return {400, "BadRequest", message};
}

StatusError Forbidden(const std::string& group, const std::string& resource,
                      const std::string& name, const std::string& why) {
  const std::string subject = name.empty()
                                  ? Qualified(group, resource) + " is forbidden: "
                                  : Qualified(group, resource) + " \"" + name + "\" is forbidden: ";
  return {403, "Forbidden", subject + why, DetailsOf(group, resource, name)};
}

StatusError Expired(const std::string& message) {
  return {410, "Expired", message};
}

StatusError InternalError(const std::string& message) {
  return {500, "InternalError", "Internal error occurred: " + message,
          Json{{"causes", Json::array({Json{{"message", message}}})}}};
}

}  // namespace pointsman::e2e

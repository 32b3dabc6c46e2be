#pragma once

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

namespace pointsman::e2e {

using Json = nlohmann::json;

// One entry of Status.details.causes, and what validation reports for a field.
struct FieldError {
  // Path as in a real API server's messages: "spec.ports[0].port", "metadata.labels"; may be
  // empty.
  std::string field;
  // FieldValueRequired, FieldValueInvalid, FieldValueNotSupported, FieldValueForbidden,
  // FieldValueDuplicate, FieldValueTypeInvalid, FieldValueTooLong, FieldValueTooMany,
  // FieldValueNotFound, FieldManagerConflict (metav1.CauseType).
  std::string reason;
  // The whole text after "FIELD: ", e.g. `Invalid value: 70000: must be between 1 and 65535,
  // inclusive`.
  std::string message;
};

// A failure that is answered with a metav1.Status. The constructors below word it as a real API
// server does.
class StatusError : public std::runtime_error {
 public:
  StatusError(int code, std::string reason, const std::string& message, Json details = nullptr)
      : std::runtime_error(message),
        code_(code),
        reason_(std::move(reason)),
        details_(std::move(details)) {}

  int code() const { return code_; }
  const std::string& reason() const { return reason_; }
  const Json& details() const { return details_; }

  // The metav1.Status object.
  Json ToJson() const;

 private:
  int code_;
  std::string reason_;
  Json details_;
};

// group may be empty (the core group); resource is the plural.
StatusError NotFound(const std::string& group, const std::string& resource,
                     const std::string& name);
StatusError AlreadyExists(const std::string& group, const std::string& resource,
                          const std::string& name);
StatusError Conflict(const std::string& group, const std::string& resource, const std::string& name,
                     const std::string& why);
// 422 with one cause per error. kind is the Kind, as in `Service "x" is invalid: …`.
StatusError Invalid(const std::string& group, const std::string& kind, const std::string& name,
                    const std::vector<FieldError>& errors);
StatusError BadRequest(const std::string& message);
StatusError Forbidden(const std::string& group, const std::string& resource,
                      const std::string& name, const std::string& why);
// 410 with reason Expired.
StatusError Expired(const std::string& message);
StatusError InternalError(const std::string& message);

}  // namespace pointsman::e2e

// The API server's own errors: a Status object (k8s.io/apimachinery/pkg/apis/meta/v1) as an
// exception.
#pragma once

#include <chrono>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace pointsman::kube {

class ApiError : public std::runtime_error {
 public:
  struct Cause {
    std::string reason;   // "FieldValueInvalid"
    std::string message;  // what is wrong
    std::string field;    // "spec.mode"
  };

  // `what()` is the Status message, or one made from `http_code` and the body's start when the
  // answer was no Status.
  ApiError(int http_code, std::string reason, const std::string& message,
           std::vector<Cause> causes = {}, std::optional<std::chrono::seconds> retry_after = {});

  // Reads a Status from an answer's body; any other body gives a generic error for that code.
  static ApiError FromBody(int http_code, std::string_view body);

  int code() const { return code_; }
  const std::string& reason() const { return reason_; }  // "NotFound", "Conflict", …
  const std::vector<Cause>& causes() const { return causes_; }
  std::optional<std::chrono::seconds> retry_after() const { return retry_after_; }

  bool IsNotFound() const { return code_ == 404; }
  bool IsAlreadyExists() const { return code_ == 409 && reason_ == "AlreadyExists"; }
  bool IsConflict() const { return code_ == 409 && reason_ != "AlreadyExists"; }
  bool IsExpired() const { return code_ == 410; }  // the resourceVersion is too old: list again
  bool IsInvalid() const { return code_ == 422; }
  bool IsForbidden() const { return code_ == 403; }
  bool IsTooManyRequests() const { return code_ == 429; }

 private:
  int code_;
  std::string reason_;
  std::vector<Cause> causes_;
  std::optional<std::chrono::seconds> retry_after_;
};

}  // namespace pointsman::kube

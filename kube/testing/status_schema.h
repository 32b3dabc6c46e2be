// The schemas of the CRDs as an API server applies them to a status.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace pointsman::testing {

// Immutable, may be shared by threads. Uses the validator of e2e/control-plane/schema, which
// answers as apiextensions does (tried there against real servers).
class StatusSchema {
 public:
  // The two of crds/.
  static const StatusSchema& OfNodeProxy();
  static const StatusSchema& OfProxyConfiguration();

  // `file` within crds/. Throws std::runtime_error when it cannot be read or is no CRD.
  explicit StatusSchema(const std::string& file);
  ~StatusSchema();

  // What the server would refuse in `status` ("status.conditions[0].message: Too long: …"), "" for
  // nothing. Also what is no UTF-8, which it would never come to see.
  std::string Refusal(const nlohmann::json& status) const;
  // Throws std::logic_error with the refusal.
  void Check(const nlohmann::json& status) const;

 private:
  struct Compiled;
  std::unique_ptr<const Compiled> compiled_;
};

}  // namespace pointsman::testing

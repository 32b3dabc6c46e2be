#include "kube/testing/report_checks.h"

#include <stdexcept>

#include <nlohmann/json.hpp>

#include "kube/objects/endpoint_slice.h"
#include "kube/objects/node.h"
#include "kube/objects/service.h"
#include "kube/pointsman/node_proxy.h"
#include "kube/pointsman/proxy_configuration.h"
#include "kube/pointsman/status_bounds.h"
#include "kube/testing/status_schema.h"
#include "kube/text/text.h"

namespace pointsman::testing {
namespace {

using nlohmann::json;

constexpr size_t kMostProblem = 1024;
constexpr size_t kMostProblems = 24;
constexpr size_t kMostRefusal = 16'384;  // of an object: several fields

void Expect(bool holds, const std::string& what) {
  if (!holds) throw std::logic_error(what);
}

// The problems of an object, in the form in which a node tells them.
void CheckProblems(const std::vector<std::string>& problems) {
  Expect(problems.size() <= kMostProblems, std::to_string(problems.size()) + " problems");
  std::string all;
  for (const std::string& problem : problems) {
    CheckText(problem, kMostProblem);
    all += problem;
  }
  kube::NodeProxyStatus status;
  kube::SetCondition(
      status.conditions,
      {"ServicesAccepted", kube::ConditionStatus::kFalse, "NotServedAsSpecified", all, "", 1},
      "2026-01-02T03:04:05Z");
  StatusSchema::OfNodeProxy().Check(ToJson(status));
}

// `decode` either gives the object or says in std::invalid_argument why it is none.
template <typename Decode>
void CheckDecoded(std::string_view input, Decode decode) {
  try {
    CheckProblems(decode(input).problems);
  } catch (const std::invalid_argument& error) {
    CheckText(error.what(), kMostRefusal);
  }
}

json Parsed(std::string_view input) {
  return json::parse(input.begin(), input.end(), nullptr, /*allow_exceptions=*/false);
}

template <typename Status>
void CheckStatus(const Status& status, const StatusSchema& schema) {
  Status kept = status;
  KeepToSchema(kept);
  Status again = kept;
  KeepToSchema(again);
  Expect(again == kept, "KeepToSchema changes what it made itself");
  const json written = ToJson(status);
  Expect(written == ToJson(kept), "ToJson does not write what KeepToSchema makes");
  schema.Check(written);
}

}  // namespace

void CheckText(std::string_view text, size_t max_size) {
  Expect(text.size() <= max_size, "a text of " + std::to_string(text.size()) + " bytes");
  Expect(text::IsValidUtf8(text), "no UTF-8: " + text::Escape(text));
  Expect(text == text::Escape(text), "control characters: " + text::Escape(text));
}

void CheckService(std::string_view input) {
  CheckDecoded(input, kube::DecodeService);
}

void CheckEndpointSlice(std::string_view input) {
  CheckDecoded(input, kube::DecodeEndpointSlice);
}

void CheckNode(std::string_view input) {
  CheckDecoded(input, kube::DecodeNode);
}

void CheckNodeProxy(std::string_view input) {
  const json object = Parsed(input);
  if (object.is_discarded()) return;
  kube::NodeProxy proxy;
  try {
    proxy = kube::NodeProxyFromJson(object);
  } catch (const std::invalid_argument& error) {
    return CheckText(error.what(), kMostRefusal);
  }
  CheckStatus(proxy.status, StatusSchema::OfNodeProxy());
  StatusSchema::OfNodeProxy().Check(ToJson(kube::WithoutMessages(proxy.status, "left out")));
  // As the server gives it back: nothing is to be written again.
  kube::KeepToSchema(proxy.status);
  const kube::NodeProxy back = kube::NodeProxyFromJson({{"metadata", {{"name", "n1"}}},
                                                        {"spec", ToJson(proxy.spec)},
                                                        {"status", ToJson(proxy.status)}});
  Expect(back.status == proxy.status, "the status does not come back as it was written");
  Expect(back.spec == proxy.spec, "the spec does not come back as it was written");
}

void CheckProxyConfiguration(std::string_view input) {
  const json object = Parsed(input);
  if (object.is_discarded()) return;
  kube::ProxyConfiguration configuration = kube::ProxyConfigurationFromJson(object);
  std::string all;
  for (const kube::FieldError& error : configuration.errors) {
    CheckText(error.path, kMostProblem);
    CheckText(error.message, kMostProblem);
    all += error.path + ": " + error.message + "; ";
  }
  kube::SetCondition(configuration.status.conditions,
                     {"Accepted", kube::ConditionStatus::kFalse, "Invalid", all, "", 1},
                     "2026-01-02T03:04:05Z");
  CheckStatus(configuration.status, StatusSchema::OfProxyConfiguration());
  static_cast<void>(ToJson(configuration.spec).dump());
  kube::KeepToSchema(configuration.status);
  const kube::ProxyConfiguration back =
      kube::ProxyConfigurationFromJson({{"metadata", {{"name", "c"}}},
                                        {"spec", {{"mode", "ipvs"}}},
                                        {"status", ToJson(configuration.status)}});
  Expect(back.status == configuration.status, "the status does not come back as it was written");
}

}  // namespace pointsman::testing

#include "kube/testing/status_schema.h"

#include <stdexcept>

#include <yaml-cpp/yaml.h>

#include "e2e/control-plane/schema/validate.h"

namespace pointsman::testing {
namespace {

using nlohmann::json;

json ToJson(const YAML::Node& node) {
  if (node.IsMap()) {
    json object = json::object();
    for (const auto& pair : node)
      object[pair.first.as<std::string>()] = ToJson(pair.second);
    return object;
  }
  if (node.IsSequence()) {
    json list = json::array();
    for (const auto& item : node)
      list.push_back(ToJson(item));
    return list;
  }
  if (node.IsNull()) return nullptr;
  const auto text = node.as<std::string>();
  if (node.Tag() == "!") return text;  // quoted
  json value = json::parse(text, nullptr, /*allow_exceptions=*/false);
  return value.is_discarded() || value.is_structured() ? json(text) : value;
}

}  // namespace

struct StatusSchema::Compiled {
  e2e::schema::Structural schema;
};

const StatusSchema& StatusSchema::OfNodeProxy() {
  static const StatusSchema kSchema("pointsman.io_nodeproxies.yaml");
  return kSchema;
}

const StatusSchema& StatusSchema::OfProxyConfiguration() {
  static const StatusSchema kSchema("pointsman.io_proxyconfigurations.yaml");
  return kSchema;
}

StatusSchema::StatusSchema(const std::string& file) {
  const json crd = ToJson(YAML::LoadFile(std::string(POINTSMAN_CRDS_DIR) + "/" + file));
  const json& schema =
      crd.at("/spec/versions/0/schema/openAPIV3Schema/properties/status"_json_pointer);
  constexpr int kMinor = 36;  // the rules of that Kubernetes
  e2e::schema::FieldErrors errors;
  auto compiled = std::make_unique<Compiled>();
  compiled->schema = e2e::schema::ParseSchema(schema, "status", kMinor, errors);
  if (!errors.empty()) throw std::runtime_error(file + ": " + e2e::schema::Aggregate(errors));
  compiled_ = std::move(compiled);
}

StatusSchema::~StatusSchema() = default;

std::string StatusSchema::Refusal(const json& status) const {
  try {
    static_cast<void>(status.dump());
  } catch (const json::exception& error) {
    return error.what();
  }
  const auto errors = e2e::schema::Validate(status, compiled_->schema, "status");
  return errors.empty() ? "" : e2e::schema::Aggregate(errors);
}

void StatusSchema::Check(const json& status) const {
  if (const std::string refusal = Refusal(status); !refusal.empty())
    throw std::logic_error("the schema refuses the status: " + refusal);
}

}  // namespace pointsman::testing

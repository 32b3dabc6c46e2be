// The schemas and the C++ types say the same: fields, defaults, words and bounds.
#include <filesystem>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <yaml-cpp/yaml.h>

#include "kube/pointsman/limits.h"
#include "kube/pointsman/neighbour_names.h"
#include "kube/pointsman/node_proxy.h"
#include "kube/pointsman/proxy_configuration.h"
#include "kube/pointsman/settings_json.h"
#include "kube/pointsman/validation.h"

namespace pointsman::kube {
namespace {

using nlohmann::json;

json ToJson(const YAML::Node& node) {
  if (node.IsMap()) {
    json object = json::object();
    for (const auto& member : node)
      object[member.first.as<std::string>()] = ToJson(member.second);
    return object;
  }
  if (node.IsSequence()) {
    json list = json::array();
    for (const auto& element : node)
      list.push_back(ToJson(element));
    return list;
  }
  if (node.IsNull()) return nullptr;
  const auto text = node.as<std::string>();
  const bool quoted = node.Tag() == "!";
  if (!quoted) {
    if (text == "true" || text == "false") return text == "true";
    int64_t number = 0;
    if (YAML::convert<int64_t>::decode(node, number)) return number;
  }
  return text;
}

json Load(const std::filesystem::path& file) {
  return ToJson(YAML::LoadFile(file.string()));
}

json Schema(const char* file) {
  return Load(std::filesystem::path(POINTSMAN_CRDS_DIR) / file)
      .at("/spec/versions/0/schema/openAPIV3Schema"_json_pointer);
}

json SpecSchema(const char* file) {
  return Schema(file).at("/properties/spec"_json_pointer);
}

// What the server makes of {"mode": "iptables"}: `default` at every level, as it applies them.
json Defaulted(const json& schema, json value) {
  if (!schema.contains("properties") || !value.is_object()) return value;
  for (const auto& [name, property] : schema["properties"].items()) {
    if (!value.contains(name) && property.contains("default")) value[name] = property["default"];
    if (value.contains(name)) value[name] = Defaulted(property, value[name]);
  }
  return value;
}

// Calls `visit` with each property's schema and its pointer into an object.
void Walk(const json& schema, const json::json_pointer& at,
          const std::function<void(const json&, const json::json_pointer&)>& visit) {
  if (!schema.contains("properties")) return;
  for (const auto& [name, property] : schema["properties"].items()) {
    visit(property, at / name);
    Walk(property, at / name, visit);
  }
}

// The errors of a valid specification with `value` at that place, at that very place.
bool Refuses(const json::json_pointer& at, const json& value) {
  json spec = {{"mode", "iptables"}};
  spec[at] = value;
  std::string path = "spec" + at.to_string();
  std::replace(path.begin(), path.end(), '/', '.');
  for (const FieldError& error : ValidateProxyConfiguration(spec)) {
    if (error.path == path || error.path.starts_with(path + "[")) return true;
  }
  return false;
}

class ProxyConfigurationCrdTest : public ::testing::Test {
 protected:
  const json schema_ = SpecSchema("pointsman.io_proxyconfigurations.yaml");
};

TEST_F(ProxyConfigurationCrdTest, HasTheFieldsAndDefaultsOfTheTypes) {
  ProxyConfigurationSpec spec;
  std::vector<FieldError> errors;
  const json defaulted = Defaulted(schema_, {{"mode", "iptables"}});
  EXPECT_EQ(ProxyConfigurationSpecFromJson(defaulted, errors), spec);
  EXPECT_TRUE(errors.empty()) << Summarize(errors);
  // Field by field: a default that is missing in the schema would hide behind that of the type.
  const json written = ToJson(spec);
  Walk(schema_, json::json_pointer(), [&](const json& property, const json::json_pointer& at) {
    const std::string text = at.to_string();
    if (text.find("odeSelector") != std::string::npos || text == "/rollout/rollbackTo") return;
    EXPECT_TRUE(written.contains(at)) << text << " is in the schema only";
    // No default is "": see the top of the schema's file.
    EXPECT_EQ(property.contains("default"), text != "/mode" && written[at] != json("")) << text;
  });
  const json flat = written.flatten();
  for (const auto& [pointer, value] : flat.items()) {
    if (value.is_null() || value == json("") || pointer == "/nodeSelector") continue;
    EXPECT_TRUE(defaulted.flatten().contains(pointer)) << pointer << " is in the type only";
  }
}

TEST_F(ProxyConfigurationCrdTest, HasTheWordsOfTheTypes) {
  int words = 0;
  Walk(schema_, json::json_pointer(), [&](const json& property, const json::json_pointer& at) {
    if (!property.contains("enum")) return;
    for (const json& word : property["enum"]) {
      ++words;
      EXPECT_FALSE(Refuses(at, word)) << at << " " << word;
    }
    EXPECT_TRUE(Refuses(at, "NoSuchWord")) << at;
  });
  EXPECT_GT(words, 25);
  const json& schedulers = schema_.at("/properties/ipvs/properties/scheduler/enum"_json_pointer);
  EXPECT_EQ(schedulers.size(), limits::kIpvsSchedulers.size());
}

TEST_F(ProxyConfigurationCrdTest, HasTheNeighboursThatCanBeAccepted) {
  const json names(kNeighbourNames);
  EXPECT_EQ(schema_.at("/properties/neighbours/properties/accept/items/enum"_json_pointer), names);
  const json node_proxy = SpecSchema("pointsman.io_nodeproxies.yaml");
  EXPECT_EQ(
      node_proxy.at(
          "/properties/candidate/properties/neighbours/properties/accept/items/enum"_json_pointer),
      names);
  for (const std::string_view name : kNeighbourNames)
    EXPECT_FALSE(Refuses("/neighbours/accept"_json_pointer, {name})) << name;
  EXPECT_TRUE(Refuses("/neighbours/accept"_json_pointer, {"no-such-neighbour"}));
}

TEST_F(ProxyConfigurationCrdTest, HasTheBoundsOfTheTypes) {
  int bounds = 0;
  Walk(schema_, json::json_pointer(), [&](const json& property, const json::json_pointer& at) {
    if (property.contains("minimum")) {
      ++bounds;
      EXPECT_FALSE(Refuses(at, property["minimum"])) << at;
      EXPECT_TRUE(Refuses(at, property["minimum"].get<int64_t>() - 1)) << at;
    }
    if (property.contains("maximum")) {
      ++bounds;
      EXPECT_FALSE(Refuses(at, property["maximum"])) << at;
      EXPECT_TRUE(Refuses(at, property["maximum"].get<int64_t>() + 1)) << at;
    }
    if (property.value("type", "") == "array" && property["items"].value("type", "") == "string" &&
        !property["items"].contains("enum")) {
      ++bounds;
      const json many = json(std::vector<std::string>(property.at("maxItems").get<size_t>() + 1));
      if (at.to_string().find("elector") == std::string::npos) {
        EXPECT_TRUE(Refuses(at, many)) << at;
      }
    }
  });
  EXPECT_GT(bounds, 12);
}

// It makes NetworkPolicies blind (docs/userspace.md): who wants it names it.
TEST_F(ProxyConfigurationCrdTest, NothingFallsBackToUserspaceUnasked) {
  const json& properties = schema_.at("properties");
  EXPECT_EQ(properties.at("fallbackModes").at("default"), json::array({"iptables"}));
  const kube::ProxySettings settings;
  EXPECT_EQ(settings.fallback_modes, std::vector{kube::Mode::kIptables});
  for (const char* field : {"mode", "fallbackModes"}) {
    const auto text = properties.at(field).at("description").get<std::string>();
    EXPECT_NE(text.find("NetworkPolic"), std::string::npos) << field;
  }
}

TEST_F(ProxyConfigurationCrdTest, DurationsAreNeverNegative) {
  int durations = 0;
  Walk(schema_, json::json_pointer(), [&](const json& property, const json::json_pointer& at) {
    if (property.value("maxLength", 0) != 32 || !property.contains("pattern")) return;
    ++durations;
    EXPECT_TRUE(Refuses(at, "-1s")) << at;
    EXPECT_TRUE(Refuses(at, "1")) << at;
    EXPECT_TRUE(Refuses(at, "10000h")) << at;
    EXPECT_TRUE(Refuses(at, 1)) << at;
  });
  EXPECT_GE(durations, 18);
}

TEST_F(ProxyConfigurationCrdTest, BoundsWhatItAcceptsInSize) {
  // CEL rules are accepted only where the server can bound their cost.
  Walk(schema_, json::json_pointer(), [&](const json& property, const json::json_pointer& at) {
    const std::string type = property.value("type", "");
    const bool bounded =
        type != "string" || property.contains("maxLength") || property.contains("enum");
    EXPECT_TRUE(bounded) << at;
    EXPECT_TRUE(type != "array" || property.contains("maxItems")) << at;
  });
}

// Numbers that a node or a person writes: each has an end that nothing overflows at.
TEST(CrdTest, EveryNumberIsBounded) {
  int numbers = 0;
  const std::function<void(const json&, const std::string&)> visit = [&](const json& schema,
                                                                         const std::string& at) {
    if (schema.value("type", "") == "integer" && !at.ends_with("observedGeneration")) {
      ++numbers;
      EXPECT_TRUE(schema.contains("minimum")) << at;
      EXPECT_TRUE(schema.contains("maximum")) << at;
      const bool revision = at.ends_with("evision") || at.ends_with("rollbackTo");
      if (revision) {
        EXPECT_EQ(schema.value("maximum", int64_t{0}), limits::kMaxRevision) << at;
      }
    }
    if (schema.contains("properties")) {
      for (const auto& [name, property] : schema["properties"].items())
        visit(property, fmt::format("{}.{}", at, name));
    }
    for (const char* inner : {"items", "additionalProperties"}) {
      if (schema.contains(inner)) visit(schema[inner], at + "[]");
    }
  };
  for (const char* file :
       {"pointsman.io_nodeproxies.yaml", "pointsman.io_proxyconfigurations.yaml"})
    visit(Schema(file), file);
  EXPECT_GT(numbers, 25);
}

// The agent keeps to these, or the API server would refuse its whole status.
TEST(NodeProxyCrdTest, HasTheBoundsOfSysctls) {
  const json sysctls =
      Schema("pointsman.io_nodeproxies.yaml")
          .at("/properties/status/properties/kernel/properties/sysctls"_json_pointer);
  EXPECT_EQ(sysctls.at("maxItems"), limits::kMaxSysctls);
  for (const auto& [name, property] : sysctls.at("/items/properties"_json_pointer).items())
    EXPECT_EQ(property.at("maxLength"), limits::kMaxSysctlText) << name;
}

TEST(NodeProxyCrdTest, HasTheBoundsOfNeighbours) {
  const json neighbours = Schema("pointsman.io_nodeproxies.yaml")
                              .at("/properties/status/properties/neighbours"_json_pointer);
  EXPECT_EQ(neighbours.at("maxItems"), limits::kMaxNeighbours);
  const json& properties = neighbours.at("/items/properties"_json_pointer);
  for (const char* name : {"name", "kind"})
    EXPECT_EQ(properties.at(name).at("maxLength"), limits::kMaxNeighbourText) << name;
  EXPECT_EQ(properties.at("message").at("maxLength"), limits::kMaxNeighbourMessage);
}

TEST(NodeProxyCrdTest, HasTheBoundsOfKubeProxysAddresses) {
  const json schema = SpecSchema("pointsman.io_nodeproxies.yaml");
  for (const char* name : {"healthzBindAddress", "metricsBindAddress"})
    EXPECT_EQ(schema.at("properties").at(name).at("maxLength"), limits::kMaxBindAddress) << name;
}

TEST(NodeProxyCrdTest, HasTheBoundsOfPreflights) {
  const json preflights = Schema("pointsman.io_nodeproxies.yaml")
                              .at("/properties/status/properties/preflights"_json_pointer);
  EXPECT_EQ(preflights.at("maxItems"), limits::kMaxPreflights);
  const json& properties = preflights.at("/items/properties"_json_pointer);
  EXPECT_EQ(properties.at("mode").at("maxLength"), limits::kMaxModeText);
  EXPECT_EQ(properties.at("reason").at("maxLength"), limits::kMaxPreflightReason);
  EXPECT_EQ(properties.at("message").at("maxLength"), limits::kMaxPreflightMessage);
}

TEST(NodeProxyCrdTest, HasTheFieldsOfTheTypes) {
  const json schema = SpecSchema("pointsman.io_nodeproxies.yaml");
  NodeProxySpec spec;
  spec.provider = Provider::kKubeProxy;  // which has two more
  spec.candidate = NodeProxyCandidate{};
  const json written = ToJson(spec);
  Walk(schema, json::json_pointer(), [&](const json&, const json::json_pointer& at) {
    EXPECT_TRUE(written.contains(at)) << at << " is in the schema only";
  });
  const json flat = written.flatten();
  for (const auto& [pointer, value] : flat.items()) {
    const json::json_pointer at(pointer);
    std::vector<std::string> parts;
    for (json::json_pointer p = at; !p.empty(); p.pop_back())
      parts.insert(parts.begin(), p.back());
    const json* level = &schema;
    for (const std::string& part : parts) {
      if (!level->contains("properties")) break;  // an element of a list
      ASSERT_TRUE((*level)["properties"].contains(part)) << pointer << " is in the type only";
      level = &(*level)["properties"][part];
    }
  }
  // Both resources say the same of the same settings.
  const json other = SpecSchema("pointsman.io_proxyconfigurations.yaml");
  for (const char* name : {"mode", "fallbackModes", "clusterCIDR", "detectLocalMode",
                           "nodePortAddresses", "modules", "neighbours", "detectLocal"}) {
    EXPECT_EQ(schema["properties"][name], other["properties"][name]) << name;
  }
  for (const char* name : {"ipvs", "iptables", "nftables", "userspace", "conntrack", "handover"}) {
    EXPECT_EQ(schema["properties"][name]["properties"], other["properties"][name]["properties"])
        << name;
  }
}

TEST(ExamplesTest, AreValid) {
  int examples = 0;
  const std::filesystem::path directory = std::filesystem::path(POINTSMAN_CRDS_DIR) / "examples";
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    ++examples;
    const ProxyConfiguration configuration = ProxyConfigurationFromJson(Load(entry.path()));
    EXPECT_TRUE(configuration.errors.empty())
        << entry.path() << ": " << Summarize(configuration.errors);
  }
  EXPECT_GE(examples, 4);
}

}  // namespace
}  // namespace pointsman::kube

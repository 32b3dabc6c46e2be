// The repository's own CRDs, held to what a real API server demands of a schema.
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <yaml-cpp/yaml.h>

#include "e2e/control-plane/schema/json_schema_props.h"
#include "e2e/control-plane/schema/provider.h"

namespace pointsman::e2e::schema {
namespace {

Json ToJson(const YAML::Node& node) {
  if (node.IsMap()) {
    Json object = Json::object();
    for (const auto& pair : node)
      object[pair.first.as<std::string>()] = ToJson(pair.second);
    return object;
  }
  if (node.IsSequence()) {
    Json array = Json::array();
    for (const auto& item : node)
      array.push_back(ToJson(item));
    return array;
  }
  if (node.IsNull()) return nullptr;
  std::string text = node.as<std::string>();
  if (node.Tag() == "!") return text;  // quoted
  Json value = Json::parse(text, nullptr, false);
  return value.is_discarded() || value.is_structured() ? Json(text) : value;
}

Json SchemaOf(const std::string& file) {
  Json crd = ToJson(YAML::LoadFile(std::string(POINTSMAN_CRDS) + "/" + file));
  return crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
}

class Crds : public testing::TestWithParam<const char*> {};

TEST_P(Crds, AreAcceptedByEveryVersion) {
  for (int minor : {20, 25, 30, 35}) {
    auto errors = CheckSchema(SchemaOf(GetParam()), "schema", minor);
    EXPECT_TRUE(errors.empty()) << "1." << minor << ": " << Aggregate(errors);
  }
}

// kubectl refuses to send what the server's version does not declare, and the server refuses to
// apply it.
TEST_P(Crds, HaveNothingThatAnOldServerDoesNotDeclare) {
  EXPECT_THAT(UndeclaredFields(SchemaOf(GetParam()), 20), testing::IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(Files, Crds,
                         testing::Values("pointsman.io_proxyconfigurations.yaml",
                                         "pointsman.io_nodeproxies.yaml"));

TEST(JsonSchemaProps, AreThoseOfTheVersion) {
  const Json schema = Json::parse(R"({"type":"object","properties":{"a":{"type":"array",
    "x-kubernetes-validations":[],"items":{"x-kubernetes-validations":[]}}},
    "anyOf":[{"not":{"nonsense":1}}]})");
  EXPECT_THAT(UndeclaredFields(schema, 20),
              testing::UnorderedElementsAre(".properties.a.x-kubernetes-validations",
                                            ".anyOf[0].not.nonsense"));
  EXPECT_THAT(UndeclaredFields(schema, 25), testing::ElementsAre(".anyOf[0].not.nonsense"));
}

TEST(ProxyConfiguration, ABadOneIsRefusedWithTheFieldNamed) {
  auto schema = CompileSchema(SchemaOf("pointsman.io_proxyconfigurations.yaml"), 35);
  auto refused = [&schema](const char* spec) {
    Json object = {{"metadata", {{"name", "x"}}}, {"spec", Json::parse(spec)}};
    schema->ApplyDefaults(object);
    std::string text;
    for (const auto& e : schema->Validate(object, nullptr))
      text += e.field + ": " + e.message + "\n";
    return text;
  };
  EXPECT_EQ(refused(R"({"mode":"ipvs"})"), "");
  EXPECT_THAT(refused(R"({"mode":"foo"})"),
              testing::HasSubstr(R"(spec.mode: Unsupported value: "foo": supported values: )"));
  EXPECT_THAT(refused(R"({"mode":"ipvs","ipvs":{"scheduler":"nope"}})"),
              testing::HasSubstr("spec.ipvs.scheduler: "));
  EXPECT_THAT(refused(R"({"mode":"ipvs","ipvs":{"tcpTimeout":"-1s"}})"),
              testing::HasSubstr("spec.ipvs.tcpTimeout: "));
  EXPECT_THAT(refused(R"({"mode":"ipvs","ipvs":{"excludeCIDRs":["10.0.0.0"]}})"),
              testing::HasSubstr("spec.ipvs.excludeCIDRs[0]: "));
  EXPECT_THAT(refused(R"({"mode":"ipvs","nodePortAddresses":["primary","10.0.0.0"]})"),
              testing::HasSubstr("spec.nodePortAddresses[1]"));
  EXPECT_EQ(refused(R"({"mode":"ipvs","nodePortAddresses":["primary","10.0.0.0/8"]})"), "");
  EXPECT_EQ(refused(R"({"mode":"ipvs","nodePortAddresses":["10.0.0.0/8","11.0.0.0/8"]})"), "");
  EXPECT_THAT(refused(R"({"mode":"ipvs","detectLocalMode":"BridgeInterface"})"),
              testing::HasSubstr("spec.detectLocal.bridgeInterface"));
  EXPECT_EQ(refused(R"({"mode":"ipvs","detectLocalMode":"BridgeInterface",
                        "detectLocal":{"bridgeInterface":"br0"}})"),
            "");
  EXPECT_THAT(refused(R"({"mode":"ipvs","detectLocalMode":"InterfaceNamePrefix",
                        "detectLocal":{"bridgeInterface":"br0"}})"),
              testing::HasSubstr("spec.detectLocal.interfaceNamePrefix"));
  EXPECT_THAT(refused(R"({"mode":"ipvs","detectLocalMode":"ClusterCIDR"})"),
              testing::HasSubstr("spec.clusterCIDR"));
  EXPECT_EQ(refused(R"({"mode":"ipvs","detectLocalMode":"NodeCIDR"})"), "");
}

}  // namespace
}  // namespace pointsman::e2e::schema

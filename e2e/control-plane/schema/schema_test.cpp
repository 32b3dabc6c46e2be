#include <chrono>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "e2e/control-plane/schema/formats.h"
#include "e2e/control-plane/schema/provider.h"
#include "e2e/control-plane/schema/pruning.h"

namespace pointsman::e2e::schema {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr int kNewest = 35;

Json WithSpec(const char* spec) {
  return {{"type", "object"}, {"properties", {{"spec", Json::parse(spec)}}}};
}

std::vector<std::string> Refused(const Json& schema, int minor = kNewest) {
  std::vector<std::string> texts;
  for (const auto& error : CheckSchema(schema, "schema", minor))
    texts.push_back(error.Text());
  return texts;
}

std::vector<std::string> Check(const Json& schema, const Json& object, const Json* old = nullptr,
                               int minor = kNewest) {
  std::vector<std::string> texts;
  for (const auto& error : CompileSchema(schema, minor)->Validate(object, old)) {
    texts.push_back(error.field + ": " + error.message);
  }
  return texts;
}

std::vector<std::string> CheckSpec(const char* spec_schema, const char* spec) {
  return Check(WithSpec(spec_schema), {{"spec", Json::parse(spec)}});
}
// A time may be of any year, and is only outside of a rule counted in nanoseconds.
TEST(FormatsTest, ADateTimeMayBeOfAnyYear) {
  for (const char* text : {"0001-01-01T00:00:00Z", "0000-01-01T00:00:00+23:59",
                           "9999-12-31T23:59:59.999999999-23:59", "1013-01-02T03:04:05Z"}) {
    EXPECT_TRUE(HasFormat("date-time", text)) << text;
    EXPECT_FALSE(ParseDateTime(text)) << text;
  }
  EXPECT_EQ(ParseDateTime("1970-01-01T01:00:00.5+01:00")->time_since_epoch(),
            std::chrono::milliseconds(500));
  EXPECT_TRUE(ParseDateTime("1677-09-22T00:00:00Z"));
  EXPECT_TRUE(ParseDateTime("2262-04-11T00:00:00.999999999Z"));
  EXPECT_FALSE(HasFormat("date-time", "2026-02-30T00:00:00Z"));
}

TEST(Structural, EveryFieldNeedsAType) {
  EXPECT_THAT(Refused(WithSpec(R"({"properties":{"a":{}}})")),
              ElementsAre("schema.properties[spec].properties[a].type: Required value: must not be "
                          "empty for specified object fields",
                          "schema.properties[spec].type: Required value: must not be empty for "
                          "specified object fields"));
  EXPECT_THAT(Refused(WithSpec(R"({"type":"array"})")),
              ElementsAre("schema.properties[spec].items: Required value: must be specified"));
}

TEST(Structural, ForbidsWhatStructuralSchemasForbid) {
  EXPECT_THAT(Refused(WithSpec(R"({"type":"string","$ref":"#/x"})")),
              ElementsAre("schema.properties[spec].$ref: Forbidden: $ref is not supported"));
  EXPECT_THAT(Refused(WithSpec(R"({"type":"string","anyOf":[{"type":"string"}]})")),
              ElementsAre("schema.properties[spec].anyOf[0].type: Forbidden: must be empty to be "
                          "structural"));
  EXPECT_THAT(Refused(WithSpec(R"({"type":"text"})")),
              ElementsAre(HasSubstr(R"(Unsupported value: "text": supported values: "array", )")));
  EXPECT_THAT(Refused(WithSpec(R"({"type":"string","pattern":"("})")),
              ElementsAre(HasSubstr("must be a valid regular expression")));
  EXPECT_THAT(
      Refused(
          WithSpec(R"({"type":"array","x-kubernetes-list-type":"map","items":{"type":"object"}})")),
      ElementsAre("schema.properties[spec].x-kubernetes-list-map-keys: Required value: must not be "
                  "empty if x-kubernetes-list-type is map"));
  EXPECT_THAT(Refused(WithSpec(R"({"type":"string","default":3})")),
              ElementsAre(HasSubstr("schema.properties[spec].default: Invalid value: 3")));
}

TEST(Structural, AcceptsIntOrStringInItsTwoSpellings) {
  EXPECT_THAT(Refused(WithSpec(R"({"x-kubernetes-int-or-string":true})")), IsEmpty());
  const char* any_of =
      R"({"x-kubernetes-int-or-string":true,"anyOf":[{"type":"integer"},{"type":"string"}]})";
  EXPECT_THAT(Refused(WithSpec(any_of)), IsEmpty());
  EXPECT_THAT(CheckSpec(any_of, "5"), IsEmpty());
  EXPECT_THAT(CheckSpec(any_of, "\"5%\""), IsEmpty());
  EXPECT_THAT(CheckSpec(any_of, "true"),
              ElementsAre(R"(spec: Invalid value: true: spec in body must be of type )"
                          R"(integer,string: "boolean")"));
}

TEST(Validate, WordsItsErrorsAsTheServerDoes) {
  EXPECT_THAT(CheckSpec(R"({"type":"string","enum":["userspace","iptables"]})", "\"foo\""),
              ElementsAre(R"(spec: Unsupported value: "foo": supported values: "userspace", )"
                          R"("iptables")"));
  const char* integer = R"({"type":"object","properties":{"x":{"type":"integer","minimum":0,
                            "maximum":10,"exclusiveMaximum":true}}})";
  EXPECT_THAT(CheckSpec(integer, R"({"x":-1})"),
              ElementsAre("spec.x: Invalid value: -1: spec.x in body should be greater than or "
                          "equal to 0"));
  EXPECT_THAT(CheckSpec(integer, R"({"x":10})"),
              ElementsAre("spec.x: Invalid value: 10: spec.x in body should be less than 10"));
  EXPECT_THAT(CheckSpec(integer, R"({"x":"1"})"),
              ElementsAre(R"(spec.x: Invalid value: "1": spec.x in body must be of type integer: )"
                          R"("string")"));
  EXPECT_THAT(CheckSpec(integer, R"({"x":null})"),
              ElementsAre(R"(spec.x: Invalid value: "null": spec.x in body must be of type )"
                          R"(integer: "null")"));
  EXPECT_THAT(CheckSpec(R"({"type":"object","required":["x"]})", "{}"),
              ElementsAre("spec.x: Required value"));
  EXPECT_THAT(CheckSpec(R"({"type":"string","pattern":"^a+$"})", "\"b\""),
              ElementsAre(R"(spec: Invalid value: "b": spec in body should match '^a+$')"));
  EXPECT_THAT(CheckSpec(R"({"type":"string","maxLength":2})", "\"äöü\""),
              ElementsAre("spec: Too long: may not be more than 2 bytes"));
  EXPECT_THAT(CheckSpec(R"({"type":"string","format":"cidr"})", "\"10.0.0.0\""),
              ElementsAre(R"(spec: Invalid value: "10.0.0.0": spec in body must be of type cidr: )"
                          R"("10.0.0.0")"));
  EXPECT_THAT(CheckSpec(R"({"type":"string","oneOf":[{"enum":["a"]},{"maxLength":1}]})", "\"a\""),
              ElementsAre(R"(<nil>: Invalid value: "": "spec" must validate one and only one )"
                          R"(schema (oneOf). Found 2 valid alternatives)"));
}

TEST(Validate, ListsKeepTheirKeysUnique) {
  const char* map = R"({"type":"array","x-kubernetes-list-type":"map",
    "x-kubernetes-list-map-keys":["name"],"maxItems":2,
    "items":{"type":"object","required":["name"],"properties":{"name":{"type":"string"}}}})";
  EXPECT_THAT(CheckSpec(map, R"([{"name":"a"},{"name":"a"}])"),
              ElementsAre(R"(spec[1]: Duplicate value: {"name":"a"})"));
  EXPECT_THAT(CheckSpec(map, R"([{"name":"a"},{"name":"b"},{"name":"c"}])"),
              ElementsAre("spec: Too many: 3: must have at most 2 items"));
  EXPECT_THAT(CheckSpec(R"({"type":"array","x-kubernetes-list-type":"set",
                            "items":{"type":"string"}})",
                        R"(["a","b","a"])"),
              ElementsAre(R"(spec[2]: Duplicate value: "a")"));
}

TEST(Defaulting, FillsNestedFieldsAndReplacesNulls) {
  auto schema = CompileSchema(WithSpec(R"({"type":"object","default":{},"properties":{
        "mode":{"type":"string","default":"ipvs"},
        "sub":{"type":"object","properties":{"n":{"type":"integer","default":3}}},
        "maybe":{"type":"string","nullable":true,"default":"x"}}})"),
                              kNewest);
  Json empty = Json::object();
  schema->ApplyDefaults(empty);
  EXPECT_EQ(empty, Json::parse(R"({"spec":{"mode":"ipvs","maybe":"x"}})"));
  Json some = Json::parse(R"({"spec":{"mode":null,"maybe":null,"sub":{}}})");
  schema->ApplyDefaults(some);
  EXPECT_EQ(some, Json::parse(R"({"spec":{"mode":"ipvs","maybe":null,"sub":{"n":3}}})"));
}

TEST(Pruning, NamesWhatItDrops) {
  auto schema = CompileSchema(WithSpec(R"({"type":"object","properties":{
        "open":{"type":"object","x-kubernetes-preserve-unknown-fields":true},
        "map":{"type":"object","additionalProperties":{"type":"string"}},
        "list":{"type":"array","items":{"type":"object","properties":{"a":{"type":"string"}}}}}})"),
                              kNewest);
  Json object = Json::parse(R"({"kind":"X","metadata":{"labels":{"l":"1"}},"spec":{
    "bad":1,"open":{"z":1},"map":{"k":"v"},"list":[{"a":"1"},{"b":2}]},"other":{}})");
  std::vector<std::string> dropped;
  schema->Prune(object, dropped);
  EXPECT_THAT(dropped, testing::UnorderedElementsAre("spec.bad", "spec.list[1].b", "other"));
  EXPECT_EQ(object, Json::parse(R"({"kind":"X","metadata":{"labels":{"l":"1"}},"spec":{
    "open":{"z":1},"map":{"k":"v"},"list":[{"a":"1"},{}]}})"));
}

TEST(Formats, GoDurations) {
  using namespace std::chrono_literals;
  EXPECT_EQ(ParseGoDuration("1h30m"), 90min);
  EXPECT_EQ(ParseGoDuration("-1.5s"), -1500ms);
  EXPECT_EQ(ParseGoDuration("250ms"), 250ms);
  EXPECT_EQ(ParseGoDuration("0"), 0s);
  for (const char* bad : {"", "1", "s", "1 s", "1s2", "..s"})
    EXPECT_FALSE(ParseGoDuration(bad));
}

// --- CEL ---

std::vector<std::string> WithRule(const std::string& rule, const char* spec,
                                  const char* old = nullptr, int minor = kNewest) {
  Json schema = WithSpec(R"({"type":"object","properties":{
    "mode":{"type":"string"},"n":{"type":"integer"},"m":{"type":"integer"},
    "d":{"type":"number"},"wait":{"type":"string"},"flag":{"type":"boolean"},
    "list":{"type":"array","items":{"type":"string"}},
    "map":{"type":"object","additionalProperties":{"type":"integer"}},
    "ports":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["name"],
      "items":{"type":"object","required":["name"],
        "properties":{"name":{"type":"string"},"port":{"type":"integer"}}}},
    "percent":{"x-kubernetes-int-or-string":true}}})");
  schema["properties"]["spec"]["x-kubernetes-validations"] =
      Json::array({{{"rule", rule}, {"message", "broken"}}});
  Json before;
  if (old) before = {{"spec", Json::parse(old)}};
  return Check(schema, {{"spec", Json::parse(spec)}}, old ? &before : nullptr, minor);
}

bool Holds(const std::string& rule, const char* spec = "{}") {
  return WithRule(rule, spec).empty();
}

TEST(Cel, EvaluatesTheLanguage) {
  EXPECT_TRUE(Holds("1 + 2 * 3 == 7 && -7 / 2 == -3 && 7 % 3 == 1 && 0x10 == 16"));
  EXPECT_TRUE(Holds("'a' + \"b\" == r'ab' && '\\u00e4'.size() == 1 && size('äö') == 2"));
  EXPECT_TRUE(Holds("[1, 2, 3].filter(x, x > 1).map(x, x * 2) == [4, 6]"));
  EXPECT_TRUE(Holds("{'a': 1, 'b': 2}.all(k, k in ['a', 'b']) && {'a': 1}['a'] == 1"));
  EXPECT_TRUE(Holds("[1, 2].exists_one(x, x == 2) && ![1].exists(x, x == 2)"));
  EXPECT_TRUE(Holds("'a,b'.split(',') == ['a', 'b'] && ['a', 'b'].join('-') == 'a-b'"));
  EXPECT_TRUE(
      Holds("'Abc'.lowerAscii() == 'abc' && 'abc'.substring(1) == 'bc' && "
            "'abc'.contains('b') && 'abc'.startsWith('a') && 'abc'.endsWith('c')"));
  EXPECT_TRUE(
      Holds("duration('90s') == duration('1m30s') && duration('1h') > duration('59m') && "
            "duration('90s').getMinutes() == 1"));
  EXPECT_TRUE(Holds("int('7') == 7 && string(7) == '7' && 1 < 2.5 && double(1) == 1.0"));
  EXPECT_TRUE(Holds("'10.1'.matches('^[0-9.]+$') && type(1) == int && type('a') == string"));
  EXPECT_TRUE(Holds("true ? true : (1 / 0 == 1)"));
  EXPECT_TRUE(Holds("true || 1 / 0 == 1")) << "the deciding side wins over the error";
  EXPECT_TRUE(Holds("1 / 0 == 1 || true"));
  EXPECT_TRUE(Holds("!(false && 1 / 0 == 1)"));
  EXPECT_TRUE(
      Holds("ip('fd00::1').family() == 6 && cidr('10.0.0.0/8').containsIP('10.1.2.3') && "
            "isIP('1.2.3.4') && !isIP('1.2.3') && isCIDR('10.0.0.0/8')"));
}

TEST(Cel, ReadsTheObjectByItsSchema) {
  EXPECT_TRUE(Holds("!has(self.mode) || self.mode == 'ipvs'"));
  EXPECT_TRUE(Holds("has(self.mode) && self.mode == 'ipvs'", R"({"mode":"ipvs"})"));
  EXPECT_TRUE(Holds("self.n <= self.m && self.d > 1.0", R"({"n":1,"m":2,"d":2})"));
  EXPECT_TRUE(Holds("self.ports.all(p, p.port > 0)", R"({"ports":[{"name":"a","port":1}]})"));
  EXPECT_TRUE(Holds("self.map.all(k, self.map[k] < 3)", R"({"map":{"a":1,"b":2}})"));
  EXPECT_TRUE(
      Holds("type(self.percent) == int || self.percent.endsWith('%')", R"({"percent":"5%"})"));
  EXPECT_THAT(WithRule("self.mode == 'ipvs'", R"({"mode":"x"})"),
              ElementsAre(R"(spec: Invalid value: "object": broken)"));
  EXPECT_THAT(WithRule("self.mode == 'ipvs'", "{}"),
              ElementsAre(HasSubstr("no such key: mode evaluating rule")));
}

TEST(Cel, RefusesWhatDoesNotCompileAndShowsWhere) {
  auto refused = [](const std::string& rule, int minor = kNewest) {
    Json schema = WithSpec(R"({"type":"object","properties":{"n":{"type":"integer"}}})");
    schema["properties"]["spec"]["x-kubernetes-validations"] = Json::array({{{"rule", rule}}});
    return Refused(schema, minor);
  };
  EXPECT_THAT(refused("self.n > 0"), IsEmpty());
  auto undefined = refused("self.foo > 0");
  ASSERT_EQ(undefined.size(), 1U);
  EXPECT_THAT(
      undefined[0],
      HasSubstr("schema.properties[spec].x-kubernetes-validations[0].rule: Invalid value: "));
  EXPECT_THAT(undefined[0], HasSubstr("compilation failed: ERROR: <input>:1:5: undefined field "
                                      "'foo'\n | self.foo > 0\n | ....^"));
  EXPECT_THAT(
      refused("self.n > 'a'"),
      ElementsAre(HasSubstr("found no matching overload for '_>_' applied to '(int, string)'")));
  EXPECT_THAT(refused("self.n"), ElementsAre(HasSubstr("must evaluate to a bool")));
  EXPECT_THAT(refused("self.n >"), ElementsAre(HasSubstr("Syntax error")));
  EXPECT_THAT(refused("nothing(self.n)"),
              ElementsAre(HasSubstr("undeclared reference to 'nothing'")));
  EXPECT_THAT(refused("isIP('1.2.3.4')", 30), ElementsAre(HasSubstr("undeclared reference")));
  EXPECT_THAT(refused("this is dropped", 20), IsEmpty());
}

TEST(Cel, TransitionRulesRunOnUpdatesOnly) {
  EXPECT_THAT(WithRule("self.n >= oldSelf.n", R"({"n":1})"), IsEmpty());
  EXPECT_THAT(WithRule("self.n >= oldSelf.n", R"({"n":2})", R"({"n":1})"), IsEmpty());
  EXPECT_THAT(WithRule("self.n >= oldSelf.n", R"({"n":1})", R"({"n":2})"),
              ElementsAre(R"(spec: Invalid value: "object": broken)"));
}

TEST(Cel, BoundsTheCost) {
  std::string list = "[0,1,2,3,4,5,6,7,8,9]";
  std::string rule = "true";
  for (char c = 'a'; c < 'i'; ++c)
    rule = fmt::format("{}.all({}, {})", list, c, rule);
  EXPECT_THAT(WithRule(rule, "{}"), ElementsAre(HasSubstr("running out of cost budget")));
}

TEST(Cel, MessageExpressionReasonAndFieldPath) {
  Json schema = WithSpec(R"json({"type":"object","properties":{"n":{"type":"integer"}},
    "x-kubernetes-validations":[{"rule":"self.n > 0","fieldPath":".n",
      "reason":"FieldValueForbidden","messageExpression":"'not ' + string(self.n)"}]})json");
  EXPECT_THAT(Check(schema, Json::parse(R"({"spec":{"n":-1}})")),
              ElementsAre("spec.n: Forbidden: not -1"));
}

}  // namespace
}  // namespace pointsman::e2e::schema

#include "node-agent/config/yaml_json.h"

#include <gmock/gmock.h>

namespace pointsman::agent {
namespace {

using nlohmann::json;
using testing::HasSubstr;

TEST(ParseYaml, TypesAsTheKubernetesDecoder) {
  const YamlDocument document = ParseYaml(R"(
nothing: null
tilde: ~
blank:
yes: "yes"
flag: true
old: off
number: 14
negative: -999
hex: 0x1f
octal: 0755
float: 1.5
exponent: 1e3
cidr: 10.0.0.0/8
address: 0.0.0.0:10256
duration: 15m0s
version: "1.16"
tagged: !!str 12
list: [1, "1", a]
)");
  EXPECT_EQ(document.value, json({{"nothing", nullptr},
                                  {"tilde", nullptr},
                                  {"blank", nullptr},
                                  {"yes", "yes"},
                                  {"flag", true},
                                  {"old", false},
                                  {"number", 14},
                                  {"negative", -999},
                                  {"hex", 31},
                                  {"octal", 493},
                                  {"float", 1.5},
                                  {"exponent", 1000.0},
                                  {"cidr", "10.0.0.0/8"},
                                  {"address", "0.0.0.0:10256"},
                                  {"duration", "15m0s"},
                                  {"version", "1.16"},
                                  {"tagged", "12"},
                                  {"list", {1, "1", "a"}}}));
}

TEST(ParseYaml, KnowsTheLines) {
  const YamlDocument document = ParseYaml("a: 1\nb:\n  c: 2\n  d:\n  - x\n  - e: 3\nb: 4\n");
  EXPECT_EQ(document.LineOf("a"), 1);
  EXPECT_EQ(document.LineOf("b"), 2);
  EXPECT_EQ(document.LineOf("b.c"), 3);
  EXPECT_EQ(document.LineOf("b.d"), 4);
  EXPECT_EQ(document.LineOf("b.d[0]"), 5);
  EXPECT_EQ(document.LineOf("b.d[1].e"), 6);
  EXPECT_EQ(document.LineOf("b.missing"), 2);  // the nearest around it
  EXPECT_EQ(document.LineOf("missing"), 0);
  ASSERT_EQ(document.duplicates.size(), 1u);
  EXPECT_EQ(document.duplicates.at("b"), 7);
}

TEST(ParseYaml, RefusesWhatItCannotRead) {
  const auto refused = [](const std::string& text, const std::string& why) {
    try {
      ParseYaml(text);
      ADD_FAILURE() << "accepted: " << text.substr(0, 100);
    } catch (const std::invalid_argument& error) {
      EXPECT_THAT(error.what(), HasSubstr(why));
    }
  };
  refused("a: [1, 2\nb: 3", "line");
  refused("a: b: c", "line 1");
  refused("", "no YAML document");
  refused("a: 1\n---\nb: 2\n", "more than one");
  refused("? [a]\n: 1\n", "key");
  refused(std::string(100, '[') + std::string(100, ']'), "deep");
  // A short text that aliases blow up.
  std::string bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n";
  for (int i = 1; i < 8; ++i) {
    const std::string last = "*a" + std::to_string(i - 1);
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int n = 0; n < 10; ++n) {
      bomb += (n == 0 ? "" : ",") + last;
    }
    bomb += "]\n";
  }
  refused(bomb, "too many");
}

}  // namespace
}  // namespace pointsman::agent

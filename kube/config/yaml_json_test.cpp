#include "kube/config/yaml_json.h"

#include <gmock/gmock.h>

namespace pointsman::kube {
namespace {

using nlohmann::json;
using testing::HasSubstr;

TEST(ParseYaml, TypesAsTheKubernetesDecoder) {
  const YamlDocument document = ParseYaml(R"(
nothing: null
tilde: ~
blank:
quoted: "yes"
flag: true
short: y
grouped: 1_000
whole: 08
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
                                  {"quoted", "yes"},
                                  {"flag", true},
                                  {"short", true},
                                  {"grouped", 1000},
                                  {"whole", 8},
                                  {"old", false},
                                  {"number", 14},
                                  {"negative", -999},
                                  {"hex", 31},
                                  {"octal", 493},
                                  {"float", 1.5},
                                  {"exponent", 1000},
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
  refused("? [a]\n: 1\n", "key");
  refused("? {a: 1}\n: 1\n", "key");
  refused("~: 1\n", "key");
  refused("a: 1\n\tb: 2\n", "line 2");
  refused("a: &a [*a]", "within");
  refused("a: {<<: 1}", "merges mappings only");
  refused("a: \"\\uD800\"", "line 1");
  refused("a: \xff", "not UTF-8");
  refused("? " + std::string(2000, 'k') + "\n: 1", "longer than 1 KiB");
  refused(
      "a: &a \"" + std::string(100'000, 'x') + "\"\nb: [*a" +
          [] {
            std::string more;
            for (int i = 0; i < 50; ++i)
              more += ",*a";
            return more;
          }() +
          "]",
      "too much text");
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

TEST(ParseYaml, OfAKeyThatIsThereTwiceTheLastCounts) {
  const YamlDocument document = ParseYaml("a: {x: 1, y: 2}\nb: 1\na: {z: 3}\n");
  EXPECT_EQ(document.value, json({{"a", {{"z", 3}}}, {"b", 1}}));
  EXPECT_EQ(document.duplicates.at("a"), 3);
}

TEST(ParseYaml, ReadsTheFirstDocument) {
  EXPECT_FALSE(ParseYaml("---\na: 1\n").more);
  EXPECT_FALSE(ParseYaml("# a comment\n---\na: 1\n...\n").more);
  for (const char* rest : {"---\n", "---\nb: 2\n", "---\n]: no YAML\n", "...\n---\n"}) {
    const YamlDocument document = ParseYaml(std::string("a: 1\n") + rest);
    EXPECT_EQ(document.value, json({{"a", 1}})) << rest;
    EXPECT_TRUE(document.more) << rest;
  }
}

TEST(ParseYaml, MergesAndRepeats) {
  const json value = ParseYaml(
                         "base: &base {x: 1, y: 2}\nmore: &more {y: 3, z: 4}\n"
                         "one: {<<: *base, y: 9}\ntwo:\n  <<: [*base, *more]\n  w: 0\n"
                         "text: {\"<<\": 1}\nagain: *base\n")
                         .value;
  EXPECT_EQ(value["one"], json({{"x", 1}, {"y", 9}}));
  EXPECT_EQ(value["two"], json({{"x", 1}, {"y", 2}, {"z", 4}, {"w", 0}}));
  EXPECT_EQ(value["text"], json({{"<<", 1}}));
  EXPECT_EQ(value["again"], value["base"]);
}

TEST(ParseYaml, Encodings) {
  EXPECT_EQ(ParseYaml("\xef\xbb\xbf"
                      "a: 1\r\nb: ä\r\n")
                .value,
            json({{"a", 1}, {"b", "ä"}}));
  EXPECT_EQ(ParseYaml(std::string("\xff\xfe"
                                  "a\0:\0 \0"
                                  "1\0\n\0",
                                  12))
                .value,
            json({{"a", 1}}));
  EXPECT_EQ(ParseYaml("{\"a\": [1, \"\\u00e4\", null, true]}").value,
            json({{"a", {1, "ä", nullptr, true}}}));
}

}  // namespace
}  // namespace pointsman::kube

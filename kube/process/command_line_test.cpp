#include "kube/process/command_line.h"

#include <CLI/CLI.hpp>
#include <gtest/gtest.h>

namespace pointsman::kube {
namespace {

struct Values {
  std::string text = "default";
  std::string other = "default";
  int number = 7;
  bool flag = false;
};

std::optional<int> Parse(std::vector<const char*> arguments, Values& values,
                         Underscores underscores = Underscores::kNo) {
  CLI::App app("test", "test");
  app.add_option("--some-text", values.text);
  app.add_option("--other", values.other);
  app.add_option("-n,--number", values.number);
  app.add_flag("--flag", values.flag);
  arguments.insert(arguments.begin(), "test");
  return ParseCommandLine(app, static_cast<int>(arguments.size()), arguments.data(), underscores);
}

TEST(CommandLine, NothingAfterTheEqualsSignIsTheEmptyValue) {
  Values values;
  EXPECT_EQ(Parse({"--some-text=", "--number=3"}, values), std::nullopt);
  EXPECT_EQ(values.text, "");
  EXPECT_EQ(values.number, 3);
  Values last;
  EXPECT_EQ(Parse({"--number=3", "--some-text="}, last), std::nullopt);
  EXPECT_EQ(last.text, "");
  Values bad;
  EXPECT_NE(Parse({"--number="}, bad).value_or(0), 0);
  EXPECT_NE(Parse({"--flag="}, bad).value_or(0), 0);
}

TEST(CommandLine, AValueMayLookLikeAFlag) {
  Values values;
  EXPECT_EQ(Parse({"--some-text", "--flag", "--number", "-5", "--other=--some-text=x"}, values),
            std::nullopt);
  EXPECT_EQ(values.text, "--flag");
  EXPECT_FALSE(values.flag);
  EXPECT_EQ(values.number, -5);
  EXPECT_EQ(values.other, "--some-text=x");
}

TEST(CommandLine, TheLastCounts) {
  Values values;
  EXPECT_EQ(
      Parse({"--some-text=a", "--flag", "--some-text=b", "--flag=false", "-n1", "-n", "2"}, values),
      std::nullopt);
  EXPECT_EQ(values.text, "b");
  EXPECT_FALSE(values.flag);
  EXPECT_EQ(values.number, 2);
}

TEST(CommandLine, UnderscoresOfNamesOnly) {
  Values values;
  EXPECT_EQ(Parse({"--some_text=a_b", "--other", "c_d"}, values, Underscores::kYes), std::nullopt);
  EXPECT_EQ(values.text, "a_b");
  EXPECT_EQ(values.other, "c_d");
  EXPECT_NE(Parse({"--some_text=a_b"}, values).value_or(0), 0);
}

TEST(CommandLine, WhatNobodyKnowsIsAnError) {
  Values values;
  EXPECT_NE(Parse({"--unknown="}, values).value_or(0), 0);
  EXPECT_NE(Parse({"--unknown=x"}, values).value_or(0), 0);
  EXPECT_NE(Parse({"stray"}, values).value_or(0), 0);
  EXPECT_NE(Parse({"--some-text"}, values).value_or(0), 0);
  EXPECT_EQ(Parse({"--help"}, values), 0);
}

}  // namespace
}  // namespace pointsman::kube

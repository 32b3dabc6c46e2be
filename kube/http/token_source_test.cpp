#include "kube/http/token_source.h"

#include <fstream>

#include <gtest/gtest.h>

namespace pointsman::kube {
namespace {

using std::chrono::seconds;

class TokenSourceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "pointsman-token-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  void Write(const std::string& text) { std::ofstream(dir_ / "token") << text; }

  std::filesystem::path dir_;
  const TokenSource::Clock::time_point start_ = TokenSource::Clock::now();
};

TEST_F(TokenSourceTest, ReadsTheFileAtMostOnceAMinute) {
  Write("one\n");
  TokenSource source("", dir_ / "token");
  EXPECT_EQ(source.Get(start_), "one");
  Write("two\n");
  EXPECT_EQ(source.Get(start_ + seconds(59)), "one");
  EXPECT_EQ(source.Get(start_ + seconds(60)), "two");
}

TEST_F(TokenSourceTest, ReadsAgainWhenRefused) {
  Write("one");
  TokenSource source("", dir_ / "token");
  EXPECT_EQ(source.Get(start_), "one");
  EXPECT_FALSE(source.Refused("one", start_ + seconds(1)));  // nothing new to try
  Write("two");
  EXPECT_TRUE(source.Refused("one", start_ + seconds(2)));
  EXPECT_EQ(source.Get(start_ + seconds(2)), "two");
  EXPECT_TRUE(source.Refused("one", start_ + seconds(3)));  // a late answer to the old token
}

TEST_F(TokenSourceTest, KeepsTheLastTokenWhenTheFileIsGone) {
  TokenSource source("given", dir_ / "token");
  EXPECT_EQ(source.Get(start_), "given");
  Write(" \n");
  EXPECT_EQ(source.Get(start_ + seconds(60)), "given");
  Write("two\nlines");  // would break the header it is sent in
  EXPECT_EQ(source.Get(start_ + seconds(120)), "given");
  Write("one");
  EXPECT_EQ(source.Get(start_ + seconds(180)), "one");
}

TEST_F(TokenSourceTest, StaticTokenNeverChanges) {
  TokenSource source("given", "");
  EXPECT_EQ(source.Get(start_), "given");
  EXPECT_FALSE(source.Refused("given", start_));
}

}  // namespace
}  // namespace pointsman::kube

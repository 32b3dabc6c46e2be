#include "kube/pointsman/duration.h"

#include <random>

#include <gtest/gtest.h>

namespace pointsman::kube {
namespace {

using std::chrono::hours;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::nanoseconds;
using std::chrono::seconds;

TEST(Duration, ParsesWhatGoParses) {
  const std::vector<std::pair<std::string, nanoseconds>> cases{
      {"0", nanoseconds(0)},
      {"0s", nanoseconds(0)},
      {"5s", seconds(5)},
      {"15m0s", minutes(15)},
      {"1h", hours(1)},
      {"24h0m0s", hours(24)},
      {"250ms", milliseconds(250)},
      {"1.5h", minutes(90)},
      {".5s", milliseconds(500)},
      {"1.s", seconds(1)},
      {"-1m", minutes(-1)},
      {"+5s", seconds(5)},
      {"11us", microseconds(11)},
      {"12µs", microseconds(12)},
      {"12μs", microseconds(12)},
      {"1h15m30.918273645s", hours(1) + minutes(15) + nanoseconds(30'918'273'645)},
      {"0.3333333333333333333h", nanoseconds(1'199'999'999'999)},
      {"9223372036854775807ns", nanoseconds::max()},
      {"-9223372036854775808ns", nanoseconds::min()},
  };
  for (const auto& [text, want] : cases) {
    const auto got = ParseDuration(text);
    ASSERT_TRUE(got) << text;
    EXPECT_EQ(got->count(), want.count()) << text;
  }
}

TEST(Duration, RefusesTheRest) {
  for (const char* text :
       {"", "3", "-", "s", ".", "-.", ".s", "+.s", "1d", "5 s", "1x", "30", "9223372036854775808ns",
        "3000000h", "1e3s", "-9223372036854775809ns", "1h-1m", "1h ", "99999999999999999999s"}) {
    EXPECT_FALSE(ParseDuration(text)) << text;
  }
}

TEST(Duration, FormatsAsGo) {
  EXPECT_EQ(FormatDuration(nanoseconds(0)), "0s");
  EXPECT_EQ(FormatDuration(nanoseconds(1)), "1ns");
  EXPECT_EQ(FormatDuration(nanoseconds(1100)), "1.1µs");
  EXPECT_EQ(FormatDuration(microseconds(2200)), "2.2ms");
  EXPECT_EQ(FormatDuration(milliseconds(250)), "250ms");
  EXPECT_EQ(FormatDuration(milliseconds(3300)), "3.3s");
  EXPECT_EQ(FormatDuration(seconds(10)), "10s");
  EXPECT_EQ(FormatDuration(minutes(15)), "15m0s");
  EXPECT_EQ(FormatDuration(hours(24)), "24h0m0s");
  EXPECT_EQ(FormatDuration(minutes(4) + milliseconds(5001)), "4m5.001s");
  EXPECT_EQ(FormatDuration(seconds(-90)), "-1m30s");
  EXPECT_EQ(FormatDuration(nanoseconds::min()), "-2562047h47m16.854775808s");
}

TEST(Duration, FormatThenParseIsTheSame) {
  std::mt19937_64 random(20261123);
  for (int i = 0; i < 20'000; ++i) {
    const auto value = static_cast<int64_t>(random()) >> (random() % 64);
    const auto parsed = ParseDuration(FormatDuration(nanoseconds(value)));
    ASSERT_TRUE(parsed) << value;
    EXPECT_EQ(parsed->count(), value);
  }
}

}  // namespace
}  // namespace pointsman::kube

#include "kube/time/rfc3339.h"

#include <gtest/gtest.h>

namespace pointsman::kube {
namespace {

TEST(Rfc3339, FormatsAsTheApiServerDoes) {
  const auto time = std::chrono::system_clock::time_point(std::chrono::seconds(1'767'323'045)) +
                    std::chrono::microseconds(6);
  EXPECT_EQ(FormatTime(time), "2026-01-02T03:04:05Z");
  EXPECT_EQ(FormatMicroTime(time), "2026-01-02T03:04:05.000006Z");
  EXPECT_EQ(FormatMicroTime(time + std::chrono::nanoseconds(999'993'999)),
            "2026-01-02T03:04:05.999999Z");
}

TEST(Rfc3339, IsReadAsItIsWritten) {
  const auto time = ParseTime("2026-02-28T23:59:59Z");
  ASSERT_TRUE(time);
  EXPECT_EQ(FormatTime(*time), "2026-02-28T23:59:59Z");
  EXPECT_EQ(FormatTime(*time + std::chrono::seconds(1)), "2026-03-01T00:00:00Z");
  EXPECT_EQ(ParseTime("2026-02-28T23:59:59.123456Z"), time);
  EXPECT_EQ(ParseTime("2026-03-01T01:59:59+02:00"), time);
  EXPECT_EQ(ParseTime("2026-02-28T18:29:59-05:30"), time);
  for (const char* bad :
       {"", "2026-02-30T00:00:00Z", "2026-02-28", "2026-02-28T00:00:00", "2026-02-28T24:00:00Z",
        "2026-02-28T00:00:00Zx", "2026-02-28T00:00:00.Z", "2026-02-28T-0:00:00Z",
        "9999-12-31T23:59:59-23:59", "0000-01-01T00:00:00+00:01"}) {
    EXPECT_FALSE(ParseTime(bad)) << bad;
  }
}

}  // namespace
}  // namespace pointsman::kube

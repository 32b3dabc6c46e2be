#include "kube/client/kube_time.h"

#include <gtest/gtest.h>

namespace pointsman::kube {
namespace {

TEST(KubeTimeTest, FormatsAsTheApiServerDoes) {
  const auto time = std::chrono::system_clock::time_point(std::chrono::seconds(1'767'323'045)) +
                    std::chrono::microseconds(6);
  EXPECT_EQ(FormatTime(time), "2026-01-02T03:04:05Z");
  EXPECT_EQ(FormatMicroTime(time), "2026-01-02T03:04:05.000006Z");
  EXPECT_EQ(FormatMicroTime(time + std::chrono::nanoseconds(999'993'999)),
            "2026-01-02T03:04:05.999999Z");
}

}  // namespace
}  // namespace pointsman::kube

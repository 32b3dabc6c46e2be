#include "operator/runtime/write_pace.h"

#include <gtest/gtest.h>

namespace pointsman::op {
namespace {

using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""s;

TEST(WritePaceTest, LetsOneWriteOfAnObjectThroughAnInterval) {
  WritePace pace(1s);
  const WritePace::Clock::time_point start{};
  EXPECT_EQ(pace.Wait("a", start), 0s) << "the first waits for nothing";
  pace.Wrote("a", start);
  EXPECT_EQ(pace.Wait("a", start), 1s);
  EXPECT_EQ(pace.Wait("a", start + 300ms), 700ms);
  EXPECT_EQ(pace.Wait("b", start + 300ms), 0s) << "each object has a pace of its own";
  EXPECT_EQ(pace.Wait("a", start + 1s), 0s);
  pace.Wrote("a", start + 5s);
  pace.Wrote("b", start + 5500ms);
  EXPECT_EQ(pace.Wait("a", start + 5500ms), 500ms);
  EXPECT_EQ(pace.Wait("b", start + 6s), 500ms);
}

}  // namespace
}  // namespace pointsman::op

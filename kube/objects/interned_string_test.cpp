#include "kube/objects/interned_string.h"

#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace pointsman::kube {
namespace {

TEST(InternedString, EqualTextsAreOne) {
  const size_t before = InternedString::Count();
  {
    const InternedString a("node-1");
    const InternedString b(std::string("node-1"));
    InternedString c = b;
    EXPECT_EQ(&a.str(), &b.str());
    EXPECT_EQ(a, c);
    EXPECT_EQ(InternedString::Count(), before + 1);
    c = InternedString("node-2");
    EXPECT_FALSE(a == c);
    EXPECT_LT(a, c);
    EXPECT_EQ(c, "node-2");
    EXPECT_EQ(InternedString::Count(), before + 2);
    const InternedString moved = std::move(c);
    EXPECT_EQ(moved.str(), "node-2");
  }
  EXPECT_EQ(InternedString::Count(), before);
}

TEST(InternedString, EmptyIsNothing) {
  const size_t before = InternedString::Count();
  const InternedString empty;
  EXPECT_TRUE(empty.empty());
  EXPECT_EQ(empty, "");
  EXPECT_EQ(empty, InternedString(""));
  EXPECT_EQ(InternedString::Count(), before);
}

TEST(InternedString, ManyThreads) {
  const size_t before = InternedString::Count();
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([] {
      for (int i = 0; i < 20'000; ++i) {
        const InternedString a(std::to_string(i % 7));
        const InternedString b = a;
        if (b.str() != std::to_string(i % 7)) std::abort();
      }
    });
  }
  threads.clear();
  EXPECT_EQ(InternedString::Count(), before);
}

}  // namespace
}  // namespace pointsman::kube

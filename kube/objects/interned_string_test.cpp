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
  const auto work = [] {
    for (int i = 0; i < 20'000; ++i) {
      const InternedString a(std::to_string(i % 7));
      InternedString b = a;
      b = InternedString(std::to_string(i % 5));
      if (a.str() != std::to_string(i % 7) || b.str() != std::to_string(i % 5)) std::abort();
    }
  };
  std::vector<std::jthread> threads(4);
  for (std::jthread& thread : threads)
    thread = std::jthread(work);
  threads.clear();
  EXPECT_EQ(InternedString::Count(), before);
}

}  // namespace
}  // namespace pointsman::kube

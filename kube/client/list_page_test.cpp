#include "kube/client/list_page.h"

#include <gtest/gtest.h>

#include "kube/client/client.h"

namespace pointsman::kube {
namespace {

std::vector<std::string> Items(std::string page) {
  page.reserve(page.size() + kJsonPadding);
  std::vector<std::string> items;
  ForEachItem(page, [&](std::string_view item) { items.emplace_back(item); });
  return items;
}

ListMetadata Metadata(std::string page) {
  page.reserve(page.size() + kJsonPadding);
  return ReadListMetadata(page);
}

TEST(ListPageTest, ReadsMetadata) {
  const ListMetadata read = Metadata(
      R"({"kind":"List","items":[{"metadata":{"resourceVersion":"1"}}],
          "metadata":{"continue":"a\/b","remainingItemCount":7,"resourceVersion":"12"}})");
  EXPECT_EQ(read.resource_version, "12");
  EXPECT_EQ(read.continue_token, "a/b");
  EXPECT_EQ(read.remaining_items, 7);
  const ListMetadata none = Metadata(R"({"metadata":{"continue":null},"items":[]})");
  EXPECT_EQ(none.resource_version, "");
  EXPECT_EQ(none.continue_token, "");
  EXPECT_EQ(none.remaining_items, -1);
}

TEST(ListPageTest, SlicesItems) {
  EXPECT_EQ(Items(R"({"metadata":{},"items":[ {"a":[{"b":"]}"}]} , {} ]})"),
            (std::vector<std::string>{R"({"a":[{"b":"]}"}]} )", "{} "}));
  EXPECT_TRUE(Items(R"({"items":[]})").empty());
  EXPECT_TRUE(Items(R"({"items":null})").empty());
  EXPECT_TRUE(Items(R"({"metadata":{}})").empty());
}

TEST(ListPageTest, RefusesWhatIsNoList) {
  for (const char* page : {"", "nonsense", "[]", "{}", R"({"metadata":[]})",
                           R"({"metadata":{"resourceVersion":5}})"}) {
    EXPECT_THROW(Metadata(page), std::invalid_argument) << page;
  }
  for (const char* page : {"", "[1", R"({"items":{}})", R"({"items":[1]})", R"({"items":[{"a":)"}) {
    EXPECT_THROW(Items(page), std::invalid_argument) << page;
  }
}

}  // namespace
}  // namespace pointsman::kube

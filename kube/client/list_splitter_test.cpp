#include "kube/client/list_splitter.h"

#include <stdexcept>

#include <gtest/gtest.h>

namespace pointsman::kube {
namespace {

struct Read {
  std::vector<std::string> items;
  ListMetadata metadata;
};

// The list in pieces of that size.
Read Split(std::string_view list, size_t piece, size_t max_item_bytes = kMaxEventBytes) {
  Read read;
  ListSplitter splitter([&](std::string_view item) { read.items.emplace_back(item); },
                        max_item_bytes);
  for (size_t at = 0; at < list.size(); at += piece)
    splitter.Add(list.substr(at, piece));
  read.metadata = splitter.End();
  return read;
}

TEST(ListSplitterTest, GivesTheSameHoweverTheBytesArrive) {
  const std::string list =
      R"( {"kind" : "List","other":[{"items":[{"no":1}],"metadata":{"resourceVersion":"8"}},"}]"],)"
      R"("items":[ {"a":[{"b":"]}\""}],"items":[{"x":"\\"}]} ,{},)"
      "\n"
      R"({"metadata":{"resourceVersion":"1","continue":"no"},"s":"{[\\\"","ä":"€"}],"z":"items",)"
      R"("metadata":{"continue":"a\/b","remainingItemCount":7,"resourceVersion":"12"},"l":null} )";
  const std::vector<std::string> items = {
      R"({"a":[{"b":"]}\""}],"items":[{"x":"\\"}]})", "{}",
      R"({"metadata":{"resourceVersion":"1","continue":"no"},"s":"{[\\\"","ä":"€"})"};
  for (size_t piece = 1; piece <= list.size(); ++piece) {
    const Read read = Split(list, piece);
    EXPECT_EQ(read.items, items) << piece;
    EXPECT_EQ(read.metadata.resource_version, "12") << piece;
    EXPECT_EQ(read.metadata.continue_token, "a/b") << piece;
    EXPECT_EQ(read.metadata.remaining_items, 7) << piece;
  }
}

TEST(ListSplitterTest, TakesWhatGoLeavesOut) {
  for (const char* list : {R"({"metadata":{"continue":null},"items":[]})",
                           R"({"items":null,"metadata":{}})", R"({"metadata":{}})"}) {
    const Read read = Split(list, 3);
    EXPECT_TRUE(read.items.empty()) << list;
    EXPECT_EQ(read.metadata.resource_version, "") << list;
    EXPECT_EQ(read.metadata.continue_token, "") << list;
    EXPECT_EQ(read.metadata.remaining_items, -1) << list;
  }
}

TEST(ListSplitterTest, RefusesWhatIsNoList) {
  for (const char* list : {"",
                           "nonsense",
                           "[]",
                           "1",
                           "{}",
                           "}",
                           R"({"metadata":[]})",
                           R"({"metadata":5})",
                           R"({"metadata":{"resourceVersion":5}})",
                           R"({"metadata":{},"items":{}})",
                           R"({"metadata":{},"items":[1]})",
                           R"({"metadata":{},"items":["a"]})",
                           R"({"metadata":{},"items":[[]]})",
                           R"({"metadata":{},"items":true})",
                           R"({"metadata":{},"items":"x"})",
                           R"({"metadata":{},"items":[{"a":)",
                           R"({"metadata":{},"items":[)",
                           R"({"metadata":{},"items":[]}{})",
                           R"({"metadata":{}}})",
                           R"({"metadata":{"a":}})"}) {
    for (const size_t piece : {size_t{1}, size_t{4096}})
      EXPECT_THROW(Split(list, piece), std::invalid_argument) << list;
  }
}

TEST(ListSplitterTest, BoundsAnItemAndNotTheList) {
  std::string list = R"({"metadata":{"resourceVersion":"5"},"items":[{"a":"0123456789"})";
  for (int i = 0; i < 1000; ++i)
    list += R"(,{"a":"0123456789"})";
  EXPECT_EQ(Split(list + "]}", 7, 64).items.size(), 1001U);
  EXPECT_THROW(Split(list + "]}", 7, 16), std::invalid_argument);
}

TEST(ListSplitterTest, LeavesRoomBehindAnItem) {
  ListSplitter splitter([](std::string_view item) {
    // As simdjson reads: beyond the end, within the padding.
    volatile char sum = 0;
    for (size_t i = 0; i < kJsonPadding; ++i)
      sum = static_cast<char>(sum + item.data()[item.size() + i]);
  });
  splitter.Add(
      R"({"metadata":{},"items":[{"a":1},{"b":"0123456789012345678901234567890123456"}]})");
  splitter.End();
}

}  // namespace
}  // namespace pointsman::kube

#include "kube/client/event_splitter.h"

#include <gtest/gtest.h>

namespace pointsman::kube {
namespace {

struct Seen {
  WatchEventType type;
  std::string object;
  bool operator==(const Seen&) const = default;
};

class EventSplitterTest : public ::testing::Test {
 protected:
  EventSplitter Splitter(size_t max = 1000) {
    return EventSplitter(
        [this](WatchEventType type, std::string_view object) {
          seen_.push_back({type, std::string(object)});
          return seen_.size() < wanted_;
        },
        max);
  }
  std::vector<Seen> seen_;
  size_t wanted_ = 1000;
};

constexpr std::string_view kStream =
    "{\"type\":\"ADDED\",\"object\":{\"a\":\"}\\n\\\"\",\"b\":[{}]}}\n"
    "{\"object\":{\"b\":2},\"type\":\"MODIFIED\"}\r\n\n"
    "{\"type\":\"DELETED\",\"object\":{}}\n"
    "{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"7\"}}}\n";
const std::vector<Seen> kEvents{
    {WatchEventType::kAdded, "{\"a\":\"}\\n\\\"\",\"b\":[{}]}"},
    {WatchEventType::kModified, "{\"b\":2}"},
    {WatchEventType::kDeleted, "{}"},
    {WatchEventType::kBookmark, "{\"metadata\":{\"resourceVersion\":\"7\"}}"}};

TEST_F(EventSplitterTest, FindsEventsHoweverTheBytesArrive) {
  for (size_t size = 1; size <= kStream.size(); ++size) {
    seen_.clear();
    EventSplitter splitter = Splitter();
    for (size_t at = 0; at < kStream.size(); at += size) {
      EXPECT_TRUE(splitter.Add(kStream.substr(at, size)));
    }
    EXPECT_EQ(seen_, kEvents) << "in pieces of " << size;
    EXPECT_FALSE(splitter.HasPartialEvent());
  }
}

TEST_F(EventSplitterTest, StopsWhenNoMoreIsWanted) {
  wanted_ = 2;
  EXPECT_FALSE(Splitter().Add(kStream));
  EXPECT_EQ(seen_.size(), 2U);
}

TEST_F(EventSplitterTest, ThrowsTheServersError) {
  try {
    Splitter().Add(
        "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"code\":410,\"message\":\"old\"}}\n");
    FAIL();
  } catch (const ApiError& e) {
    EXPECT_TRUE(e.IsExpired());
    EXPECT_STREQ(e.what(), "old");
  }
}

TEST_F(EventSplitterTest, BoundsAnEvent) {
  EventSplitter whole = Splitter(100);
  EXPECT_THROW(
      whole.Add("{\"type\":\"ADDED\",\"object\":{\"a\":\"" + std::string(100, 'x') + "\"}}\n"),
      std::invalid_argument);
  EventSplitter endless = Splitter(100);
  EXPECT_TRUE(endless.Add(std::string(60, ' ')));
  EXPECT_THROW(endless.Add(std::string(60, ' ')), std::invalid_argument);
}

TEST_F(EventSplitterTest, RefusesWhatIsNoEvent) {
  for (const char* line : {"nonsense\n", "[]\n", "{\"type\":\"ADDED\"}\n", "{\"object\":{}}\n",
                           "{\"type\":\"NEW\",\"object\":{}}\n", "{\"type\":1,\"object\":{}}\n",
                           "{\"type\":\"ADDED\",\"object\":{\"a\":\n"}) {
    EXPECT_THROW(Splitter().Add(line), std::invalid_argument) << line;
  }
  EventSplitter cut = Splitter();
  cut.Add("{\"type\":");
  EXPECT_TRUE(cut.HasPartialEvent());
}

}  // namespace
}  // namespace pointsman::kube

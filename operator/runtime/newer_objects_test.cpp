#include "operator/runtime/newer_objects.h"

#include <gtest/gtest.h>

namespace pointsman::op {
namespace {

struct Thing {
  std::string name;
  std::string uid;
  std::string resource_version;
};

std::string Versions(const std::vector<std::shared_ptr<const Thing>>& things) {
  std::string text;
  for (const auto& thing : things)
    text += thing->name + "@" + thing->resource_version + " ";
  return text;
}

std::vector<std::shared_ptr<const Thing>> Cache(std::initializer_list<Thing> things) {
  std::vector<std::shared_ptr<const Thing>> cache;
  for (const Thing& thing : things)
    cache.push_back(std::make_shared<const Thing>(thing));
  return cache;
}

TEST(NewerObjectsTest, HoldsAWriteUntilTheCacheHasIt) {
  NewerObjects<Thing> newer;
  newer.Wrote({"a", "1", "10"});
  EXPECT_EQ(Versions(newer.Merge(Cache({{"a", "1", "9"}, {"b", "2", "3"}}))), "a@10 b@3 ");
  EXPECT_EQ(Versions(newer.Merge(Cache({{"a", "1", "10"}}))), "a@10 ");
  // Forgotten since: the cache is the truth again.
  EXPECT_EQ(Versions(newer.Merge(Cache({{"a", "1", "9"}}))), "a@9 ");
}

TEST(NewerObjectsTest, ShowsWhatWasMadeAndHidesWhatWasDeleted) {
  NewerObjects<Thing> newer;
  newer.Wrote({"a", "1", "10"});
  EXPECT_EQ(Versions(newer.Merge(Cache({}))), "a@10 ");
  newer.Deleted({"a", "1", "10"});
  EXPECT_EQ(Versions(newer.Merge(Cache({{"a", "1", "10"}}))), "");
  EXPECT_EQ(Versions(newer.Merge(Cache({{"a", "1", "11"}}))), "");
  // Another object under the old name.
  EXPECT_EQ(Versions(newer.Merge(Cache({{"a", "2", "12"}}))), "a@12 ");
}

TEST(NewerObjectsTest, ComparesVersionsAsNumbers) {
  EXPECT_TRUE(IsOlderVersion("9", "10"));
  EXPECT_FALSE(IsOlderVersion("10", "9"));
  EXPECT_FALSE(IsOlderVersion("10", "10"));
  EXPECT_FALSE(IsOlderVersion("x", "10"));
}

}  // namespace
}  // namespace pointsman::op

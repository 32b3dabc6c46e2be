#include "kube/net/fair_shares.h"

#include <algorithm>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace pointsman::net {
namespace {

struct Item {
  int last_used = 0;
  std::array<ShareKey, 2> path;
  FairShares<Item>::Place place;
};

class FairSharesTest : public ::testing::Test {
 protected:
  Item* Add(uint64_t outer, uint64_t inner, int last_used) {
    items_.push_back(std::make_unique<Item>());
    Item* const item = items_.back().get();
    *item = {last_used, {ShareKey::Of(outer), ShareKey::Of(inner)}, {}};
    item->place = shares_.Add(item->path, item);
    return item;
  }
  std::optional<FairShares<Item>::Choice> Heaviest(std::span<const ShareKey> newcomer = {}) {
    return shares_.Heaviest(newcomer, [](const Item& item) { return item.last_used; });
  }
  std::optional<FairShares<Item>::Choice> HeaviestFor(uint64_t outer, uint64_t inner) {
    return Heaviest(std::array{ShareKey::Of(outer), ShareKey::Of(inner)});
  }

  std::vector<std::unique_ptr<Item>> items_;
  FairShares<Item> shares_;
};

TEST_F(FairSharesTest, NobodyLosesWhenThereIsNothing) {
  EXPECT_FALSE(Heaviest());
  Item* const only = Add(1, 1, 5);
  EXPECT_EQ(Heaviest()->item, only);
  shares_.Remove(only->place);
  EXPECT_FALSE(Heaviest());
  EXPECT_FALSE(HeaviestFor(1, 1));
}

TEST_F(FairSharesTest, TheHeaviestUserLosesWhatItUsedLongestAgo) {
  Add(1, 1, 1);  // older than all of the heavier one
  Add(2, 1, 9);
  Item* const oldest = Add(2, 1, 7);
  Add(2, 1, 8);
  EXPECT_EQ(HeaviestFor(1, 1)->item, oldest);
  EXPECT_FALSE(HeaviestFor(1, 1)->own);
}

TEST_F(FairSharesTest, WhoHasAsManyAsTheHeaviestLosesAnOwnOne) {
  Item* const own = Add(1, 1, 9);
  Add(2, 1, 1);
  const auto choice = HeaviestFor(1, 1);
  EXPECT_EQ(choice->item, own);
  EXPECT_TRUE(choice->own);
  EXPECT_FALSE(HeaviestFor(3, 1)->own);
}

TEST_F(FairSharesTest, TheOuterStepGoesFirst) {
  // One user within 1 is heavier than any within 2, but 2 as a whole is heavier.
  for (int i = 0; i < 5; ++i)
    Add(1, 1, i);
  std::vector<Item*> many;
  for (uint64_t i = 0; i < 6; ++i)
    many.push_back(Add(2, i, 100 - static_cast<int>(i)));
  EXPECT_EQ(HeaviestFor(1, 2)->item, many.back())
      << "the longest unused of those that have as many";
  // Within 1, where the newcomer is somebody else than who has most there.
  shares_.Remove(many[0]->place);
  shares_.Remove(many[1]->place);
  const auto choice = HeaviestFor(1, 2);
  EXPECT_EQ(choice->item->last_used, 0);
  EXPECT_FALSE(choice->own);
}

TEST_F(FairSharesTest, AnIpv6HostIsOneUserWhateverOfItsAddressesItTakes) {
  const auto key = [](const char* text) { return ShareKey::Of(*IpAddress::Parse(text)); };
  EXPECT_EQ(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::7"));
  EXPECT_NE(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
  EXPECT_NE(key("10.0.0.1"), key("10.0.0.2"));
  EXPECT_NE(key("::"), key("0.0.0.0"));
}

TEST_F(FairSharesTest, OfManyItemsThoseLookedAtComeAgainOnlyAfterTheOthers) {
  // In the first places what is in use, behind it what is not.
  for (size_t i = 0; i < FairShares<Item>::kLooks; ++i)
    Add(1, 1, 1000);
  Add(1, 1, 1);
  Heaviest();
  EXPECT_EQ(Heaviest()->item->last_used, 1);
}

// Against a plain count, over many random changes.
TEST_F(FairSharesTest, TheChosenOneIsAlwaysOfTheHeaviest) {
  std::minstd_rand random(7);
  std::vector<Item*> there;
  for (int step = 0; step < 3000; ++step) {
    if (there.size() < 20 || random() % 2 == 0) {
      there.push_back(Add(random() % 3, random() % 4, step));
    } else {
      const size_t gone = random() % there.size();
      shares_.Remove(there[gone]->place);
      there.erase(there.begin() + static_cast<std::ptrdiff_t>(gone));
    }
    ASSERT_EQ(shares_.size(), there.size());
    const auto outer = [&](const ShareKey& key) {
      return std::count_if(there.begin(), there.end(),
                           [&](const Item* item) { return item->path[0] == key; });
    };
    const auto inner = [&](const std::array<ShareKey, 2>& path) {
      return std::count_if(there.begin(), there.end(),
                           [&](const Item* item) { return item->path == path; });
    };
    const Item& chosen = *Heaviest()->item;
    const auto weight = shares_.WeightOf(chosen.place);
    ASSERT_EQ(weight[0], static_cast<size_t>(outer(chosen.path[0])));
    ASSERT_EQ(weight[1], static_cast<size_t>(inner(chosen.path)));
    for (const Item* item : there) {
      ASSERT_LE(outer(item->path[0]), outer(chosen.path[0]));
      if (item->path[0] == chosen.path[0]) {
        ASSERT_LE(inner(item->path), inner(chosen.path));
        if (item->path == chosen.path) {
          ASSERT_LE(chosen.last_used, item->last_used);
        }
      }
    }
  }
}

}  // namespace
}  // namespace pointsman::net

#include "e2e/control-plane/store/store.h"

#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <thread>

#include <gtest/gtest.h>
#include <stdlib.h>

namespace pointsman::e2e {
namespace {

class StoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "pmstore-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  static Json Object(const std::string& name, int value, const std::string& ns = "a") {
    return {{"apiVersion", "v1"},
            {"kind", "ConfigMap"},
            {"metadata", {{"name", name}, {"namespace", ns}}},
            {"data", {{"v", std::to_string(value)}}}};
  }
  Store::Options Options() const {
    Store::Options o;
    o.data_dir = dir_;
    return o;
  }

  std::filesystem::path dir_;
};

TEST_F(StoreTest, KeepsEverythingAcrossReopening) {
  std::uint64_t version = 0;
  {
    Store store(Options());
    store.Create("configmaps", Object("one", 1));
    const ObjectPtr two = store.Create("configmaps", Object("two", 2));
    Json changed = two->Parse();
    changed["data"]["v"] = "3";
    store.Update("configmaps", changed, two->resource_version);
    store.Remove("configmaps", "a", "one");
    version = store.ResourceVersion();
  }
  Store store(Options());
  EXPECT_EQ(store.ResourceVersion(), version);
  EXPECT_EQ(store.Get("configmaps", "a", "one"), nullptr);
  ASSERT_NE(store.Get("configmaps", "a", "two"), nullptr);
  EXPECT_EQ(store.Get("configmaps", "a", "two")->Parse()["data"]["v"], "3");
  // The history survives for pages begun before, but no watch goes on from before the restart.
  std::size_t remaining = 0;
  EXPECT_EQ(store.ListPage("configmaps", "", "", 0, version - 1, remaining).objects.size(), 2u);
  EXPECT_THROW(store.Watch("configmaps", version - 1), StatusError);
  EXPECT_EQ(store.Watch("configmaps", version)->TryNext(), std::nullopt);
}

TEST_F(StoreTest, DropsATornTailAndRefusesDamageBeforeIt) {
  {
    Store store(Options());
    for (int i = 0; i < 10; ++i)
      store.Create("configmaps", Object("o" + std::to_string(i), i));
  }
  const auto file = dir_ / "store.log";
  const auto size = std::filesystem::file_size(file);
  std::filesystem::resize_file(file, size - 7);
  {
    Store store(Options());
    EXPECT_EQ(store.List("configmaps").objects.size(), 9u);
    store.Create("configmaps", Object("again", 1));
  }
  {
    Store store(Options());
    EXPECT_EQ(store.List("configmaps").objects.size(), 10u);
  }
  {
    std::fstream f(file, std::ios::in | std::ios::out | std::ios::binary);
    f.seekp(60);
    f.put('\x7f');
  }
  EXPECT_THROW(Store{Options()}, std::runtime_error);
}

TEST_F(StoreTest, CompactionKeepsTheState) {
  Store::Options o = Options();
  o.compact_after_bytes = 20000;
  std::uint64_t version = 0;
  {
    Store store(o);
    store.Create("configmaps", Object("x", 0));
    for (int i = 1; i <= 1000; ++i)
      store.Update("configmaps", Object("x", i), 0);
    version = store.ResourceVersion();
  }
  EXPECT_LT(std::filesystem::file_size(dir_ / "store.log"), 60000u);
  Store store(o);
  EXPECT_EQ(store.ResourceVersion(), version);
  EXPECT_EQ(store.Get("configmaps", "a", "x")->Parse()["data"]["v"], "1000");
  EXPECT_THROW(store.Watch("configmaps", 1), StatusError);
}

TEST_F(StoreTest, PagesShowOneVersionWhateverIsWrittenBetween) {
  Store store({});
  for (int i = 0; i < 10; ++i)
    store.Create("configmaps", Object("o" + std::to_string(i), i));
  std::size_t remaining = 0;
  const Snapshot first = store.ListPage("configmaps", "", "", 4, 0, remaining);
  ASSERT_EQ(first.objects.size(), 4u);
  EXPECT_EQ(remaining, 6u);
  store.Remove("configmaps", "a", "o5");
  store.Create("configmaps", Object("o55", 55));
  store.Update("configmaps", Object("o6", 66), 0);
  const Snapshot rest =
      store.ListPage("configmaps", "", "a/o3", 0, first.resource_version, remaining);
  ASSERT_EQ(rest.objects.size(), 6u);
  EXPECT_EQ(rest.objects[1]->name, "o5");
  EXPECT_EQ(rest.objects[2]->Parse()["data"]["v"], "6");
  store.ExpireHistory();
  EXPECT_THROW(store.ListPage("configmaps", "", "a/o3", 0, first.resource_version, remaining),
               StatusError);
}

TEST_F(StoreTest, ConflictsAndUnchangedWrites) {
  Store store(Options());
  const ObjectPtr one = store.Create("configmaps", Object("one", 1));
  EXPECT_THROW(store.Create("configmaps", Object("one", 2)), StatusError);
  EXPECT_EQ(store.Update("configmaps", one->Parse(), 0)->resource_version, one->resource_version);
  Json changed = one->Parse();
  changed["data"]["v"] = "2";
  store.Update("configmaps", changed, one->resource_version);
  EXPECT_THROW(store.Update("configmaps", changed, one->resource_version), StatusError);
}

TEST_F(StoreTest, ManyWritersShareTheDiskAndLoseNothing) {
  {
    Store store(Options());
    auto watch = store.Watch("configmaps", store.ResourceVersion());
    std::vector<std::thread> writers;
    writers.reserve(8);
    for (int t = 0; t < 8; ++t) {
      writers.emplace_back([&, t] {
        for (int i = 0; i < 200; ++i) {
          store.Create("configmaps", Object("o" + std::to_string(t) + "-" + std::to_string(i), i));
        }
      });
    }
    for (std::thread& w : writers)
      w.join();
    std::uint64_t last = 0;
    int events = 0;
    while (const auto event = watch->TryNext()) {
      EXPECT_GT(event->resource_version, last);
      last = event->resource_version;
      ++events;
    }
    EXPECT_EQ(events, 1600);
  }
  Store store(Options());
  EXPECT_EQ(store.List("configmaps").objects.size(), 1600u);
}

}  // namespace
}  // namespace pointsman::e2e

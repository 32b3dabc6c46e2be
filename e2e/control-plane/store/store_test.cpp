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

  static Json object(const std::string& name, int value, const std::string& ns = "a") {
    return {{"apiVersion", "v1"},
            {"kind", "ConfigMap"},
            {"metadata", {{"name", name}, {"namespace", ns}}},
            {"data", {{"v", std::to_string(value)}}}};
  }
  Store::Options options() const {
    Store::Options o;
    o.dataDir = dir_;
    return o;
  }

  std::filesystem::path dir_;
};

TEST_F(StoreTest, KeepsEverythingAcrossReopening) {
  std::uint64_t version = 0;
  {
    Store store(options());
    store.create("configmaps", object("one", 1));
    const ObjectPtr two = store.create("configmaps", object("two", 2));
    Json changed = two->parse();
    changed["data"]["v"] = "3";
    store.update("configmaps", changed, two->resourceVersion);
    store.remove("configmaps", "a", "one");
    version = store.resourceVersion();
  }
  Store store(options());
  EXPECT_EQ(store.resourceVersion(), version);
  EXPECT_EQ(store.get("configmaps", "a", "one"), nullptr);
  ASSERT_NE(store.get("configmaps", "a", "two"), nullptr);
  EXPECT_EQ(store.get("configmaps", "a", "two")->parse()["data"]["v"], "3");
  // The history survives for pages begun before, but no watch goes on from before the restart.
  std::size_t remaining = 0;
  EXPECT_EQ(store.listPage("configmaps", "", "", 0, version - 1, remaining).objects.size(), 2u);
  EXPECT_THROW(store.watch("configmaps", version - 1), StatusError);
  EXPECT_EQ(store.watch("configmaps", version)->tryNext(), std::nullopt);
}

TEST_F(StoreTest, DropsATornTailAndRefusesDamageBeforeIt) {
  {
    Store store(options());
    for (int i = 0; i < 10; ++i)
      store.create("configmaps", object("o" + std::to_string(i), i));
  }
  const auto file = dir_ / "store.log";
  const auto size = std::filesystem::file_size(file);
  std::filesystem::resize_file(file, size - 7);
  {
    Store store(options());
    EXPECT_EQ(store.list("configmaps").objects.size(), 9u);
    store.create("configmaps", object("again", 1));
  }
  {
    Store store(options());
    EXPECT_EQ(store.list("configmaps").objects.size(), 10u);
  }
  {
    std::fstream f(file, std::ios::in | std::ios::out | std::ios::binary);
    f.seekp(60);
    f.put('\x7f');
  }
  EXPECT_THROW(Store{options()}, std::runtime_error);
}

TEST_F(StoreTest, CompactionKeepsTheState) {
  Store::Options o = options();
  o.compactAfterBytes = 20000;
  std::uint64_t version = 0;
  {
    Store store(o);
    store.create("configmaps", object("x", 0));
    for (int i = 1; i <= 1000; ++i)
      store.update("configmaps", object("x", i), 0);
    version = store.resourceVersion();
  }
  EXPECT_LT(std::filesystem::file_size(dir_ / "store.log"), 60000u);
  Store store(o);
  EXPECT_EQ(store.resourceVersion(), version);
  EXPECT_EQ(store.get("configmaps", "a", "x")->parse()["data"]["v"], "1000");
  EXPECT_THROW(store.watch("configmaps", 1), StatusError);
}

TEST_F(StoreTest, PagesShowOneVersionWhateverIsWrittenBetween) {
  Store store({});
  for (int i = 0; i < 10; ++i)
    store.create("configmaps", object("o" + std::to_string(i), i));
  std::size_t remaining = 0;
  const Snapshot first = store.listPage("configmaps", "", "", 4, 0, remaining);
  ASSERT_EQ(first.objects.size(), 4u);
  EXPECT_EQ(remaining, 6u);
  store.remove("configmaps", "a", "o5");
  store.create("configmaps", object("o55", 55));
  store.update("configmaps", object("o6", 66), 0);
  const Snapshot rest =
      store.listPage("configmaps", "", "a/o3", 0, first.resourceVersion, remaining);
  ASSERT_EQ(rest.objects.size(), 6u);
  EXPECT_EQ(rest.objects[1]->name, "o5");
  EXPECT_EQ(rest.objects[2]->parse()["data"]["v"], "6");
  store.expireHistory();
  EXPECT_THROW(store.listPage("configmaps", "", "a/o3", 0, first.resourceVersion, remaining),
               StatusError);
}

TEST_F(StoreTest, ConflictsAndUnchangedWrites) {
  Store store(options());
  const ObjectPtr one = store.create("configmaps", object("one", 1));
  EXPECT_THROW(store.create("configmaps", object("one", 2)), StatusError);
  EXPECT_EQ(store.update("configmaps", one->parse(), 0)->resourceVersion, one->resourceVersion);
  Json changed = one->parse();
  changed["data"]["v"] = "2";
  store.update("configmaps", changed, one->resourceVersion);
  EXPECT_THROW(store.update("configmaps", changed, one->resourceVersion), StatusError);
}

TEST_F(StoreTest, ManyWritersShareTheDiskAndLoseNothing) {
  {
    Store store(options());
    auto watch = store.watch("configmaps", store.resourceVersion());
    std::vector<std::thread> writers;
    writers.reserve(8);
    for (int t = 0; t < 8; ++t) {
      writers.emplace_back([&, t] {
        for (int i = 0; i < 200; ++i) {
          store.create("configmaps", object("o" + std::to_string(t) + "-" + std::to_string(i), i));
        }
      });
    }
    for (std::thread& w : writers)
      w.join();
    std::uint64_t last = 0;
    int events = 0;
    while (const auto event = watch->tryNext()) {
      EXPECT_GT(event->resourceVersion, last);
      last = event->resourceVersion;
      ++events;
    }
    EXPECT_EQ(events, 1600);
  }
  Store store(options());
  EXPECT_EQ(store.list("configmaps").objects.size(), 1600u);
}

}  // namespace
}  // namespace pointsman::e2e

#include "node-agent/config/config_file_watch.h"

#include <condition_variable>
#include <fstream>
#include <mutex>
#include <sstream>
#include <stdexcept>

#include <gtest/gtest.h>
#include <unistd.h>

namespace pointsman::agent {
namespace {

namespace fs = std::filesystem;

std::string Read(const fs::path& file) {
  std::ifstream stream(file);
  if (!stream) throw std::runtime_error("no " + file.string());
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

class ConfigFileWatchTest : public testing::Test {
 protected:
  ConfigFileWatchTest() {
    std::string name = fs::temp_directory_path() / "config-watch-XXXXXX";
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp");
    folder_ = name;
  }
  ~ConfigFileWatchTest() override {
    watch_.reset();
    fs::remove_all(folder_);
  }

  void Start(const std::string& content,
             std::chrono::milliseconds writer_patience = std::chrono::hours(1)) {
    watch_.emplace(
        folder_ / "config.conf", content, Read,
        [this](const std::string& now) {
          const std::lock_guard lock(mutex_);
          seen_.push_back(now);
          wake_.notify_all();
        },
        writer_patience);
  }
  static void Write(const fs::path& file, const std::string& text) {
    std::ofstream(file, std::ios::trunc) << text;
  }
  // The contents told so far, when there are `count` of them.
  std::vector<std::string> Seen(size_t count) {
    std::unique_lock lock(mutex_);
    wake_.wait_for(lock, std::chrono::seconds(45), [&] { return seen_.size() >= count; });
    return seen_;
  }
  using Contents = std::vector<std::string>;

  fs::path folder_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::string> seen_;
  std::optional<ConfigFileWatch> watch_;
};

TEST_F(ConfigFileWatchTest, WrittenInPlaceAndReplacedByRename) {
  Write(folder_ / "config.conf", "one");
  Start("one");
  Write(folder_ / "config.conf", "two");
  EXPECT_EQ(Seen(1), Contents({"two"}));
  Write(folder_ / "new", "three");
  fs::rename(folder_ / "new", folder_ / "config.conf");
  EXPECT_EQ(Seen(2), Contents({"two", "three"}));
}

TEST_F(ConfigFileWatchTest, AConfigMapVolumesExchangeOfTheLink) {
  for (const char* name : {"..1", "..2"})
    fs::create_directory(folder_ / name);
  Write(folder_ / "..1/config.conf", "one");
  Write(folder_ / "..2/config.conf", "two");
  fs::create_directory_symlink("..1", folder_ / "..data");
  fs::create_symlink("..data/config.conf", folder_ / "config.conf");
  Start("one");
  fs::create_directory_symlink("..2", folder_ / "..data_tmp");
  fs::rename(folder_ / "..data_tmp", folder_ / "..data");
  EXPECT_EQ(Seen(1), Contents({"two"}));
  // The file where it now lies, which is not in the folder of its name.
  Write(folder_ / "..2/config.conf", "three");
  EXPECT_EQ(Seen(2), Contents({"two", "three"}));
}

TEST_F(ConfigFileWatchTest, AChangeBeforeTheWatchBeganIsTold) {
  Write(folder_ / "config.conf", "two");
  Start("one");
  EXPECT_EQ(Seen(1), Contents({"two"}));
}

TEST_F(ConfigFileWatchTest, TheSameContentAgainAndAMissingFileAreNoChange) {
  Write(folder_ / "config.conf", "one");
  Start("one");
  Write(folder_ / "config.conf", "one");
  fs::remove(folder_ / "config.conf");
  Write(folder_ / "other", "x");
  Write(folder_ / "config.conf", "two");
  EXPECT_EQ(Seen(1), Contents({"two"}));
}

TEST_F(ConfigFileWatchTest, HalfAFileIsNoContent) {
  Write(folder_ / "config.conf", "one");
  Start("one");
  std::ofstream writer(folder_ / "config.conf", std::ios::trunc);
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(300);
  while (std::chrono::steady_clock::now() < until) {
    writer << "line\n" << std::flush;
    // Says that it is time to read, also of the file beside it.
    Write(folder_ / "other", "x");
  }
  EXPECT_EQ(Seen(0), Contents());
  writer << "end" << std::flush;
  writer.close();
  const Contents seen = Seen(1);
  ASSERT_EQ(seen.size(), 1U);
  EXPECT_TRUE(seen[0].ends_with("\nend"));
}

// As on file systems where a lease is refused though nobody writes.
TEST_F(ConfigFileWatchTest, AWriterThatOnlyHoldsTheFileIsNotWaitedForForEver) {
  Write(folder_ / "config.conf", "one");
  Start("one", std::chrono::milliseconds(10));
  std::ofstream writer(folder_ / "config.conf", std::ios::trunc);
  writer << "two" << std::flush;
  Write(folder_ / "other", "x");
  EXPECT_EQ(Seen(1), Contents({"two"}));
}

TEST_F(ConfigFileWatchTest, AFolderThatIsNotThereIsRefused) {
  EXPECT_THROW(ConfigFileWatch("/does/not/exist", "", Read, [](const std::string&) {}),
               std::system_error);
}

}  // namespace
}  // namespace pointsman::agent

// Notices that a configuration file was changed, however that is done: written in place, replaced
// by rename (editors), or by a ConfigMap volume's exchange of the symbolic link ..data.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>

#include "base/unique_fd.h"

namespace pointsman::agent {

class ConfigFileWatch {
 public:
  // `content` is what was read of `file`; `changed` is called on this object's thread with each
  // content that is another than the one before. A file that is not there or cannot be read counts
  // as not changed: it may be on its way, and so does one that somebody is writing. `read` reads
  // it. A writer who does not write for `writer_patience` is not waited for. Throws
  // std::system_error when the kernel gives no watch.
  ConfigFileWatch(const std::filesystem::path& file, std::string content,
                  std::function<std::string(const std::filesystem::path&)> read,
                  std::function<void(const std::string& content)> changed,
                  std::chrono::milliseconds writer_patience = std::chrono::seconds(1));
  ~ConfigFileWatch();
  ConfigFileWatch(const ConfigFileWatch&) = delete;
  ConfigFileWatch& operator=(const ConfigFileWatch&) = delete;

 private:
  class ReadLease;
  using State = std::array<int64_t, 4>;

  void Watch();
  void WatchFolders() const;
  // After how many milliseconds to look again though nothing happens; -1: not at all.
  int Look();

  const std::filesystem::path file_;
  std::string content_;
  State being_written_{};  // what the file was when it was last left alone for a writer,
  std::chrono::steady_clock::time_point same_since_;  // and since when
  const std::function<std::string(const std::filesystem::path&)> read_;
  const std::function<void(const std::string&)> changed_;
  const std::chrono::milliseconds writer_patience_;
  const UniqueFd inotify_;
  const UniqueFd wake_;  // eventfd: ends Watch
  std::thread thread_;
};

}  // namespace pointsman::agent

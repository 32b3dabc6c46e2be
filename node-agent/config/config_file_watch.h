// Notices that a configuration file was changed, however that is done: written in place, replaced
// by rename (editors), or by a ConfigMap volume's exchange of the symbolic link ..data.
#pragma once

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
  // as not changed: it may be on its way. `read` reads it. Throws std::system_error when the kernel
  // gives no watch.
  ConfigFileWatch(const std::filesystem::path& file, std::string content,
                  std::function<std::string(const std::filesystem::path&)> read,
                  std::function<void(const std::string& content)> changed);
  ~ConfigFileWatch();
  ConfigFileWatch(const ConfigFileWatch&) = delete;
  ConfigFileWatch& operator=(const ConfigFileWatch&) = delete;

 private:
  void Watch();
  void WatchFolders() const;
  void Look();

  const std::filesystem::path file_;
  std::string content_;
  const std::function<std::string(const std::filesystem::path&)> read_;
  const std::function<void(const std::string&)> changed_;
  const UniqueFd inotify_;
  const UniqueFd wake_;  // eventfd: ends Watch
  std::thread thread_;
};

}  // namespace pointsman::agent

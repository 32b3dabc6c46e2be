#include "node-agent/config/config_file_watch.h"

#include <array>
#include <cerrno>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <system_error>

#include <poll.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "base/throw_errno.h"

namespace pointsman::agent {
namespace {

namespace fs = std::filesystem;

// A write counts when the writer closes the file: half a file is no configuration.
constexpr uint32_t kEvents = IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_ONLYDIR;

}  // namespace

ConfigFileWatch::ConfigFileWatch(const fs::path& file, std::string content,
                                 std::function<std::string(const fs::path&)> read,
                                 std::function<void(const std::string&)> changed)
    : file_(fs::absolute(file)),
      content_(std::move(content)),
      read_(std::move(read)),
      changed_(std::move(changed)),
      inotify_(inotify_init1(IN_CLOEXEC | IN_NONBLOCK)),
      wake_(eventfd(0, EFD_CLOEXEC)) {
  if (!inotify_ || !wake_ ||
      inotify_add_watch(inotify_.get(), file_.parent_path().c_str(), kEvents) < 0) {
    ThrowErrno("watch " + file_.parent_path().string());
  }
  thread_ = std::thread([this] { Watch(); });
}

ConfigFileWatch::~ConfigFileWatch() {
  const uint64_t one = 1;
  if (write(wake_.get(), &one, sizeof(one)) != sizeof(one))
    std::abort();  // an eventfd takes 8 bytes
  thread_.join();
}

// The folder of the name, and that of the file it leads to, which moves with every exchange.
void ConfigFileWatch::WatchFolders() const {
  std::error_code error;
  const fs::path target = fs::canonical(file_, error);
  if (error) return;
  if (inotify_add_watch(inotify_.get(), target.parent_path().c_str(), kEvents) < 0) {
    spdlog::warn("{} cannot be watched: {}", target.parent_path().string(),
                 std::generic_category().message(errno));
  }
}

void ConfigFileWatch::Look() {
  std::string now;
  try {
    now = read_(file_);
  } catch (const std::exception& error) {
    spdlog::warn("the configuration file cannot be read now: {}", error.what());
    return;
  }
  if (now == content_) return;
  content_ = std::move(now);
  changed_(content_);
}

void ConfigFileWatch::Watch() {
  std::array<pollfd, 2> polls{{{inotify_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}}};
  while (true) {
    WatchFolders();
    // After the watches are there, so that nothing falls between a reading and the next wait.
    Look();
    while (poll(polls.data(), polls.size(), -1) < 0 && errno == EINTR) {
    }
    if (polls[1].revents != 0) return;
    // What happened is seen by reading the file; the events only say that it is time to.
    std::array<char, 4096> events{};
    while (read(inotify_.get(), events.data(), events.size()) > 0) {
    }
  }
}

}  // namespace pointsman::agent

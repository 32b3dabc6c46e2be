#include "node-agent/config/config_file_watch.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <system_error>

#include <fcntl.h>
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

// While it lives nobody opens the file for writing: who wants to waits, for as long as a reading
// takes (fcntl(2), "Leases").
class ConfigFileWatch::ReadLease {
 public:
  explicit ReadLease(const fs::path& file) : fd_(::open(file.c_str(), O_RDONLY | O_CLOEXEC)) {
    // The signal for a writer that waits ends a process unless it is one that is ignored.
    if (!fd_ || ::fcntl(fd_.get(), F_SETSIG, SIGURG) != 0) return;
    refused_ = ::fcntl(fd_.get(), F_SETLEASE, F_RDLCK) != 0 && errno == EAGAIN;
  }

  // Somebody has it open for writing. False also where the kernel does not tell: for a file of
  // another owner without CAP_LEASE, and in file systems that know no leases.
  bool writer() const { return refused_; }
  // What a write changes. Empty: there is no file.
  State state() const {
    struct stat status {};
    if (!fd_ || ::fstat(fd_.get(), &status) != 0) return {};
    return {static_cast<int64_t>(status.st_ino), status.st_size, status.st_mtim.tv_sec,
            status.st_mtim.tv_nsec};
  }
  // Is `file` still the one that the lease is of?
  bool IsOf(const fs::path& file) const {
    struct stat ours {};
    struct stat there {};
    if (!fd_ || ::fstat(fd_.get(), &ours) != 0) return !fs::exists(file);
    return ::stat(file.c_str(), &there) == 0 && ours.st_dev == there.st_dev &&
           ours.st_ino == there.st_ino;
  }

 private:
  UniqueFd fd_;
  bool refused_ = false;
};

ConfigFileWatch::ConfigFileWatch(const fs::path& file, std::string content,
                                 std::function<std::string(const fs::path&)> read,
                                 std::function<void(const std::string&)> changed,
                                 std::chrono::milliseconds writer_patience)
    : file_(fs::absolute(file)),
      content_(std::move(content)),
      read_(std::move(read)),
      changed_(std::move(changed)),
      writer_patience_(writer_patience),
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

int ConfigFileWatch::Look() {
  const ReadLease lease(file_);
  // NFS and CIFS refuse a lease also where nobody writes: what stays the same is taken in the end.
  if (lease.writer()) {
    const auto time = std::chrono::steady_clock::now();
    if (const State state = lease.state(); state != being_written_) {
      being_written_ = state;
      same_since_ = time;
    }
    // The kernel tells of a writer's close a moment before it grants a lease again.
    if (time - same_since_ < writer_patience_) return 20;
  }
  being_written_ = {};
  std::string now;
  try {
    now = read_(file_);
  } catch (const std::exception& error) {
    spdlog::warn("the configuration file cannot be read now: {}", error.what());
    return -1;
  }
  if (!lease.IsOf(file_)) return 0;
  if (now == content_) return -1;
  content_ = std::move(now);
  changed_(content_);
  return -1;
}

void ConfigFileWatch::Watch() {
  std::array<pollfd, 2> polls{{{inotify_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}}};
  while (true) {
    WatchFolders();
    // After the watches are there, so that nothing falls between a reading and the next wait.
    const int again_ms = Look();
    while (poll(polls.data(), polls.size(), again_ms) < 0 && errno == EINTR) {
    }
    if (polls[1].revents != 0) return;
    // What happened is seen by reading the file; the events only say that it is time to.
    std::array<char, 4096> events{};
    while (read(inotify_.get(), events.data(), events.size()) > 0) {
    }
  }
}

}  // namespace pointsman::agent

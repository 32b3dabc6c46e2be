#include "node-agent/userspace/running_forwarders.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <functional>
#include <sys/stat.h>

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "base/throw_errno.h"
#include "node-agent/userspace/forwarder_session.h"

namespace pointsman::agent {
namespace {

using forwarder::ProtocolError;

// Calls `look` with each forwarder of the calling thread's network namespace.
void ForEachForwarder(
    const std::string& directory, std::vector<std::string>& problems, const std::stop_token& stop,
    const std::function<void(const std::string& path, ForwarderSession& session)>& look) {
  const uint64_t netns = NetnsInode();
  for (const std::string& path : ForwarderSockets(directory)) {
    if (stop.stop_requested()) break;
    try {
      ForwarderSession session(path, kLookTimeout);
      if (session.hello().netns == netns) look(path, session);
    } catch (const std::system_error& problem) {
      // One that ended leaves its socket, which is not ours to clear away here.
      if (problem.code() != std::errc::connection_refused &&
          problem.code() != std::errc::no_such_file_or_directory) {
        problems.push_back(fmt::format("forwarder at {}: {}", path, problem.what()));
      }
    } catch (const ProtocolError& problem) {
      problems.push_back(fmt::format("forwarder at {}: {}", path, problem.what()));
    }
  }
}

}  // namespace

uint64_t NetnsInode() {
  struct stat status {};
  if (::stat("/proc/thread-self/ns/net", &status) != 0) ThrowErrno("/proc/thread-self/ns/net");
  return status.st_ino;
}

void CheckControlDirectory(const std::string& directory, bool make) {
  if (make) {
    const std::string parent = std::filesystem::path(directory).parent_path();
    if (::mkdir(parent.c_str(), 0755) != 0 && errno != EEXIST) ThrowErrno(parent);
    if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) ThrowErrno(directory);
  }
  struct stat status {};
  if (::lstat(directory.c_str(), &status) != 0) ThrowErrno(directory);
  if (!S_ISDIR(status.st_mode) || status.st_uid != ::geteuid() || (status.st_mode & 022) != 0) {
    throw std::runtime_error(fmt::format(
        "{} is not a directory that only this user can write to: control sockets are not put there",
        directory));
  }
}

std::vector<std::string> ControlSockets(const std::string& directory) {
  std::vector<std::string> paths;
  std::error_code error;
  std::filesystem::directory_iterator entries(directory, error);
  if (error == std::errc::no_such_file_or_directory) return paths;
  if (error) throw std::system_error(error, directory);
  try {
    CheckControlDirectory(directory, /*make=*/false);
  } catch (const std::runtime_error& problem) {
    spdlog::warn("forwarders are not looked for: {}", problem.what());
    return paths;
  }
  for (const std::filesystem::directory_entry& entry : entries) {
    const std::string name = entry.path().filename();
    if (name.starts_with("forwarder-") && name.ends_with(".sock")) paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

std::vector<std::string> ForwarderSockets(const std::string& directory) {
  try {
    return ControlSockets(directory);
  } catch (const std::system_error& problem) {
    spdlog::warn("forwarders are not looked for: {}", problem.what());
    return {};
  }
}

ForwarderStats ReadForwarders(const std::string& directory, const std::stop_token& stop) {
  ForwarderStats read;
  ForEachForwarder(directory, read.problems, stop,
                   [&](const std::string& path, ForwarderSession& session) {
                     read.counted.emplace(path, session.Statistics());
                   });
  return read;
}

std::map<uint32_t, forwarder::Slot> ReadForwarderSlots(const std::string& directory,
                                                       std::vector<std::string>& problems) {
  std::map<uint32_t, forwarder::Slot> slots;
  ForEachForwarder(directory, problems, {}, [&](const std::string&, ForwarderSession& session) {
    for (forwarder::Slot& slot : session.Dump())
      slots.try_emplace(slot.number, std::move(slot));
  });
  return slots;
}

}  // namespace pointsman::agent

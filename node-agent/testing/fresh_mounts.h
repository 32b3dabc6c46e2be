// For tests: directories of its own.
#pragma once

#include <cerrno>
#include <initializer_list>
#include <string>
#include <sys/mount.h>
#include <system_error>

#include <sched.h>

namespace pointsman::agent::testing {

// Moves the calling thread, and processes that it starts, into a new mount namespace with an empty
// tmpfs on each of `directories`. Throws std::system_error.
inline void EnterFreshMounts(std::initializer_list<const char*> directories) {
  const auto check = [](int result, const std::string& what) {
    if (result != 0) throw std::system_error(errno, std::generic_category(), what);
  };
  check(unshare(CLONE_NEWNS), "unshare(CLONE_NEWNS)");
  check(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), "make / private");
  for (const char* directory : directories)
    check(mount("tmpfs", directory, "tmpfs", 0, nullptr), std::string("mount ") + directory);
}

}  // namespace pointsman::agent::testing

// System calls that throw std::system_error.
#pragma once

#include <string>
#include <sys/types.h>
#include <utility>

#include "e2e/traffic/socket.h"

namespace pointsman::e2e {

// Of errno.
[[noreturn]] void ThrowErrno(const std::string& what);
// The ends to read from and to write to.
std::pair<UniqueFd, UniqueFd> Pipe();
UniqueFd Open(const std::string& path, int flags, mode_t mode = 0644);

}  // namespace pointsman::e2e

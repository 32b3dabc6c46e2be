// What a system call says went wrong, as an exception.
#pragma once

#include <cerrno>
#include <string>
#include <system_error>

namespace pointsman {

// Throws std::system_error: "open /dev/null: No such file or directory". `what` must not be made by
// something that sets errno.
[[noreturn]] inline void ThrowErrno(const std::string& what, int error = errno) {
  throw std::system_error(error, std::generic_category(), what);
}

}  // namespace pointsman

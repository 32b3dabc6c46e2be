// Starts a forwarder process: for the node agent, or for the launcher in another container.
#pragma once

#include <string>
#include <sys/types.h>
#include <vector>

namespace pointsman::forwarder {

// The file descriptor on which a started forwarder says "+" when it works, or what is wrong.
inline constexpr int kReadyFd = 3;

// `program` with `arguments`, and with `ready` as its kReadyFd: in a session of its own, so that
// what ends the caller's process group does not end it, with default signal dispositions and no
// other file open. The caller reaps it. Throws std::system_error.
pid_t Spawn(const std::string& program, std::vector<std::string> arguments, int ready);

}  // namespace pointsman::forwarder

// Control sockets: AF_UNIX at a path, for this user alone.
#pragma once

#include <optional>
#include <string>
#include <sys/socket.h>

#include "base/unique_fd.h"
#include "node-agent/userspace/forwarder/sockets.h"

namespace pointsman::forwarder {

// `type`: SOCK_STREAM, SOCK_SEQPACKET, with flags; closed on exec. Throws std::system_error.
UniqueFd UnixSocket(int type);

// False: errno. Throws std::system_error when the path is too long for any socket.
bool Connect(const UniqueFd& socket, const std::string& path);

// Makes `path`, to which only this user can connect. Throws std::system_error.
void Listen(const UniqueFd& socket, const std::string& path, int backlog);

// Who made the other end; nullopt: errno.
std::optional<ucred> Peer(const UniqueFd& socket);

bool IsThisUser(const std::optional<ucred>& peer);

}  // namespace pointsman::forwarder

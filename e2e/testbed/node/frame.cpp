#include "e2e/testbed/node/frame.h"

#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <sys/socket.h>
#include <system_error>

namespace pointsman::e2e {
namespace {

// False at the end of the stream before the first byte.
bool ReadAll(int fd, char* data, std::size_t size) {
  for (std::size_t done = 0; done < size;) {
    const ssize_t got = recv(fd, data + done, size - done, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw std::system_error(errno, std::generic_category(), "recv from node channel");
    if (got == 0) {
      if (done == 0) return false;
      throw std::system_error(ECONNRESET, std::generic_category(),
                              "node channel ended within a frame");
    }
    done += static_cast<std::size_t>(got);
  }
  return true;
}

}  // namespace

void WriteFrame(int fd, char type, std::string_view payload) {
  if (payload.size() > kMaxFrame) throw std::runtime_error("frame too long");
  std::string bytes(5 + payload.size(), type);
  const std::uint32_t length = htonl(static_cast<std::uint32_t>(payload.size()));
  std::memcpy(bytes.data() + 1, &length, sizeof length);
  std::memcpy(bytes.data() + 5, payload.data(), payload.size());
  for (std::size_t done = 0; done < bytes.size();) {
    const ssize_t sent = send(fd, bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) throw std::system_error(errno, std::generic_category(), "send on node channel");
    done += static_cast<std::size_t>(sent);
  }
}

std::optional<Frame> ReadFrame(int fd) {
  std::array<char, 5> header{};
  if (!ReadAll(fd, header.data(), header.size())) return std::nullopt;
  std::uint32_t length = 0;
  std::memcpy(&length, header.data() + 1, sizeof length);
  length = ntohl(length);
  if (length > kMaxFrame) throw std::runtime_error("frame of " + std::to_string(length) + " bytes");
  Frame frame{header[0], std::string(length, '\0')};
  if (length > 0 && !ReadAll(fd, frame.payload.data(), length))
    throw std::system_error(ECONNRESET, std::generic_category(),
                            "node channel ended within a frame");
  return frame;
}

}  // namespace pointsman::e2e

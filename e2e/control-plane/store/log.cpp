#include "e2e/control-plane/store/log.h"

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <unistd.h>
#include <zlib.h>

namespace pointsman::e2e {
namespace {

constexpr std::string_view kMagic = "PMCPLOG1";
constexpr std::size_t kHeader = 8;
constexpr std::uint32_t kMaxRecord = 64u << 20;

[[noreturn]] void fail(const char* call, const std::filesystem::path& file) {
  throw std::system_error(errno, std::generic_category(), std::string(call) + " " + file.string());
}

std::uint32_t checksum(std::string_view data) {
  return static_cast<std::uint32_t>(
      crc32(0, reinterpret_cast<const Bytef*>(data.data()), static_cast<uInt>(data.size())));
}

void writeAll(int fd, std::string_view data, const std::filesystem::path& file) {
  while (!data.empty()) {
    const ssize_t n = ::write(fd, data.data(), data.size());
    if (n < 0) {
      if (errno == EINTR) continue;
      fail("write", file);
    }
    data.remove_prefix(static_cast<std::size_t>(n));
  }
}

void syncDirectory(const std::filesystem::path& directory) {
  const int fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) fail("open", directory);
  const int result = ::fsync(fd);
  const int error = errno;
  ::close(fd);
  if (result != 0) {
    errno = error;
    fail("fsync", directory);
  }
}

/// The payload of the record at the front of `data`, or nothing when it is cut short or damaged.
std::optional<std::string_view> recordAt(std::string_view data) {
  if (data.size() < kHeader) return std::nullopt;
  std::uint32_t length = 0;
  std::uint32_t crc = 0;
  std::memcpy(&length, data.data(), 4);
  std::memcpy(&crc, data.data() + 4, 4);
  if (length > kMaxRecord || data.size() - kHeader < length) return std::nullopt;
  const std::string_view payload = data.substr(kHeader, length);
  if (checksum(payload) != crc) return std::nullopt;
  return payload;
}

}  // namespace

Log::Log(std::filesystem::path file, const std::function<void(std::string_view)>& replay)
    : file_(std::move(file)) {
  fd_ = ::open(file_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd_ < 0) fail("open", file_);
  if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) fail("flock (is another server running?)", file_);
  struct stat st {};
  if (::fstat(fd_, &st) != 0) fail("fstat", file_);
  const auto total = static_cast<std::size_t>(st.st_size);
  if (total < kMagic.size()) {
    if (::ftruncate(fd_, 0) != 0) fail("ftruncate", file_);
    writeAll(fd_, kMagic, file_);
    if (::fdatasync(fd_) != 0) fail("fdatasync", file_);
    syncDirectory(file_.parent_path());
    size_ = kMagic.size();
    return;
  }
  void* mapped = ::mmap(nullptr, total, PROT_READ, MAP_PRIVATE, fd_, 0);
  if (mapped == MAP_FAILED) fail("mmap", file_);
  const std::string_view data(static_cast<const char*>(mapped), total);
  std::size_t offset = kMagic.size();
  std::string error;
  if (!data.starts_with(kMagic)) {
    error = file_.string() + " is not a log of this control plane";
  } else {
    while (offset < total) {
      const auto payload = recordAt(data.substr(offset));
      if (payload) {
        replay(*payload);
        offset += kHeader + payload->size();
        continue;
      }
      // Torn by a crash, or damaged? A torn record has nothing intact behind it.
      std::uint32_t length = 0;
      if (total - offset >= kHeader) std::memcpy(&length, data.data() + offset, 4);
      const std::size_t next = offset + kHeader + length;
      if (next < total && recordAt(data.substr(next))) {
        error = file_.string() + ": the record at byte " + std::to_string(offset) +
                " is damaged, and intact ones follow it";
      }
      break;
    }
  }
  ::munmap(mapped, total);
  if (!error.empty()) {
    ::close(fd_);
    throw std::runtime_error(error);
  }
  if (offset < total) {
    spdlog::warn("{}: dropped {} bytes of a write that a crash cut short", file_.string(),
                 total - offset);
    if (::ftruncate(fd_, static_cast<off_t>(offset)) != 0) fail("ftruncate", file_);
  }
  if (::lseek(fd_, static_cast<off_t>(offset), SEEK_SET) < 0) fail("lseek", file_);
  size_ = offset;
}

Log::~Log() {
  if (fd_ >= 0) ::close(fd_);
}

void Log::frame(std::string_view payload, std::string& buffer) {
  const auto length = static_cast<std::uint32_t>(payload.size());
  const std::uint32_t crc = checksum(payload);
  char header[kHeader];
  std::memcpy(header, &length, 4);
  std::memcpy(header + 4, &crc, 4);
  buffer.append(header, kHeader);
  buffer.append(payload);
}

void Log::append(std::string_view framed) {
  writeAll(fd_, framed, file_);
  if (::fdatasync(fd_) != 0) fail("fdatasync", file_);
  size_ += framed.size();
}

void Log::rewrite(const std::function<void(const std::function<void(std::string_view)>&)>& write) {
  std::filesystem::path fresh = file_;
  fresh += ".new";
  const int fd = ::open(fresh.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) fail("open", fresh);
  std::uint64_t size = kMagic.size();
  writeAll(fd, kMagic, fresh);
  write([&](std::string_view framed) {
    writeAll(fd, framed, fresh);
    size += framed.size();
  });
  if (::fsync(fd) != 0) fail("fsync", fresh);
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) fail("flock", fresh);
  std::filesystem::rename(fresh, file_);
  syncDirectory(file_.parent_path());
  ::close(fd_);
  fd_ = fd;
  size_ = size;
}

}  // namespace pointsman::e2e

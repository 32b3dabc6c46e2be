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

[[noreturn]] void Fail(const char* call, const std::filesystem::path& file) {
  throw std::system_error(errno, std::generic_category(), std::string(call) + " " + file.string());
}

std::uint32_t Checksum(std::string_view data) {
  return static_cast<std::uint32_t>(
      crc32(0, reinterpret_cast<const Bytef*>(data.data()), static_cast<uInt>(data.size())));
}

void WriteAll(int fd, std::string_view data, const std::filesystem::path& file) {
  while (!data.empty()) {
    const ssize_t n = ::write(fd, data.data(), data.size());
    if (n < 0) {
      if (errno == EINTR) continue;
      Fail("write", file);
    }
    data.remove_prefix(static_cast<std::size_t>(n));
  }
}

void SyncDirectory(const std::filesystem::path& directory) {
  const UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) Fail("open", directory);
  if (::fsync(fd.get()) != 0) Fail("fsync", directory);
}

// The payload of the record at the front of `data`, or nothing when it is cut short or damaged.
std::optional<std::string_view> RecordAt(std::string_view data) {
  if (data.size() < kHeader) return std::nullopt;
  std::uint32_t length = 0;
  std::uint32_t crc = 0;
  std::memcpy(&length, data.data(), 4);
  std::memcpy(&crc, data.data() + 4, 4);
  if (length > kMaxRecord || data.size() - kHeader < length) return std::nullopt;
  const std::string_view payload = data.substr(kHeader, length);
  if (Checksum(payload) != crc) return std::nullopt;
  return payload;
}

}  // namespace

Log::Log(std::filesystem::path file, const std::function<void(std::string_view)>& replay)
    : file_(std::move(file)), fd_(::open(file_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) {
  if (!fd_) Fail("open", file_);
  if (::flock(fd_.get(), LOCK_EX | LOCK_NB) != 0) Fail("flock (is another server running?)", file_);
  struct stat st {};
  if (::fstat(fd_.get(), &st) != 0) Fail("fstat", file_);
  const auto total = static_cast<std::size_t>(st.st_size);
  if (total < kMagic.size()) {
    if (::ftruncate(fd_.get(), 0) != 0) Fail("ftruncate", file_);
    WriteAll(fd_.get(), kMagic, file_);
    if (::fdatasync(fd_.get()) != 0) Fail("fdatasync", file_);
    SyncDirectory(file_.parent_path());
    size_ = kMagic.size();
    return;
  }
  void* mapped = ::mmap(nullptr, total, PROT_READ, MAP_PRIVATE, fd_.get(), 0);
  if (mapped == MAP_FAILED) Fail("mmap", file_);
  const std::string_view data(static_cast<const char*>(mapped), total);
  std::size_t offset = kMagic.size();
  std::string error;
  if (!data.starts_with(kMagic)) {
    error = file_.string() + " is not a log of this control plane";
  } else {
    while (offset < total) {
      const auto payload = RecordAt(data.substr(offset));
      if (payload) {
        replay(*payload);
        offset += kHeader + payload->size();
        continue;
      }
      // Torn by a crash, or damaged? A torn record has nothing intact behind it.
      std::uint32_t length = 0;
      if (total - offset >= kHeader) std::memcpy(&length, data.data() + offset, 4);
      const std::size_t next = offset + kHeader + length;
      if (next < total && RecordAt(data.substr(next))) {
        error = file_.string() + ": the record at byte " + std::to_string(offset) +
                " is damaged, and intact ones follow it";
      }
      break;
    }
  }
  ::munmap(mapped, total);
  if (!error.empty()) throw std::runtime_error(error);
  if (offset < total) {
    spdlog::warn("{}: dropped {} bytes of a write that a crash cut short", file_.string(),
                 total - offset);
    if (::ftruncate(fd_.get(), static_cast<off_t>(offset)) != 0) Fail("ftruncate", file_);
  }
  if (::lseek(fd_.get(), static_cast<off_t>(offset), SEEK_SET) < 0) Fail("lseek", file_);
  size_ = offset;
}

void Log::Frame(std::string_view payload, std::string& buffer) {
  const auto length = static_cast<std::uint32_t>(payload.size());
  const std::uint32_t crc = Checksum(payload);
  char header[kHeader];
  std::memcpy(header, &length, 4);
  std::memcpy(header + 4, &crc, 4);
  buffer.append(header, kHeader);
  buffer.append(payload);
}

void Log::Append(std::string_view framed) {
  WriteAll(fd_.get(), framed, file_);
  if (::fdatasync(fd_.get()) != 0) Fail("fdatasync", file_);
  size_ += framed.size();
}

void Log::Rewrite(const std::function<void(const std::function<void(std::string_view)>&)>& write) {
  std::filesystem::path fresh = file_;
  fresh += ".new";
  UniqueFd fd(::open(fresh.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!fd) Fail("open", fresh);
  std::uint64_t size = kMagic.size();
  WriteAll(fd.get(), kMagic, fresh);
  write([&](std::string_view framed) {
    WriteAll(fd.get(), framed, fresh);
    size += framed.size();
  });
  if (::fsync(fd.get()) != 0) Fail("fsync", fresh);
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) Fail("flock", fresh);
  std::filesystem::rename(fresh, file_);
  SyncDirectory(file_.parent_path());
  fd_ = std::move(fd);
  size_ = size;
}

}  // namespace pointsman::e2e

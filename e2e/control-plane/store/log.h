#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

#include "base/unique_fd.h"

namespace pointsman::e2e {

// The append-only file under the store. A record is its length, its CRC-32 and its payload; a
// record that a crash cut short is recognised and dropped on opening. Not thread-safe.
class Log {
 public:
  // Opens or creates `file` and hands every intact record to `replay` in order. Throws
  // std::system_error, or std::runtime_error when a record before the last is damaged.
  Log(std::filesystem::path file, const std::function<void(std::string_view payload)>& replay);

  // Adds the framed record to `buffer`.
  static void Frame(std::string_view payload, std::string& buffer);

  // Appends framed records and waits until they are on disk. Throws std::system_error.
  void Append(std::string_view framed);

  // Replaces the whole file, atomically, by what `write` produces (framed records in pieces).
  void Rewrite(const std::function<void(const std::function<void(std::string_view)>&)>& write);

  std::uint64_t size() const { return size_; }

 private:
  std::filesystem::path file_;
  UniqueFd fd_;
  std::uint64_t size_ = 0;
};

}  // namespace pointsman::e2e

// The bearer token to send now. Bound service account tokens live about an hour and the kubelet
// replaces the file, so the file is read again: at most once a minute, and after a 401.
#pragma once

#include <chrono>
#include <filesystem>
#include <mutex>
#include <string>

namespace pointsman::kube {

// Thread-safe.
class TokenSource {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::seconds kRereadAfter{60};

  // `file` may be empty: then the token never changes.
  TokenSource(std::string token, std::filesystem::path file);

  // "" if there is none. A file that cannot be read or is empty is logged and the last token used.
  std::string Get(Clock::time_point now = Clock::now());

  // The server refused `token`. True when another one is there now and trying again makes sense.
  bool Refused(const std::string& token, Clock::time_point now = Clock::now());

 private:
  void ReadLocked(Clock::time_point now);

  const std::filesystem::path file_;
  std::mutex mutex_;
  std::string token_;
  Clock::time_point read_at_ = Clock::time_point::min();
};

}  // namespace pointsman::kube

#include "kube/http/token_source.h"

#include <fstream>
#include <iterator>
#include <utility>

#include <spdlog/spdlog.h>

namespace pointsman::kube {

TokenSource::TokenSource(std::string token, std::filesystem::path file)
    : file_(std::move(file)), token_(std::move(token)) {}

std::string TokenSource::Get(Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  const bool never_read = read_at_ == Clock::time_point::min();
  if (!file_.empty() && (never_read || now - read_at_ >= kRereadAfter)) ReadLocked(now);
  return token_;
}

bool TokenSource::Refused(const std::string& token, Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  if (file_.empty()) return false;
  if (token_ == token) ReadLocked(now);  // else another thread has read it already
  return token_ != token;
}

void TokenSource::ReadLocked(Clock::time_point now) {
  read_at_ = now;
  std::ifstream in(file_, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  const size_t end = text.find_last_not_of(" \t\r\n");
  if (!in.is_open() || end == std::string::npos) {
    spdlog::warn("token file {}: {}; going on with the token read before", file_.string(),
                 in.is_open() ? "is empty" : "cannot be read");
    return;
  }
  text.resize(end + 1);
  text.erase(0, text.find_first_not_of(" \t\r\n"));
  token_ = std::move(text);
}

}  // namespace pointsman::kube

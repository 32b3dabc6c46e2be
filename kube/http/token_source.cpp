#include "kube/http/token_source.h"

#include <exception>
#include <utility>

#include <spdlog/spdlog.h>

#include "kube/config/credential_file.h"

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
  std::string problem;
  try {
    std::string token = TrimToken(ReadCredentialFile(file_));
    if (IsSendableToken(token)) {
      token_ = std::move(token);
      return;
    }
    problem = file_.string() + (token.empty() ? " is empty" : " holds no token");
  } catch (const std::exception& error) {
    problem = error.what();
  }
  spdlog::warn("token file: {}; going on with the token read before", problem);
}

}  // namespace pointsman::kube

#include "kube/http/tls_source.h"

#include <stdexcept>
#include <utility>

#include <spdlog/spdlog.h>

#include "kube/config/credential_file.h"

namespace pointsman::kube {
namespace {

size_t Count(std::string_view text, std::string_view what) {
  size_t count = 0;
  for (size_t at = text.find(what); at != std::string_view::npos; at = text.find(what, at + 1))
    ++count;
  return count;
}

// Somebody is writing into it: a PEM block has begun and not ended.
bool IsCutOff(std::string_view pem) {
  return Count(pem, "-----BEGIN ") != Count(pem, "-----END ") ||
         (!pem.empty() && pem.find("-----") == std::string_view::npos);
}

void Read(const std::filesystem::path& file, std::string& pem) {
  if (file.empty()) return;
  std::string now = ReadCredentialFile(file);
  if (now == pem) return;
  if (now.empty()) throw std::invalid_argument(file.string() + " is empty");
  if (IsCutOff(now)) throw std::invalid_argument(file.string() + " is not whole");
  pem = std::move(now);
}

std::string FileNames(const Config& config) {
  std::string names;
  for (const auto* file :
       {&config.ca_file, &config.client_certificate_file, &config.client_key_file}) {
    if (!file->empty()) names += (names.empty() ? "" : ", ") + file->string();
  }
  return names;
}

}  // namespace

TlsSource::TlsSource(Config config, bool encrypted, std::chrono::milliseconds look_again_after)
    : has_files_(encrypted && !FileNames(config).empty()),
      look_again_after_(look_again_after),
      config_(std::move(config)),
      settings_(TlsSettings::Make(config_)),
      looked_at_(Clock::now()) {}

TlsSource::Settings TlsSource::Get(Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  if (has_files_ && now - looked_at_ >= look_again_after_) LookLocked(now);
  return settings_;
}

bool TlsSource::Failed(const Settings& used, Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  if (has_files_ && settings_ == used) LookLocked(now);
  return settings_ != used;
}

Config TlsSource::ReadLocked() const {
  Config now = config_;
  Read(now.ca_file, now.ca_pem);
  Read(now.client_certificate_file, now.client_certificate_pem);
  Read(now.client_key_file, now.client_key_pem);
  return now;
}

void TlsSource::LookLocked(Clock::time_point now) {
  looked_at_ = now;
  std::string problem;
  try {
    Config read = ReadLocked();
    if (read.ca_pem != config_.ca_pem ||
        read.client_certificate_pem != config_.client_certificate_pem ||
        read.client_key_pem != config_.client_key_pem) {
      settings_ = TlsSettings::Make(read);
      config_ = std::move(read);
      spdlog::info("certificates for {} were replaced: new connections use what is now in {}",
                   config_.server, FileNames(config_));
    }
  } catch (const std::exception& error) {
    problem = error.what();
  }
  if (!problem.empty() && problem != problem_) {
    spdlog::warn("certificates for {} in {}: {}; going on with what was there before",
                 config_.server, FileNames(config_), problem);
  }
  problem_ = std::move(problem);
}

}  // namespace pointsman::kube

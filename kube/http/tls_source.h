// The TLS settings of a Config as its files have them now. kubelet, cert-manager and whoever
// rotates a cluster's CA replace certificate files under a running process: by rename, by the
// symbolic link of a projected volume, or by writing into them.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <string>

#include "kube/config/config.h"
#include "kube/http/tls_settings.h"

namespace pointsman::kube {

// Thread-safe.
class TlsSource {
 public:
  using Clock = std::chrono::steady_clock;
  using Settings = std::shared_ptr<TlsSettings>;
  // The files are small and few: reading them is cheaper than one request.
  static constexpr std::chrono::milliseconds kLookAgainAfter{5000};

  // Throws ConfigError as TlsSettings::Make does. `encrypted` false: the files are of no use and
  // not looked at.
  TlsSource(Config config, bool encrypted,
            std::chrono::milliseconds look_again_after = kLookAgainAfter);

  // What to connect with now: another object each time that the content of a file has changed. What
  // cannot be read, is cut off, or does not fit together is logged with the file's name, once, and
  // what was there before goes on to be used: a certificate and its key are seldom replaced in one
  // step.
  Settings Get(Clock::time_point now = Clock::now());

  // A connection or request failed in a way that other certificates may mend: looks at the files at
  // once. True when there is something else to try than `used`.
  bool Failed(const Settings& used, Clock::time_point now = Clock::now());

 private:
  void LookLocked(Clock::time_point now);
  Config ReadLocked() const;

  const bool has_files_;
  const std::chrono::milliseconds look_again_after_;
  std::mutex mutex_;
  Config config_;
  Settings settings_;
  Clock::time_point looked_at_;
  std::string problem_;  // the last one that was logged
};

}  // namespace pointsman::kube

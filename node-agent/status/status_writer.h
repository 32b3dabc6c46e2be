// Writes the NodeProxy's status: soon when something of substance changed, seldom when only numbers
// did, never when nothing did, and again until it succeeds.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "kube/client/client.h"
#include "kube/pointsman/node_proxy.h"

namespace pointsman::agent {

// Thread-safe. Writes on a thread of its own: a slow or lost API server never holds up the kernel.
class StatusWriter {
 public:
  struct Options {
    // Between two writes of substance: what comes meanwhile goes into the next.
    std::chrono::milliseconds min_interval{500};
    // Between two writes when only numbers changed (Services, endpoints, draining connections).
    std::chrono::milliseconds numbers_interval{60'000};
    // While connections drain, their number is what people watch.
    std::chrono::milliseconds draining_interval{2'000};
  };

  // `client` outlives this.
  StatusWriter(kube::Client& client, std::string node_name, Options options);
  ~StatusWriter();  // stops; what was not written yet is written by the next agent

  // What the server has, as the watch tells: the base of comparison.
  void Observed(const kube::NodeProxyStatus& status);
  // What it should have.
  void Want(kube::NodeProxyStatus status);
  // The NodeProxy is gone: nothing is to be written until the next Want.
  void Forget();

  uint64_t Writes() const;
  uint64_t Failures() const;

 private:
  using Clock = std::chrono::steady_clock;

  void Run(std::stop_token stop);
  // When the wanted status is due; max: nothing to write. With mutex_ held.
  Clock::time_point Due() const;

  kube::Client& client_;
  const std::string node_name_;
  const Options options_;
  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  std::optional<kube::NodeProxyStatus> wanted_;
  std::optional<kube::NodeProxyStatus> written_;
  Clock::time_point last_write_{};
  Clock::time_point not_before_{};  // after a failure
  int failures_in_a_row_ = 0;
  uint64_t writes_ = 0;
  uint64_t failures_ = 0;
  std::jthread thread_;  // last: it uses all of the above
};

}  // namespace pointsman::agent

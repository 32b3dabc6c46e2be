// Writes the NodeProxy's status: soon when something of substance changed, seldom when only numbers
// did, never when nothing did, and again until it succeeds. No failure, of whatever kind, ends it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>

#include "kube/client/client.h"
#include "kube/pointsman/node_proxy.h"
#include "kube/time/time_source.h"

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
    // How long a status that the server refused as invalid (422) is written without its messages,
    // before the whole of it is tried again: at least modes and conditions are to arrive.
    std::chrono::milliseconds terse_interval{600'000};
  };

  // `client` and `time` outlive this.
  StatusWriter(kube::Client& client, std::string node_name, Options options,
               kube::TimeSource& time = kube::TimeSource::Real());
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
  using TimePoint = kube::TimeSource::time_point;

  struct Outcome {
    std::string failure;   // "": written
    bool gone = false;     // there is no such NodeProxy
    bool refused = false;  // 422: the server will not take it as it is
  };

  void Run(const std::stop_token& stop);
  Outcome Write(kube::Client& client, const kube::NodeProxyStatus& status) const;
  // What has become of writing `status`. With mutex_ held.
  void Take(const Outcome& outcome, kube::NodeProxyStatus status);
  // The wanted status in the form in which it is written now. With mutex_ held.
  std::optional<kube::NodeProxyStatus> ToWrite() const;
  // When the wanted status is due; max: nothing to write. With mutex_ held.
  TimePoint Due() const;

  kube::Client& client_;
  const std::string node_name_;
  const Options options_;
  kube::TimeSource& time_;
  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  std::optional<kube::NodeProxyStatus> wanted_;
  std::optional<kube::NodeProxyStatus> written_;
  TimePoint last_write_{};
  TimePoint not_before_{};                // after a failure
  std::optional<TimePoint> terse_until_;  // set: messages are left out
  int failures_in_a_row_ = 0;
  uint64_t writes_ = 0;
  uint64_t failures_ = 0;
  std::jthread thread_;  // last: it uses all of the above
};

}  // namespace pointsman::agent

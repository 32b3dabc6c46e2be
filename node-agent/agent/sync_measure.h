// What the sync thread did in one pass, for the metrics.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <vector>

#include "kube/objects/endpoint_slice.h"
#include "kube/time/rfc3339.h"
#include "node-agent/agent/kernel_environment.h"
#include "node-agent/agent/metrics.h"
#include "node-agent/handover/mode_state.h"

namespace pointsman::agent {

// Not thread-safe: the sync thread owns it.
class SyncMeasure {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  // All outlive this.
  SyncMeasure(Metrics& metrics, const KernelEnvironment& environment, const ModeState& state)
      : metrics_(metrics), environment_(environment), state_(state) {}

  // Remembers when what changed the endpoints happened, until that is in the kernel. Changes from
  // before this agent's time say nothing of it, as in kube-proxy.
  void SawTrigger(const kube::EndpointSlice& slice);
  // Before anything is written.
  void Begin();
  // After the last write.
  void End();
  bool full() const { return full_; }    // a full sync was among what was written
  bool wrote() const { return wrote_; }  // any sync was
  // `started`: of the pass. `oldest`: when the oldest change in it came; nullopt: there was none.
  void Report(TimePoint started, std::optional<TimePoint> oldest);

 private:
  void ReportTriggers();

  Metrics& metrics_;
  const KernelEnvironment& environment_;
  const ModeState& state_;
  uint64_t full_syncs_ = 0;
  uint64_t syncs_ = 0;
  uint64_t failed_tool_calls_ = 0;
  bool full_ = false;
  bool wrote_ = false;
  const std::chrono::system_clock::time_point began_ = std::chrono::system_clock::now();
  std::vector<kube::TimePoint> triggers_;  // of changes that are not in the kernel yet
};

}  // namespace pointsman::agent

#include "node-agent/status/status_writer.h"

#include <spdlog/spdlog.h>

#include "kube/pointsman/status_bounds.h"
#include "node-agent/status/status_builder.h"

namespace pointsman::agent {

StatusWriter::StatusWriter(kube::Client& client, std::string node_name, Options options,
                           kube::TimeSource& time)
    : client_(client),
      node_name_(std::move(node_name)),
      options_(options),
      time_(time),
      thread_([this](const std::stop_token& stop) { Run(stop); }) {}

StatusWriter::~StatusWriter() = default;

void StatusWriter::Observed(const kube::NodeProxyStatus& status) {
  const std::lock_guard lock(mutex_);
  written_ = status;
  changed_.notify_all();
}

void StatusWriter::Want(kube::NodeProxyStatus status) {
  const std::lock_guard lock(mutex_);
  wanted_ = std::move(status);
  changed_.notify_all();
}

void StatusWriter::Forget() {
  const std::lock_guard lock(mutex_);
  wanted_.reset();
  written_.reset();
}

uint64_t StatusWriter::Writes() const {
  const std::lock_guard lock(mutex_);
  return writes_;
}

uint64_t StatusWriter::Failures() const {
  const std::lock_guard lock(mutex_);
  return failures_;
}

std::optional<kube::NodeProxyStatus> StatusWriter::ToWrite() const {
  if (!wanted_) return std::nullopt;
  if (!terse_until_) return *wanted_;
  return kube::WithoutMessages(
      *wanted_,
      "not written: the API server refused the status with its messages, see the log of "
      "this node's agent");
}

StatusWriter::TimePoint StatusWriter::Due() const {
  const std::optional<kube::NodeProxyStatus> next = ToWrite();
  if (!next || (written_ && *next == *written_)) return TimePoint::max();
  std::chrono::milliseconds interval = options_.numbers_interval;
  if (!written_ || DiffersInSubstance(*next, *written_)) {
    interval = options_.min_interval;
  } else if (!next->draining_mode.empty() &&
             next->draining_connections != written_->draining_connections) {
    interval = options_.draining_interval;
  }
  return std::max(last_write_ + interval, not_before_);
}

StatusWriter::Outcome StatusWriter::Write(kube::Client& client,
                                          const kube::NodeProxyStatus& status) const {
  // Nothing that a text from outside can do may end this thread, and with it the agent.
  try {
    kube::Json body = kube::ToJson(status);
    // A merge patch keeps what it does not name.
    for (const char* name : {"candidate", "impact", "kubeProxy", "lastSync"}) {
      if (!body.contains(name)) body[name] = nullptr;
    }
    if (kube::Json& impact = body["impact"]; !impact.is_null()) {
      for (const auto& [name, member] : kube::kImpactFigures) {
        if (!impact.contains(name)) impact[name] = nullptr;
      }
    }
    client.Patch(kube::resources::kNodeProxies, "", node_name_, kube::PatchType::kMerge,
                 {{"status", std::move(body)}}, "status");
    return {};
  } catch (const kube::ApiError& error) {
    return {.failure = error.what(), .gone = error.IsNotFound(), .refused = error.IsInvalid()};
  } catch (const std::exception& error) {
    return {.failure = error.what()};
  }
}

void StatusWriter::Take(const Outcome& outcome, kube::NodeProxyStatus status) {
  last_write_ = time_.Now();
  if (outcome.failure.empty()) {
    ++writes_;
    failures_in_a_row_ = 0;
    written_ = std::move(status);
    return;
  }
  if (outcome.gone) {
    wanted_.reset();  // deleted meanwhile: the watch will tell what comes next
    return;
  }
  ++failures_;
  if (outcome.refused && !terse_until_) {
    terse_until_ = last_write_ + options_.terse_interval;
    spdlog::error("NodeProxy {} status was refused and is written without its messages for now: {}",
                  node_name_, outcome.failure);
    return;
  }
  // 1 s, 2 s, … 64 s: the kernel goes on meanwhile, only the report is late.
  not_before_ = last_write_ + std::chrono::seconds(1 << std::min(failures_in_a_row_++, 6));
  spdlog::warn("NodeProxy {} status could not be written, will try again: {}", node_name_,
               outcome.failure);
}

void StatusWriter::Run(const std::stop_token& stop) {
  kube::Client client = client_.WithStop(stop);  // so that the end waits for no server
  std::unique_lock lock(mutex_);
  while (!stop.stop_requested()) {
    if (terse_until_ && time_.Now() >= *terse_until_) terse_until_.reset();
    const TimePoint due = Due();
    const TimePoint wake = std::min(due, terse_until_.value_or(due));
    const auto sooner = [this, due] { return Due() < due; };
    if (wake == TimePoint::max()) {
      changed_.wait(lock, stop, sooner);
      continue;
    }
    if (time_.Now() < wake) {
      time_.WaitUntil(changed_, lock, stop, wake, sooner);
      continue;
    }
    if (due > wake) continue;  // terse no more
    kube::NodeProxyStatus status = *ToWrite();
    lock.unlock();
    const Outcome outcome = Write(client, status);
    lock.lock();
    if (stop.stop_requested()) return;  // broken off: that is no failure
    Take(outcome, std::move(status));
  }
}

}  // namespace pointsman::agent

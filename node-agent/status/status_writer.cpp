#include "node-agent/status/status_writer.h"

#include "node-agent/status/status_builder.h"

namespace pointsman::agent {

StatusWriter::StatusWriter(kube::Client& client, std::string node_name, Options options)
    : client_(client),
      node_name_(std::move(node_name)),
      options_(options),
      thread_([this](std::stop_token stop) { Run(stop); }) {}

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

StatusWriter::Clock::time_point StatusWriter::Due() const {
  if (!wanted_ || (written_ && *wanted_ == *written_)) return Clock::time_point::max();
  std::chrono::milliseconds interval = options_.numbers_interval;
  if (!written_ || DiffersInSubstance(*wanted_, *written_)) {
    interval = options_.min_interval;
  } else if (!wanted_->draining_mode.empty() &&
             wanted_->draining_connections != written_->draining_connections) {
    interval = options_.draining_interval;
  }
  return std::max(last_write_ + interval, not_before_);
}

void StatusWriter::Run(std::stop_token stop) {
  std::unique_lock lock(mutex_);
  while (!stop.stop_requested()) {
    const Clock::time_point due = Due();
    if (due == Clock::time_point::max()) {
      changed_.wait(lock, stop, [this] { return Due() != Clock::time_point::max(); });
      continue;
    }
    if (Clock::now() < due) {
      changed_.wait_until(lock, stop, due, [this, due] { return Due() < due; });
      continue;
    }
    const kube::NodeProxyStatus status = *wanted_;
    lock.unlock();
    kube::Json body = kube::ToJson(status);
    // A merge patch keeps what it does not name.
    if (!body.contains("candidate")) body["candidate"] = nullptr;
    std::string failure;
    bool gone = false;
    try {
      client_.Patch(kube::resources::kNodeProxies, "", node_name_, kube::PatchType::kMerge,
                    {{"status", std::move(body)}}, "status");
    } catch (const kube::ApiError& error) {
      gone = error.IsNotFound();
      failure = error.what();
    } catch (const kube::TransportError& error) {
      failure = error.what();
    }
    lock.lock();
    last_write_ = Clock::now();
    if (failure.empty()) {
      ++writes_;
      failures_in_a_row_ = 0;
      written_ = status;
    } else if (gone) {
      wanted_.reset();  // deleted meanwhile: the watch will tell what comes next
    } else {
      ++failures_;
      // 1 s, 2 s, … 64 s: the kernel goes on meanwhile, only the report is late.
      not_before_ = last_write_ + std::chrono::seconds(1 << std::min(failures_in_a_row_++, 6));
      spdlog::warn("NodeProxy {} status could not be written, will try again: {}", node_name_,
                   failure);
    }
  }
}

}  // namespace pointsman::agent

#include "kube/lease/leader_election.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <random>
#include <stdexcept>
#include <thread>
#include <utility>

#include <spdlog/spdlog.h>

#include "kube/time/rfc3339.h"

namespace pointsman::kube {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr milliseconds kReleaseTimeout{2'000};

void CheckOptions(const LeaderElectionOptions& options) {
  if (options.ns.empty() || options.name.empty() || options.identity.empty()) {
    throw std::invalid_argument("leader election: ns, name and identity must be given");
  }
  if (options.lease_duration <= options.renew_deadline ||
      options.renew_deadline <= options.retry_period || options.retry_period.count() <= 0) {
    throw std::invalid_argument(
        "leader election: lease_duration > renew_deadline > retry_period > 0 does not hold");
  }
}

// The Lease as seen and written by one candidate. One thread at a time.
class LeaseLock {
 public:
  LeaseLock(Client client, const LeaderElectionOptions& options, const TimeSource& time)
      : client_(std::move(client)), options_(options), time_(time) {}

  void SetClient(Client client) { client_ = std::move(client); }

  // True when we hold the lease now. Throws as Client does, but conflicts are just lost races.
  bool TryAcquireOrRenew() try {
    if (IsHeldByUs()) {
      // As a rule nobody but the holder writes: one request instead of two.
      try {
        return Write();
      } catch (const ApiError& e) {
        if (!e.IsConflict() && !e.IsNotFound()) throw;
      }
    }
    if (!Read()) return Create();
    const std::string holder = Holder();
    if (!holder.empty() && holder != options_.identity && time_.Now() < observed_at_ + Duration()) {
      return false;
    }
    return Write();
  } catch (const ApiError& e) {
    if (!e.IsConflict() && !e.IsAlreadyExists()) throw;
    return false;
  }

  bool IsHeldByUs() const { return Holder() == options_.identity; }
  std::string Holder() const {
    return lease_.is_object() ? lease_["spec"].value("holderIdentity", "") : "";
  }

  void Release() {
    if (!IsHeldByUs()) return;
    // What we remember may be a renewal behind: one that was cut off by the stop can have reached
    // the server all the same, and an update on the old version would be a conflict.
    if (!Read() || !IsHeldByUs()) return;
    Json& spec = lease_["spec"];
    const std::string now = FormatMicroTime(std::chrono::system_clock::now());
    spec["holderIdentity"] = "";
    spec["leaseDurationSeconds"] = 1;  // as client-go: 0 is not valid
    spec["renewTime"] = now;
    spec["acquireTime"] = now;
    lease_ = client_.Update(resources::kLeases, lease_);
  }

 private:
  // How long the holder may be silent, by what it said itself.
  milliseconds Duration() const {
    const int64_t said = lease_["spec"].value("leaseDurationSeconds", int64_t{0});
    return said > 0 ? seconds(std::min<int64_t>(said, 86'400)) : options_.lease_duration;
  }

  // False when there is no Lease.
  bool Read() {
    Json lease;
    try {
      lease = client_.Get(resources::kLeases, options_.ns, options_.name);
    } catch (const ApiError& e) {
      if (!e.IsNotFound()) throw;
      return false;
    }
    // Null fields as missing ones, so that value() may be used.
    Json spec = Json::object();
    if (const auto it = lease.find("spec"); it != lease.end() && it->is_object()) {
      for (const auto& [key, value] : it->items()) {
        if (!value.is_null()) spec[key] = value;
      }
    }
    lease["spec"] = std::move(spec);
    Observe(std::move(lease));
    return true;
  }

  // The clock starts anew with each change seen: the holder's own time stamps are never compared
  // with our clock.
  void Observe(Json lease) {
    if (!lease_.is_object() || lease_["spec"] != lease["spec"]) observed_at_ = time_.Now();
    lease_ = std::move(lease);
  }

  bool Create() {
    Json lease{{"metadata", {{"name", options_.name}, {"namespace", options_.ns}}}};
    FillSpec(lease, /*transitions=*/0);
    Observe(client_.Create(resources::kLeases, options_.ns, lease));
    return true;
  }

  bool Write() {
    Json lease = lease_;  // with its resourceVersion: who writes in between makes this a conflict
    if (IsHeldByUs()) {
      lease["spec"]["renewTime"] = FormatMicroTime(std::chrono::system_clock::now());
    } else {
      FillSpec(lease, lease["spec"].value("leaseTransitions", 0) + 1);
    }
    Observe(client_.Update(resources::kLeases, lease));
    return true;
  }

  void FillSpec(Json& lease, int transitions) const {
    const std::string now = FormatMicroTime(std::chrono::system_clock::now());
    lease["spec"]["holderIdentity"] = options_.identity;
    lease["spec"]["leaseDurationSeconds"] =
        std::chrono::ceil<seconds>(options_.lease_duration).count();
    lease["spec"]["acquireTime"] = now;
    lease["spec"]["renewTime"] = now;
    lease["spec"]["leaseTransitions"] = transitions;
  }

  Client client_;
  const LeaderElectionOptions& options_;
  const TimeSource& time_;
  Json lease_;
  TimeSource::time_point observed_at_{};
};

class Election final : public Leadership {
 public:
  Election(Client& client, const LeaderElectionOptions& options, TimeSource& time)
      : client_(client.WithTimeout(
            std::max(seconds(1), std::chrono::ceil<seconds>(options.renew_deadline / 2)))),
        options_(options),
        time_(time),
        lock_(client_, options_, time_) {}

  std::stop_token stop() const override { return lead_stop_.get_token(); }
  bool Held() const override {
    const std::lock_guard lock(mutex_);
    return !taken_ && time_.Now() < renewed_ + options_.renew_deadline;
  }

  bool Run(const std::function<void(const Leadership&)>& lead, const std::stop_token& stop) {
    if (!Acquire(stop)) return true;
    spdlog::info("leader election {}/{}: {} leads", options_.ns, options_.name, options_.identity);

    std::exception_ptr error;
    std::jthread leader([&] {
      try {
        lead(*this);
      } catch (...) {  // rethrown by Run
        error = std::current_exception();
      }
      const std::lock_guard lock(mutex_);
      returned_ = true;
      changed_.notify_all();
    });
    std::jthread renewer([this](const std::stop_token& end) { Renew(end); });
    const bool lost = Guard(stop);
    leader.join();
    renewer.request_stop();
    renewer.join();
    if (lost) {
      spdlog::error("leader election {}/{}: {} has lost the lease", options_.ns, options_.name,
                    options_.identity);
    } else {
      TryRelease();
    }
    if (error != nullptr) std::rethrow_exception(error);
    return stop.stop_requested();
  }

 private:
  // False when stopped first.
  bool Acquire(const std::stop_token& stop) {
    lock_.SetClient(client_.WithStop(stop));
    std::minstd_rand random{std::random_device{}()};
    std::string last_holder;
    while (!stop.stop_requested()) {
      const TimeSource::time_point sent = time_.Now();
      try {
        if (lock_.TryAcquireOrRenew()) {
          const std::lock_guard lock(mutex_);
          renewed_ = sent;
          return true;
        }
        if (lock_.Holder() != last_holder) {
          last_holder = lock_.Holder();
          spdlog::info("leader election {}/{}: {} leads; waiting", options_.ns, options_.name,
                       last_holder);
        }
      } catch (const std::exception& e) {
        if (!stop.stop_requested()) {
          spdlog::warn("leader election {}/{}: {}", options_.ns, options_.name, e.what());
        }
      }
      // client-go's jitter factor of 1.2: candidates do not write at the same moment.
      const double factor = std::uniform_real_distribution<>(1.0, 2.2)(random);
      time_.Sleep(std::chrono::duration_cast<milliseconds>(options_.retry_period * factor), stop);
    }
    return false;
  }

  void Renew(const std::stop_token& end) {
    lock_.SetClient(client_.WithStop(end));
    for (;;) {
      time_.Sleep(options_.retry_period, end);
      if (end.stop_requested()) return;
      const TimeSource::time_point sent = time_.Now();
      try {
        const bool held = lock_.TryAcquireOrRenew();
        const std::lock_guard lock(mutex_);
        if (held) {
          renewed_ = sent;
        } else if (!lock_.IsHeldByUs()) {
          taken_ = true;
        }
        changed_.notify_all();
      } catch (const std::exception& e) {
        if (!end.stop_requested()) {
          spdlog::warn("leader election {}/{}: cannot renew: {}", options_.ns, options_.name,
                       e.what());
        }
      }
    }
  }

  // Waits until `lead` has returned, and asks it to when leadership is lost or stop requested. Runs
  // beside the renewal, whose requests may hang. Returns whether leadership was lost.
  bool Guard(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    bool lost = false;
    while (!returned_) {
      const TimeSource::time_point deadline = renewed_ + options_.renew_deadline;
      if (!lost && (taken_ || time_.Now() >= deadline)) lost = true;
      // Looked at once: a stop between two looks would be passed on to nobody, and end no wait
      // either.
      const bool stopping = stop.stop_requested();
      if (lost || stopping) {
        lock.unlock();
        lead_stop_.request_stop();  // may run callbacks of `lead`
        lock.lock();
      }
      const auto news = [&] {
        return returned_ || (!lost && (taken_ || renewed_ + options_.renew_deadline != deadline));
      };
      if (lost) {
        changed_.wait(lock, news);
      } else {
        // Once requested it ends no wait any more.
        time_.WaitUntil(changed_, lock, stopping ? std::stop_token() : stop, deadline, news);
      }
    }
    return lost;
  }

  void TryRelease() {
    // A server that does not answer must not hold up the end of the program.
    std::stop_source give_up;
    lock_.SetClient(client_.WithStop(give_up.get_token()));
    const std::jthread limit([this, &give_up](const std::stop_token& end) {
      time_.Sleep(kReleaseTimeout, end);
      give_up.request_stop();
    });
    try {
      lock_.Release();
    } catch (const std::exception& e) {
      // The successor waits for lease_duration, no more.
      spdlog::warn("leader election {}/{}: cannot release: {}", options_.ns, options_.name,
                   e.what());
    }
  }

  const Client client_;
  const LeaderElectionOptions& options_;
  TimeSource& time_;
  LeaseLock lock_;  // the candidate's thread, then the renewer's, then the candidate's again
  std::stop_source lead_stop_;
  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  TimeSource::time_point renewed_{};  // when the last renewal that succeeded was sent
  bool taken_ = false;
  bool returned_ = false;
};

}  // namespace

bool RunWithLeaderElection(Client& client, const LeaderElectionOptions& options,
                           const std::function<void(const Leadership&)>& lead, std::stop_token stop,
                           TimeSource& time) {
  CheckOptions(options);
  return Election(client, options, time).Run(lead, stop);
}

}  // namespace pointsman::kube

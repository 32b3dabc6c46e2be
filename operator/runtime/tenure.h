// The time in which this process leads the cluster's operators, and what it may do when.
#pragma once

#include <functional>
#include <mutex>
#include <stop_token>

namespace pointsman::op {

// Thread-safe.
class Tenure {
 public:
  // One time of leading, for as long as it exists. `held` says whether this process still leads,
  // and is asked right before each write.
  class Period {
   public:
    Period(Tenure& tenure, std::stop_token stop, std::function<bool()> held);
    ~Period();
    Period(const Period&) = delete;
    Period& operator=(const Period&) = delete;

   private:
    Tenure& tenure_;
  };

  bool MayWrite() const;
  // Events: also after the period, of what was done in it, unless leadership was lost. Then another
  // process leads, and nothing at all is written any more.
  bool MayEmitEvents() const;

 private:
  mutable std::mutex mutex_;
  std::stop_token stop_;
  std::function<bool()> held_;  // empty: there is no period
  bool lost_ = false;           // the period before ended so
};

}  // namespace pointsman::op

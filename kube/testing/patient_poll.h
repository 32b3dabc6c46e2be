// For tests: waiting for a peer with a patience that counts only the time in which this process,
// and the kernel that it runs in, got to run. On a busy machine a kernel in a process (User-Mode
// Linux) can stand still for seconds: a deadline of real time is over before it has sent a lost
// packet again, and says of the peer what is true of the machine.
#pragma once

#include <algorithm>
#include <cerrno>
#include <chrono>

#include <poll.h>

namespace pointsman {

class Patience {
 public:
  using Clock = std::chrono::steady_clock;
  explicit Patience(std::chrono::nanoseconds left) : left_(left) {}

  // poll(2) of `entry` as long as there is some left: its result, 0 when there is none any more.
  int Poll(pollfd& entry) {
    // What a wait takes beyond that is the machine's.
    constexpr std::chrono::milliseconds kSlice{50};
    while (true) {
      const auto slice = std::min(std::chrono::ceil<std::chrono::milliseconds>(left_), kSlice);
      const Clock::time_point before = Clock::now();
      const int result = poll(&entry, 1, std::max(0, static_cast<int>(slice.count())));
      left_ -= std::min<std::chrono::nanoseconds>(Clock::now() - before, slice);
      if (result > 0 || (result < 0 && errno != EINTR)) return result;
      if (left_ <= std::chrono::nanoseconds(0)) return 0;
    }
  }
  void Refill(std::chrono::nanoseconds left) { left_ = left; }

 private:
  std::chrono::nanoseconds left_;
};

}  // namespace pointsman

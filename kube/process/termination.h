// SIGTERM and SIGINT as a stop_token, for programs with threads.
#pragma once

#include <stop_token>
#include <thread>

#include "base/unique_fd.h"

namespace pointsman::kube {

// Make one in main before any other thread is started: threads inherit the blocked signals. A
// second SIGINT or SIGTERM while the program is ending kills it, as people expect of Ctrl-C.
class Termination {
 public:
  // Throws std::system_error.
  Termination();
  ~Termination();
  Termination(const Termination&) = delete;
  Termination& operator=(const Termination&) = delete;

  std::stop_token token() const { return stop_.get_token(); }

 private:
  void Wait();

  UniqueFd signals_;
  UniqueFd wake_;
  std::stop_source stop_;
  std::thread thread_;
};

}  // namespace pointsman::kube

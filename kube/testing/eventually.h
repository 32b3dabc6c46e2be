// For tests: waiting for a condition instead of for a time.
#pragma once

#include <chrono>
#include <functional>
#include <thread>

namespace pointsman {

// Waits until `holds` does; false when it still does not after `patience`. That is for what never
// comes: below the time limit of most tests (cmake/Pointsman.cmake), and long, since a busy machine
// makes everything many times slower.
inline bool Eventually(const std::function<bool()>& holds,
                       std::chrono::seconds patience = std::chrono::seconds(45)) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (!holds()) {
    if (std::chrono::steady_clock::now() > deadline) return holds();
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

// What does not wait for something else is over within this, also on a machine whose cores are
// shared. The something else has to take far longer than that in the test, or has no end at all.
constexpr std::chrono::seconds kAtOnce{20};

// Is `work` over at once?
inline bool AtOnce(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::steady_clock::now() - begin < kAtOnce;
}

}  // namespace pointsman

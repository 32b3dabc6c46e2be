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

}  // namespace pointsman

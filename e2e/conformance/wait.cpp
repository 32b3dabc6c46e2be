#include "e2e/conformance/wait.h"

#include <thread>

namespace pointsman::e2e {

std::string Eventually(milliseconds eventually, const std::function<std::string()>& look) {
  constexpr milliseconds kPoll{50};
  const auto deadline = std::chrono::steady_clock::now() + eventually;
  for (;;) {
    std::string wrong = look();
    if (wrong.empty() || std::chrono::steady_clock::now() >= deadline) return wrong;
    std::this_thread::sleep_for(kPoll);
  }
}

}  // namespace pointsman::e2e

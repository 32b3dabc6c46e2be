// For tests: what the person or the script that runs them has set.
#pragma once

#include <cstdlib>
#include <string>

namespace pointsman::e2e {

// "" when it is not set.
inline std::string EnvironmentVariable(const char* name) {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): no test that asks sets one.
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

}  // namespace pointsman::e2e

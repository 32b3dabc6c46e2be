// For tests: waiting for a condition instead of for a time.
#pragma once

#include <functional>

namespace pointsman::agent::testing {

// Waits until `condition` holds; false after 20 s.
bool Eventually(const std::function<bool()>& condition);

}  // namespace pointsman::agent::testing

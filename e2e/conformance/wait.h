// Waiting for what nothing announces.
#pragma once

#include <functional>
#include <string>

#include "e2e/conformance/case.h"

namespace pointsman::e2e {

// Calls `look` once and then again and again until it returns "" or `eventually` has passed;
// returns what it returned last.
std::string Eventually(milliseconds eventually, const std::function<std::string()>& look);

}  // namespace pointsman::e2e

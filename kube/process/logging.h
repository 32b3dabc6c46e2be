// The log of a program, on standard error.
#pragma once

#include <string>

namespace pointsman::kube {

// `format`: "text", or "json" (one object a line: time, level, message). `level`: "debug", "info",
// "warn", "error". Throws std::invalid_argument for anything else. Call before threads are started.
void SetUpLogging(const std::string& format, const std::string& level);

}  // namespace pointsman::kube

// The log of a program, on standard error.
#pragma once

#include <memory>
#include <string>

#include <spdlog/formatter.h>
#include <spdlog/spdlog.h>

namespace pointsman::kube {

// `format`: "text", or "json" (one object a line: time, level, message). `level`: "debug", "info",
// "warn", "error". Throws std::invalid_argument for anything else. Call before threads are started.
// A message is one line in both formats and valid UTF-8, whatever it quotes.
void SetUpLogging(const std::string& format, const std::string& level);

// What turns a message into a line. Throws as above.
std::unique_ptr<spdlog::formatter> MakeLogFormatter(const std::string& format);

}  // namespace pointsman::kube

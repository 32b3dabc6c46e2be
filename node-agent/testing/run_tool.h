// For tests: people's own tools (ip, ipvsadm, conntrack, modprobe …), run from the usual folders.
#pragma once

#include <string>
#include <vector>

namespace pointsman::agent::testing {

// Throws std::runtime_error with the program's output when it fails.
std::string RunTool(const std::vector<std::string>& argv);
// Its exit status instead.
int TryTool(const std::vector<std::string>& argv, std::string* output = nullptr);

}  // namespace pointsman::agent::testing
